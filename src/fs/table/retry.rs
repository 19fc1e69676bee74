//! Threads that were told ESTALE: the kernel looks the name up once more on the same thread, and calls again, once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::fs::attr::Ino;
use crate::rev::ObjectId;

/// How long a thread that was told ESTALE may take to come back, and the draft that was made for it waits. The kernel tries
/// again at once, but on a machine with thirty programs for each core that took more than a second.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What one thread that was told ESTALE over an object comes back for.
struct Retry {
    since: Instant,
    /// Its call is repeated, and must be served then: the kernel sends it no further.
    requested: bool,
    /// It has looked the name up since: what it opens it was led to.
    led: bool,
    /// It has found nothing under the name. The kernel looks twice: it checks what it knew, drops it, and looks anew.
    missed: bool,
    /// The draft that its next lookup of the name must find, and since when.
    draft: Option<(Ino, Instant)>,
    /// It moves a file onto the object, which has two links until that is done, see `overlay`.
    overlays: bool,
}

impl Retry {
    fn is_over(&self) -> bool {
        !self.requested && !self.overlays && self.draft.is_none()
    }
}

/// All of them, by thread and object.
#[derive(Default)]
pub struct Retries(HashMap<(u32, ObjectId), Retry>);

impl Retries {
    fn get(&self, thread: u32, id: &ObjectId) -> Option<&Retry> {
        // Nearly always there are none, and the key would have to be made.
        if self.0.is_empty() { None } else { self.0.get(&(thread, id.clone())) }
    }

    fn entry(&mut self, thread: u32, id: &ObjectId) -> &mut Retry {
        let since = Instant::now();
        let new = Retry { since, requested: false, led: false, missed: false, draft: None, overlays: false };
        let retry = self.0.entry((thread, id.clone())).or_insert(new);
        retry.since = since;
        retry
    }

    fn change(&mut self, thread: u32, id: &ObjectId, change: impl FnOnce(&mut Retry)) {
        if self.0.is_empty() {
            return;
        }
        let key = (thread, id.clone());
        if let Some(retry) = self.0.get_mut(&key) {
            change(retry);
            if retry.is_over() {
                self.0.remove(&key);
            }
        }
    }

    /// Notes that a thread is told ESTALE. `false` where it must not be: the kernel would send it no further, or it cannot
    /// be told from others and would take what is meant for them.
    pub fn request(&mut self, thread: u32, id: &ObjectId) -> bool {
        if thread == 0 {
            return false;
        }
        let retry = self.entry(thread, id);
        (retry.led, retry.missed) = (false, false);
        !std::mem::replace(&mut retry.requested, true)
    }

    /// Whether the thread was told ESTALE a moment ago, by whatever call, or must never be.
    pub fn is_exhausted(&self, thread: u32, id: &ObjectId) -> bool {
        thread == 0 || self.get(thread, id).is_some_and(|retry| retry.requested)
    }

    /// Whether the thread was told ESTALE, and has looked the name up since.
    pub fn was_led(&self, thread: u32, id: &ObjectId) -> bool {
        self.get(thread, id).is_some_and(|retry| retry.requested && retry.led)
    }

    /// The thread looks the name up. Whether it was told ESTALE before.
    pub fn lead(&mut self, thread: u32, id: &ObjectId) -> bool {
        let mut requested = false;
        self.change(thread, id, |retry| {
            requested = retry.requested;
            retry.led |= requested;
        });
        requested
    }

    /// The thread's lookup finds nothing. After the second one it does not come back.
    pub fn miss(&mut self, thread: u32, id: &ObjectId) {
        self.change(thread, id, |retry| retry.requested &= !std::mem::replace(&mut retry.missed, true));
    }

    /// Has the thread's next lookup find a draft.
    pub fn announce(&mut self, thread: u32, id: &ObjectId, draft: Ino) {
        self.entry(thread, id).draft = Some((draft, Instant::now()));
    }

    /// The draft announced to a thread.
    pub fn announced(&self, thread: u32, id: &ObjectId) -> Option<Ino> {
        let (draft, since) = self.get(thread, id)?.draft?;
        (since.elapsed() < TIMEOUT).then_some(draft)
    }

