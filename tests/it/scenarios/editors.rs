//! Editors, which load once and save often.

use super::{row, table};

const REV: &str = "{\"_rev\":\"REV\",\"a\":0,\"b\":0}\n";

#[test]
fn editors_meet() {
    table(&[
        row(
            "vim saves once",
            "vi '' '%s/\"a\":0/\"a\":1/ | w!'; ack '{\"a\":1,\"b\":0}'",
            "{\"a\":1,\"b\":0}",
        ),
        row("vim saves twice, the buffer says the first revision", VIM_TWICE, "{\"a\":2,\"b\":0}")
            .first(REV)
            .revs(3),
        row("two vims, different members", TWO_VIMS, "{\"a\":0,\"b\":1}").pair(3),
        row("two vims, different members, with _rev", TWO_VIMS, "{\"a\":0,\"b\":1}").first(REV).pair(3),
        row("two vims, the same member", SAME_MEMBER, "{\"a\":2,\"b\":0}").pair(3),
        row("two vims, then the first one again", AND_AGAIN, "{\"a\":2,\"b\":0}").group(4, &[3]),
        row("two vims, backupcopy=yes, different members", TWO_VIMS_YES, "{\"a\":0,\"b\":1}").pair(3),
        row("two vims, backupcopy=no, different members", TWO_VIMS_NO, "{\"a\":0,\"b\":1}").pair(3),
        row("two vims, kept backups by copying, different members", TWO_VIMS_KEPT, "{\"a\":0,\"b\":1}")
            .pair(3),
        row("two vims, kept backups by renaming, different members", TWO_VIMS_KEPT_NO, "{\"a\":0,\"b\":1}")
            .pair(3),
        row("two vims, backupcopy=yes, the same member", SAME_MEMBER_YES, "{\"a\":2,\"b\":0}").pair(3),
        row("two vims, backups where the mount does not see them", BACKUPDIR, "{\"a\":0,\"b\":1}").pair(3),
        row("vim renames, creates, unlinks; the original looks on", RENAMES, "{\"a\":1,\"b\":0}"),
        row("vim dies after renaming, the backup is moved back", DIES, "{\"a\":0,\"b\":0}").revs(1),
        row("vim saves a stale buffer that it has not changed", UNCHANGED, "{\"a\":0,\"b\":0}").pair(3),
        row("the same with backupcopy=yes", UNCHANGED_YES, "{\"a\":0,\"b\":0}").pair(3),
        row("rm while vim is open, then :w", RM_THEN_W, "{\"a\":1,\"b\":0}"),
        row("the original updates another member while vim is open", FOREIGN_OTHER, "{\"a\":1,\"b\":0}")
            .pair(3),
        row("the original updates the same member while vim is open", FOREIGN_SAME, "{\"a\":1,\"b\":0}")
            .pair(3),
        row("the original deletes while vim is open, then :w", FOREIGN_DELETE, "{\"a\":1,\"b\":0}").revs(1),
        row("the other mount deletes while vim is open, then :w", OTHER_DELETE, "{\"a\":1,\"b\":0}")
            .two()
            .revs(1),
        row("vim saves what is no JSON, then what is", INVALID, "{\"a\":1,\"b\":0}"),
        row("emacs makes backups by copying, another member changes", EMACS_COPYING, "{\"a\":1,\"b\":0}")
            .pair(3),
        row("emacs, another member changes", EMACS, "{\"a\":1,\"b\":0}").pair(3),
    ]);
}

const VIM_TWICE: &str = "vi '' $'%s/\"a\":0/\"a\":1/ | w!\\n%s/\"a\":1/\"a\":2/ | w!'
ack '{\"a\":1,\"b\":0}'; ack '{\"a\":2,\"b\":0}'";

/// The first one loads, the second one loads and saves `a`, the first one saves `b`.
macro_rules! two {
    ($set:literal, $mine:literal, $text:literal) => {
        concat!(
            "vi '",
            $set,
            "' $'call Touch(\"loaded\")\\ncall Wait(\"saved\")\\n%s/",
            $mine,
            "/ | w!' &\n",
            "until_there loaded; vi '",
            $set,
            "' '%s/\"a\":0/\"a\":1/ | w!'; touch $E/saved; wait $!\n",
            "ack '{\"a\":1,\"b\":0}'; ack '",
            $text,
            "'"
        )
    };
}

