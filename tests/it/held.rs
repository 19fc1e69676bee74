//! Descriptors that are held while the name behind them changes, and saves that follow each other.

use std::fs;

use crate::mounted::Place;

#[test]
fn an_open_sees_what_was_saved_before_it_however_busy_the_watcher_is() {
    let place = Place::new();
    place.seed("a", 0, "{\"n\":0}");
    let m = place.mount(&[]);
    let dir = place.store().join("a");
    for n in 1..3000u64 {
        let text = format!("{{\"n\":{n}}}");
        let rev = format!("{n}-{}", uuid::Uuid::new_v4().simple());
        fs::write(place.work().join("t"), &text).unwrap();
        fs::rename(place.work().join("t"), dir.join(rev)).unwrap();
        assert_eq!(m.read("a.json"), text);
        if n % 100 == 0 {
            for old in place.revs("a") {
                if !old.starts_with(&format!("{n}-")) {
                    fs::remove_file(dir.join(old)).unwrap();
                }
            }
        }
    }
}
