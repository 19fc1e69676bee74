//! Names that move, links, and watchers of names, compared with what a plain directory does.

use super::{FIRST, row, table};
use crate::mounted::Place;

#[test]
fn names_that_others_watch_and_links() {
    table(&[
        row("inotifywait sees a save in place", "watched 'json > x.json'"),
        row("inotifywait sees a rename over", "watched 'json > t; mv t x.json'"),
        row("inotifywait sees sed -i", "watched 'sed -i s/$O/$V/ x.json' | sed 's/ sed.*/ sed/'"),
        row("ln -f of a scratch file", "json > t; ln -f t x.json; rm t"),
        row("ln -s over the name of a scratch file", "json > t; ln -sf t u; cat u > x.json; rm t u"),
        row("writing through a link", "ln -sf x.json l; json > l; rm l"),
        row(
            "a hard link of a scratch file, renamed",
            "json > t; ln t u; test $(stat -c %h t) = 2; mv t x.json; cmp u x.json; rm u",
        ),
    ]);
}

/// What a link from an object is refused or makes is in `mounts::create`.
#[test]
fn programs_that_link_and_are_refused() {
    let place = Place::new();
    place.seed("x", 0, FIRST);
    let mount = place.mount(&[]);
    for script in [
        "mkdir d; rsync -a --link-dest=$PWD/ --include x.json --exclude '*' ./ d/; cmp x.json d/x.json; rm -r d",
        "mkdir d; echo 1 > d/a; ln d/a d/b; rsync -aH d/ e/; test e/a -ef e/b; cp -al d f; test d/a -ef f/a; rm -r d e f",
        "git init -q g; git -C g -c user.name=t -c user.email=t@t commit -q --allow-empty -m m; git clone -q g h; rm -rf g h",
        "gawk -i inplace -v inplace::suffix=.bak '{print}' x.json; cmp x.json x.json.bak; rm x.json.bak",
    ] {
        mount.sh_ok(&format!("set -e; {script}"));
        assert_eq!(mount.names(), ["x.json"], "{script}");
        assert_eq!(mount.read("x.json"), FIRST, "{script}");
    }
    assert_eq!(place.revs("x").len(), 1);
    place.assert_clean();
}