    /// Whether a thread is on the way to a draft. The kernel drops what the first of its two lookups found before it makes
    /// the second.
    pub fn awaits(&self, draft: Ino) -> bool {
        self.0.values().any(|retry| retry.draft.is_some_and(|(announced, _)| announced == draft))
    }

    /// The thread's call is answered. What was announced to it waits on.
    pub fn answer(&mut self, thread: u32, id: &ObjectId) {
        self.change(thread, id, |retry| retry.requested = false);
    }

    /// The thread is served. Returns the draft that was announced to it.
    pub fn finish(&mut self, thread: u32, id: &ObjectId) -> Option<Ino> {
        let mut draft = None;
        self.change(thread, id, |retry| {
            retry.requested = false;
            draft = retry.draft.take().map(|(draft, _)| draft);
        });
        draft
    }

    /// A thread that moves a file onto the object is sent to look it up.
    pub fn begin_overlay(&mut self, thread: u32, id: &ObjectId) {
        self.entry(thread, id).overlays = true;
    }

    /// Whether that has been.
    pub fn overlays(&self, thread: u32, id: &ObjectId) -> bool {
        self.get(thread, id).is_some_and(|retry| retry.overlays)
    }

    /// The move is answered.
    pub fn end_overlay(&mut self, thread: u32, id: &ObjectId) {
        self.change(thread, id, |retry| retry.overlays = false);
    }

    /// Whether any thread moves a file onto the object.
    pub fn is_overlaid(&self, id: &ObjectId) -> bool {
        self.0.iter().any(|((_, of), retry)| retry.overlays && of == id)
    }

    /// Forgets threads that never came back. Returns the drafts that were announced to them.
    pub fn expire(&mut self) -> Vec<Ino> {
        let mut dead = Vec::new();
        self.0.retain(|_, retry| {
            let alive = retry.since.elapsed() < TIMEOUT;
            if !alive {
                dead.extend(retry.draft.map(|(draft, _)| draft));
            }
            alive
        });
        dead
    }

    /// Lets time pass.
    #[cfg(test)]
    pub fn age(&mut self, time: Duration) {
        for retry in self.0.values_mut() {
            retry.since -= time;
            retry.draft = retry.draft.map(|(draft, since)| (draft, since - time));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_sent_back_once_until_it_is_answered() {
        let (mut retries, id) = (Retries::default(), ObjectId::new("a").unwrap());
        assert!(retries.request(7, &id) && !retries.request(7, &id) && !retries.request(0, &id));
        assert!(
            retries.is_exhausted(7, &id) && retries.is_exhausted(0, &id) && !retries.is_exhausted(8, &id)
        );
        assert!(retries.lead(7, &id) && retries.was_led(7, &id) && !retries.lead(8, &id));
        // Sent once more, it has not looked since.
        assert!(!retries.request(7, &id) && !retries.was_led(7, &id));
        retries.answer(7, &id);
        assert!(retries.0.is_empty() && retries.request(7, &id));
    }

    #[test]
    fn a_thread_that_finds_nothing_looks_once_more() {
        let (mut retries, id) = (Retries::default(), ObjectId::new("a").unwrap());
        assert!(retries.request(7, &id) && retries.lead(7, &id));
        retries.miss(7, &id);
        assert!(retries.lead(7, &id) && retries.is_exhausted(7, &id));
        retries.miss(7, &id);
        assert!(!retries.is_exhausted(7, &id) && retries.0.is_empty());
    }

    #[test]
    fn an_answer_leaves_what_was_announced_and_a_move_that_is_under_way() {
        let (mut retries, id) = (Retries::default(), ObjectId::new("a").unwrap());
        retries.announce(7, &id, 70);
        retries.begin_overlay(7, &id);
        assert!(retries.request(7, &id));
        retries.answer(7, &id);
        assert!(
            retries.awaits(70)
                && retries.announced(7, &id) == Some(70)
                && retries.announced(8, &id).is_none()
        );
        assert_eq!(retries.finish(7, &id), Some(70));
        assert!(!retries.awaits(70) && retries.overlays(7, &id) && retries.is_overlaid(&id));
        retries.end_overlay(7, &id);
        assert!(!retries.is_overlaid(&id) && retries.0.is_empty() && retries.expire().is_empty());
    }
}
