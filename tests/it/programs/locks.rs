//! Locks between processes, and files that have no name.

use super::{look, looks};

macro_rules! python {
    ($body:literal) => {
        concat!("cat > $E/s.py <<'PYTHON'\nimport errno, fcntl, json, os, struct, subprocess, sys, tempfile, time\n", $body, "\nPYTHON\npython3 $E/s.py")
    };
}

#[test]
fn locks_hold_between_processes() {
    looks(&[
        look(
            "flock excludes",
            "exec 3< o1.json; flock 3; flock -n o1.json true || echo busy; exec 3<&-; flock -n o1.json echo free",
        ),
        look(
            "flock -s shares",
            "exec 3< o1.json; flock -s 3; flock -ns o1.json echo shared; flock -nx o1.json true || echo busy",
        ),
        look(
            "flock of a scratch file",
            "exec 3> s; flock 3; flock -n s true || echo busy; exec 3>&-; flock -n s echo free; rm s",
        ),
        look(
            "flock waits",
            "(flock 3; sleep 0.2; echo one) 3< o1.json & sleep 0.1; flock o1.json echo two; wait",
        ),
    ]);
}
