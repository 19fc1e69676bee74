//! Whose turn it is: writers of one object within this process wait for each other, and for nobody else.

use std::collections::HashSet;

use parking_lot::{Condvar, Mutex};

use crate::rev::ObjectId;

/// The objects that somebody writes to.
#[derive(Default)]
pub(super) struct ObjectLocks {
    taken: Mutex<HashSet<ObjectId>>,
    ended: Condvar,
}

/// A writer's turn, until it is dropped.
pub(super) struct ObjectLock<'a>(&'a ObjectLocks, ObjectId);

impl ObjectLocks {
    pub fn lock(&self, id: &ObjectId) -> ObjectLock<'_> {
        let mut taken = self.taken.lock();
        while !taken.insert(id.clone()) {
            self.ended.wait(&mut taken);
        }
        ObjectLock(self, id.clone())
    }

    /// For two objects, without deadlock.
    pub fn lock_both(&self, a: &ObjectId, b: &ObjectId) -> (ObjectLock<'_>, Option<ObjectLock<'_>>) {
        (self.lock(a.min(b)), (a != b).then(|| self.lock(a.max(b))))
    }
}

impl Drop for ObjectLock<'_> {
    fn drop(&mut self) {
        self.0.taken.lock().remove(&self.1);
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_wait_for_those_of_the_same_object_alone() {
        let turns = ObjectLocks::default();
        let id = |n: usize| ObjectId::new(format!("o{n}")).unwrap();
        let held = turns.lock(&id(0));
        let others: Vec<_> = (1..1000).map(|n| turns.lock(&id(n))).collect();
        drop(others);
        drop(turns.lock_both(&id(2), &id(1)));
        drop(turns.lock_both(&id(1), &id(1)));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| drop(turns.lock_both(&id(1), &id(0))));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waits.is_finished());
            drop(held);
            waits.join().unwrap();
        });
        assert!(turns.taken.lock().is_empty());
    }
}
