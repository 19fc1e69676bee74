//! Settling a conflict and bringing back what was removed, with nothing but `cp`, `mv`, `cat` and `rm`.

use super::{row, table};

#[test]
fn settled_by_hand() {
    table(&[
        row("rm of the loser", RM_LOSER, "{\"a\":2,\"b\":0}"),
        row("rm of the winner and of an ancestor is refused", RM_OTHERS, "{\"a\":2,\"b\":0}").pair(3),
        row("cp of the loser onto the object", CP_LOSER, "{\"a\":1,\"b\":0}").revs(2),
        row("mv of the loser onto the object", MV_LOSER, "{\"a\":1,\"b\":0}").revs(2),
        row("cat of the loser onto the object", CAT_LOSER, "{\"a\":1,\"b\":0}").revs(2),
        row("cp of the winner settles with what is there", CP_WINNER, "{\"a\":2,\"b\":0}").revs(2),
        row("mv of the winner", MV_WINNER, "{\"a\":2,\"b\":0}").revs(2),
        row("mv of the loser to another object", MV_AWAY, "{\"a\":2,\"b\":0}"),
        row("mv of the loser to a scratch file", MV_SCRATCH, "{\"a\":2,\"b\":0}"),
        row("cp of an ancestor", CP_ANCESTOR, "{\"a\":0,\"b\":0}").pair(4),
        row("both sides read, a merged text written", BY_HAND, "{\"a\":3,\"b\":0}").pair(4),
        row("rm, cp out of .deleted", CP_DELETED, "{\"a\":0,\"b\":0}").revs(1),
        row("rm, mv out of .deleted", MV_DELETED, "{\"a\":0,\"b\":0}").revs(1),
        row("rm, mv of the whole out of .deleted", MV_DELETED_ALL, "{\"a\":1,\"b\":0}").revs(1),
        row("mv of a deleted object's text to another", MV_DELETED_OTHER, "{}").none_left(),
        row("a refused text, mended and moved back", DRAFT, "{\"a\":1}"),
        row("mv of a refused text as it is", DRAFT_REFUSED, "{\"a\":0,\"b\":0}").revs(1),
        row("user.revfs.base is what the next save is made from", BASE, "{\"a\":1,\"b\":0}")
            .options(&["xattr"])
            .pair(3),
        row("the same of a scratch file", BASE_SCRATCH, "{\"a\":1,\"b\":0}").options(&["xattr"]).pair(3),
        row("what user.revfs tells", XATTRS, "{\"a\":2,\"b\":0}").options(&["xattr"]).pair(3),
    ]);
}

/// Two revisions of generation 8: `$L` loses, `$W` wins.
macro_rules! pair {
    ($script:literal) => {
        concat!(
            "L=8-$(printf 'a%.0s' {1..32}); W=8-$(printf 'b%.0s' {1..32})\n",
            "echo '{\"a\":1,\"b\":0}' > $E/l; echo '{\"a\":2,\"b\":0}' > $E/w; cp $E/l $S/x/$L; cp $E/w $S/x/$W\n",
            "ack '{\"a\":1,\"b\":0}'; ack '{\"a\":2,\"b\":0}'; ls .conflicts | grep -qx x\n",
            $script
        )
    };
}

const RM_LOSER: &str = pair!("rm .conflicts/x/$L; ls .deleted/x | grep -qx $L");
const RM_OTHERS: &str = pair!("! rm .conflicts/x/$W 2> /dev/null; ! rm .conflicts/x/$R 2> /dev/null");
const CP_LOSER: &str = pair!("cp .conflicts/x/$L x.json; ls $S/x | grep -q ^9-");
const MV_LOSER: &str =
    pair!("mv .conflicts/x/$L x.json; test \"$(jq .a x.json)\" = 1; test ! -e .conflicts/x/$L");
const CAT_LOSER: &str = pair!("cat .conflicts/x/$L > x.json");
const CP_WINNER: &str = pair!("cp .conflicts/x/$W x.json; ls $S/x | grep -q ^9-");
const MV_WINNER: &str = pair!("mv -f .conflicts/x/$W x.json");
const MV_AWAY: &str = pair!(
    "! mv .conflicts/x/$W y.json 2> /dev/null; test ! -e y.json; mv .conflicts/x/$L y.json; test \"$(jq .a y.json)\" = 1"
);
const MV_SCRATCH: &str = pair!("mv .conflicts/x/$L t; test \"$(jq .a t)\" = 1");
const CP_ANCESTOR: &str = pair!("cp .conflicts/x/$R x.json");
const BY_HAND: &str = pair!(
    "jq -cs '.[0] * .[1] | .a = 3' .conflicts/x/$L .conflicts/x/$W > t; mv t x.json; ack '{\"a\":3,\"b\":0}'"
);
const CP_DELETED: &str = "rm x.json; cp .deleted/x/$R x.json";
const MV_DELETED: &str = "rm x.json; orig getObject x && exit 1; mv .deleted/x/$R x.json; ls .deleted/x | grep -qx $R || test -e $S/x/$R";
const MV_DELETED_ALL: &str = "foreign a 1; orig deleteObject x; test ! -e x.json; echo '{\"a\":1,\"b\":0}' > x.json; rm x.json; mv .deleted/x x.json; test -f x.json";
const MV_DELETED_OTHER: &str =
    "rm x.json; mv .deleted/x/$R y.json; test \"$(jq .a y.json)\" = 0; ack '{\"a\":0,\"b\":0}'";
const DRAFT: &str = "
! /bin/echo '{\"a\":1' > x.json; d=$(ls .drafts/x); cp .drafts/x/$d t; echo '}' >> t; mv t x.json; ack '{\"a\":1}'; ack $'{\"a\":1\\n'";
const DRAFT_REFUSED: &str = "
! /bin/echo '{\"a\":1' > x.json; ! mv .drafts/x/$(ls .drafts/x) x.json 2> $E/said; grep -q 'Bad message' $E/said; ack $'{\"a\":1\\n'";
const BASE: &str = "
foreign b 5
py \"
try: os.setxattr('x.json', 'user.revfs.base', b'nonsense'); sys.exit('taken')
except OSError as e: assert e.errno == 22, e
os.setxattr('x.json', 'user.revfs.base', b'$R'); assert os.getxattr('x.json', 'user.revfs.base') == b'$R'
store(dict(a=1, b=0))
try: os.getxattr('x.json', 'user.revfs.base'); sys.exit('still there')
except OSError as e: assert e.errno == 61, e\"
ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":5}'";
const BASE_SCRATCH: &str = "
foreign b 5; echo '{\"a\":1,\"b\":0}' > t; setfattr -n user.revfs.base -v $R t; mv t x.json
ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":5}'";
const XATTRS: &str = pair!("
of() { getfattr --only-values -n user.revfs.$1 $2; }
test \"$(of id x.json)\" = x; test \"$(of rev x.json)\" = $W; test \"$(of conflicts x.json)\" = \"$L $W\"
test \"$(of role .conflicts/x/$L)\" = loser; test \"$(of role .conflicts/x/$W)\" = winner; test \"$(of role .conflicts/x/$R)\" = ancestor
! setfattr -n user.revfs.rev -v 1 x.json 2> /dev/null; ! setfattr -n user.other -v 1 x.json 2> /dev/null
test -z \"$(cp -a x.json y.json 2>&1; rsync -aX x.json z.json 2>&1; rsync -aX x.json $E/ 2>&1; rsync -aX $E/x.json x.json 2>&1)\"
test -z \"$(getfattr -d $E/x.json y.json)\"");
