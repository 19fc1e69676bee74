//! Names that move, links, and watchers of names, compared with what a plain directory does.

use super::{row, table};

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
