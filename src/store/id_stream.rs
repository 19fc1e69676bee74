//! The ids of a store while they are being listed.

use std::sync::mpsc::{Receiver, sync_channel};

use super::Store;
use crate::error::{Error, Result};
use crate::rev::ObjectId;

/// How many ids are handed over at once.
const PIECE: usize = 1024;

/// How many pieces wait to be taken at most.
const WAITING: usize = 16;

/// The ids of all objects in no order, piece by piece, listed by a thread that is a little ahead of whoever takes them. It
/// ends when nobody does any more.
pub struct IdStream {
    /// `None` is the end.
    pieces: Receiver<Result<Option<Vec<ObjectId>>>>,
    ended: bool,
}

impl Iterator for IdStream {
    type Item = Result<Vec<ObjectId>>;

    /// What went wrong goes wrong again.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.pieces.recv() {
            Ok(piece) => {
                self.ended = matches!(piece, Ok(None));
                piece.transpose()
            }
            Err(_) => Some(Err(Error::io("list", "the store")(std::io::Error::other(
                "the thread that lists it ended",
            )))),
        }
    }
}

impl Store {
    /// [`ids`](Self::ids), while they are being listed. What goes wrong comes last.
    ///
    /// # Errors
    /// `None` where the system gives no thread for it.
    pub(crate) fn stream_ids(&self) -> Option<IdStream> {
        let (give, take) = sync_channel(WAITING);
        let store = self.clone();
        let list = move || {
            let mut piece = Vec::with_capacity(PIECE);
            let listed = store.backend().each_object(&mut |id| {
                piece.push(id);
                piece.len() < PIECE
                    || give.send(Ok(Some(std::mem::replace(&mut piece, Vec::with_capacity(PIECE))))).is_ok()
            });
            let _ = give.send(Ok(Some(piece)));
            let _ = give.send(listed.map(|()| None));
        };
        let thread = std::thread::Builder::new().name("list".into()).spawn(list);
        thread.is_ok().then_some(IdStream { pieces: take, ended: false })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Fault, FaultBackend, MemoryBackend};

    #[test]
    fn every_id_comes_once_and_what_goes_wrong_comes_last() {
        let faults = Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new())));
        let store = Store::with_backend(faults.clone());
        let ids: BTreeSet<ObjectId> =
            (0..3 * PIECE).map(|n| ObjectId::new(format!("o{n}")).unwrap()).collect();
        ids.iter().for_each(|id| drop(store.create(id, b"{}").unwrap()));
        let listed: Vec<ObjectId> = store.stream_ids().unwrap().flat_map(Result::unwrap).collect();
        assert_eq!((listed.len(), listed.into_iter().collect::<BTreeSet<_>>()), (ids.len(), ids));
        // Whoever has seen enough.
        assert_eq!(store.stream_ids().unwrap().next().unwrap().unwrap().len(), PIECE);
        faults.fail(Fault { op: Some("each_object"), nth: 1, errno: 5, done: false });
        let mut ids = store.stream_ids().unwrap();
        assert!(ids.next().unwrap().unwrap().is_empty());
        assert!(ids.next().unwrap().is_err() && ids.next().unwrap().is_err());
    }
}