const TWO_VIMS: &str = two!("", "\"b\":0/\"b\":1", "{\"a\":0,\"b\":1}");
const TWO_VIMS_YES: &str = two!("backupcopy=yes", "\"b\":0/\"b\":1", "{\"a\":0,\"b\":1}");
const TWO_VIMS_NO: &str = two!("backupcopy=no", "\"b\":0/\"b\":1", "{\"a\":0,\"b\":1}");
const TWO_VIMS_KEPT: &str = two!("backup backupcopy=yes", "\"b\":0/\"b\":1", "{\"a\":0,\"b\":1}");
const TWO_VIMS_KEPT_NO: &str = two!("backup backupcopy=no", "\"b\":0/\"b\":1", "{\"a\":0,\"b\":1}");
const BACKUPDIR: &str = two!("backup backupcopy=yes backupdir=$E", "\"b\":0/\"b\":1", "{\"a\":0,\"b\":1}");
const SAME_MEMBER: &str = two!("", "\"a\":0/\"a\":2", "{\"a\":2,\"b\":0}");
const SAME_MEMBER_YES: &str = two!("backupcopy=yes", "\"a\":0/\"a\":2", "{\"a\":2,\"b\":0}");

const AND_AGAIN: &str = "
vi '' $'call Wait(\"loaded\")\\n%s/\"a\":0/\"a\":1/ | w!\\ncall Touch(\"one\")\\ncall Wait(\"two\")\\n%s/\"a\":1/\"a\":2/ | w!' &
vi '' $'call Touch(\"loaded\")\\ncall Wait(\"one\")\\n%s/\"b\":0/\"b\":1/ | w!\\ncall Touch(\"two\")'
wait; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":1}'; ack '{\"a\":2,\"b\":0}'";

const RENAMES: &str = "
mv x.json x.json~; test ! -e x.json; orig getObject x | grep -q '\"a\":0'
echo '{\"a\":1,\"b\":0}' > x.json; rm x.json~; ack '{\"a\":1,\"b\":0}'";
const DIES: &str = "mv x.json x.json~; test ! -e x.json; mv x.json~ x.json";
const UNCHANGED: &str = "vi '' \"call system('foreign b 5') | w!\"; ack '{\"a\":0,\"b\":5}'";
const UNCHANGED_YES: &str = "vi backupcopy=yes \"call system('foreign b 5') | w!\"; ack '{\"a\":0,\"b\":5}'";
const RM_THEN_W: &str =
    "vi '' $'call system(\"rm x.json\")\\n%s/\"a\":0/\"a\":1/ | w!'; ack '{\"a\":1,\"b\":0}'
ls $S/x | grep -q ^8-";
const FOREIGN_OTHER: &str =
    "vi '' $'call system(\"foreign b 5\")\\n%s/\"a\":0/\"a\":1/ | w!'; ack '{\"a\":1,\"b\":0}'";
const FOREIGN_SAME: &str = "vi '' $'call system(\"foreign a 5\")\\n%s/\"a\":0/\"a\":1/ | w!'; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":5,\"b\":0}'";
const FOREIGN_DELETE: &str = "
vi '' $'call system(\"orig deleteObject x\")\\n%s/\"a\":0/\"a\":1/ | w!'; ack '{\"a\":1,\"b\":0}'; ls $S/x | grep -q ^8-";
const OTHER_DELETE: &str = "
vi '' $'call system(\"rm $M/x.json\")\\n%s/\"a\":0/\"a\":1/ | w!'; ack '{\"a\":1,\"b\":0}'; ls $S/x | grep -q ^8-";
const INVALID: &str = "vi '' $'%s/}//\\nsilent! w!\\n%s/$/}/\\n%s/\"a\":0/\"a\":1/ | w!'; ack '{\"a\":1,\"b\":0}'; ack $'{\"a\":0,\"b\":0\\n'";

macro_rules! emacs {
    ($set:literal) => {
        concat!(
            "cat > $E/e.el <<'E'\n(setq create-lockfiles nil)\n", $set, "\n(find-file \"x.json\")\n",
            // `stat` shows others' saves some milliseconds late.
            "(shell-command \"s=$(stat -c %.9Y x.json); foreign b 5; while test $(stat -c %.9Y x.json) = $s; do sleep 0.01; done\")\n",
            "(set-visited-file-modtime)\n",
            "(goto-char (point-min)) (re-search-forward \"a\\\":0\") (replace-match \"a\\\":1\") (save-buffer)\nE\n",
            "emacs -Q --batch -l $E/e.el > $E/said 2>&1; ack '{\"a\":1,\"b\":0}'"
        )
    };
}
const EMACS: &str = emacs!("");
const EMACS_COPYING: &str = emacs!("(setq backup-by-copying t)");
