//! The examples of `src/fs/semantics.md`, one fresh mount per section.

use crate::mounted::Place;
use crate::tour;

const TEXT: &str = include_str!("../../src/fs/semantics.md");

#[test]
fn what_the_page_shows_is_what_happens() {
    let sections: Vec<_> = TEXT.split("\n## ").map(tour::steps).filter(|steps| !steps.is_empty()).collect();
    assert!(sections.len() > 7, "the examples are gone");
    for steps in sections {
        let place = Place::new();
        let mount = place.mount(&[]);
        tour::run(&steps, &place.point(), &[("STORE", &place.store())], str::to_owned);
        place.assert_clean();
        assert!(mount.stop().success());
    }
}
