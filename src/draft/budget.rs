//! What the users of a mount have the daemon hold for them: texts in its memory, descriptors.
//!
//! A user gets three times as much as he leaves: one alone three quarters, and there is always something left for the next
//! (dynamic thresholds, as switches share their buffers). Root and who runs the daemon may use all of it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// A limit, and who uses how much of it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limit: u64,
    /// Who runs the daemon.
    own: u32,
    used: u64,
    by_user: HashMap<u32, u64>,
}

/// What one thing costs its user, as long as it is there.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    user: u32,
    amount: u64,
}

impl Budget {
    /// Nobody uses anything of it.
    pub fn new(limit: u64) -> Budget {
        let own = rustix::process::geteuid().as_raw();
        Budget(Arc::new(Mutex::new(State { limit, own, used: 0, by_user: HashMap::new() })))
    }

    /// Whether a user may have so much more.
    pub fn admits(&self, user: u32, more: u64) -> bool {
        let state = self.0.lock();
        let left = state.limit.saturating_sub(state.used.saturating_add(more));
        let own = state.by_user.get(&user).copied().unwrap_or(0).saturating_add(more);
        let trusted = user == 0 || user == state.own;
        own == 0 || left > 0 && (trusted || own <= left.saturating_mul(3))
    }

    /// Something of a user's, which costs so much whether or not it is [admitted](Self::admits).
    pub fn share(&self, user: u32, amount: u64) -> Share {
        let mut share = Share { budget: self.clone(), user, amount: 0 };
        share.set(amount);
        share
    }
}

impl Share {
    /// It costs so much from now on.
    pub fn set(&mut self, amount: u64) {
        if amount == self.amount {
            return;
        }
        let state = &mut *self.budget.0.lock();
        let own = state.by_user.entry(self.user).or_default();
        for used in [&mut state.used, &mut *own] {
            *used = used.saturating_sub(self.amount).saturating_add(amount);
        }
        if *own == 0 {
            state.by_user.remove(&self.user);
        }
        self.amount = amount;
    }

    /// Whether its user may have it cost so much.
    pub fn may_be(&self, amount: u64) -> bool {
        amount <= self.amount || self.budget.admits(self.user, amount - self.amount)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_and_all_comes_back() {
        let budget = Budget::new(1000);
        let fill = |user: u32| {
            let mut share = budget.share(user, 0);
            let most = (0..=1001).take_while(|&n| share.may_be(n)).last().unwrap();
            share.set(most);
            (share, most)
        };
        let (one, two) = (fill(65534), fill(65533));
        assert_eq!((one.1, two.1), (750, 187));
        let (_three, more) = fill(65532);
        assert!(more > 0 && !budget.admits(65534, 1) && !one.0.may_be(751) && one.0.may_be(10));
        drop((one, two));
        let (root, most) = fill(0);
        assert_eq!(most, 1000 - 1 - more);
        drop(root);
        // What could not be refused is counted all the same.
        let beyond = budget.share(65534, 5000);
        assert!(
            !budget.admits(0, 1) && !budget.admits(1, 1) && budget.admits(1, 0) && !budget.admits(65534, 0)
        );
        drop(beyond);
        assert!(budget.admits(65534, 700));
    }
}
