//! Other mounts, other hosts, the original, and what becomes of a stale text under each policy.

use super::{row, table};

const REV: &str = "{\"_rev\":\"REV\",\"a\":0,\"b\":0}\n";

#[test]
fn others_meet() {
    table(&[
        row("two mounts, different members", TWO_MOUNTS, "{\"a\":1,\"b\":0}").two().pair(3),
        row("two mounts, the same member", TWO_MOUNTS_SAME, "{\"a\":2,\"b\":0}").two().pair(3),
        row("two mounts, echoes at once", TWO_MOUNTS_AT_ONCE, "any").two().by_chance(),
        row("a process of another pid namespace", NAMESPACE, "{\"a\":1,\"b\":0}").pair(3),
        row("a daemon in another pid namespace: no sessions", NO_SESSION, "{\"a\":1,\"b\":0}")
            .apart()
            .revs(3),
        row("the same, with _rev", NO_SESSION, "{\"a\":1,\"b\":0}").first(REV).apart().pair(3),
        row("the same, through a scratch file", NO_SESSION_MV, "{\"a\":1,\"b\":0}").apart().revs(3),
        row("the same, vim twice", NO_SESSION_VIM, "{\"a\":2,\"b\":0}").apart().revs(3),
        row("two Node processes save at once", BOTH, "any").by_chance(),
        row("the original saves what it read four generations ago", SEED_STALE, "{\"a\":0,\"b\":0}").pair(6),
        row("the same, the generations between are not there", SEED_STALE_ALONE, "{\"a\":0,\"b\":0}").revs(2),
        row("the newest is torn, its writer dead", TORN, "{\"a\":1,\"b\":0}").revs(3),
        row("the newest is being written", BEING_WRITTEN, "{\"a\":0,\"b\":1}").pair(3),
        row("a laptop's revision comes back", LAPTOP, "any").pair(3),
        row("on_stale=merge", STALE, "{\"a\":1,\"b\":5}").options(&["on_stale=merge"]).revs(3),
        row("on_stale=latest", STALE, "{\"a\":1,\"b\":0}").options(&["on_stale=latest"]).revs(3),
        row("on_stale=sibling", STALE, "any").options(&["on_stale=sibling"]).pair(3),
        row("on_stale=refuse", REFUSED, "{\"a\":0,\"b\":5}").options(&["on_stale=refuse"]).revs(2),
        row("on_stale=refuse, renamed over", REFUSED_MV, "{\"a\":0,\"b\":5}")
            .options(&["on_stale=refuse"])
            .revs(2),
    ]);
}

const TWO_MOUNTS: &str = "
py \"o = load(); sh('jq -c .b=1 $M/x.json > $M/x.json'); o['a'] = 1; store(o)\"; ack '{\"a\":0,\"b\":1}'; ack '{\"a\":1,\"b\":0}'";
const TWO_MOUNTS_SAME: &str = "
py \"o = load(); sh('jq -c .a=1 $M/x.json > $M/x.json'); o['a'] = 2; store(o)\"; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":2,\"b\":0}'";
const TWO_MOUNTS_AT_ONCE: &str = "
for i in 1 2 3 4; do (echo \"{\\\"a\\\":$i}\" > x.json) & (echo \"{\\\"b\\\":$i}\" > $M/x.json) & done; wait
for i in 1 2 3 4; do ack \"{\\\"a\\\":$i}\"; ack \"{\\\"b\\\":$i}\"; done";
const NAMESPACE: &str = "
cat > $E/n.py <<'P'
import subprocess
t = open('x.json').read(); subprocess.run(['orig', 'change', 'x', '{\"b\":5}'], check=True)
open('x.json', 'w').write(t.replace('\"a\":0', '\"a\":1'))
P
unshare -pf --mount-proc python3 $E/n.py; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":5}'";
const NO_SESSION: &str = "
py \"o = load(); sh('foreign b 5'); o['a'] = 1; store(o)\"; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":5}'";
const NO_SESSION_MV: &str = "
jq -c .a=1 x.json > t; foreign b 5; mv t x.json; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":5}'";
const NO_SESSION_VIM: &str = "
vi '' $'%s/\"a\":0/\"a\":1/ | w!\\n%s/\"a\":1/\"a\":2/ | w!'; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":2,\"b\":0}'";
const BOTH: &str = "
foreign a 1 & foreign a 2 & wait; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":2,\"b\":0}'";
const SEED_STALE: &str = "
for n in 3 4 5 6; do r=$(rev $n); printf '{\"a\":0,\"n\":%s}' $n > $S/x/$r; test $n != 3 || old=$r; done
orig update x \"{\\\"_rev\\\":\\\"$old\\\",\\\"a\\\":33}\"; ack '{\"a\":33}'; test $(cat x.json | jq .a) = 0";
const SEED_STALE_ALONE: &str =
    "orig update x \"{\\\"_rev\\\":\\\"$(rev 3)\\\",\\\"a\\\":33}\"; ack '{\"a\":33}'";
const TORN: &str = "
printf '{\"a\":' > $S/x/$(rev 8); test \"$(jq -c . x.json)\" = '{\"a\":0,\"b\":0}'
py \"o = load(); o['a'] = 1; store(o)\"; ack '{\"a\":1,\"b\":0}'; ls $S/x | grep -q ^9-";
const BEING_WRITTEN: &str = "
r=$(rev 8)
{ until_there loaded; printf '{\"a\":9,'; touch $E/half; sleep 0.3; printf '\"b\":0}'; } > $S/x/$r &
py \"
o = load(); o['b'] = 1; sh('touch $E/loaded; until test -e $E/half; do sleep 0.01; done'); store(o)\"
wait; ack '{\"a\":0,\"b\":1}'; ack '{\"a\":9,\"b\":0}'";
const LAPTOP: &str = "
cp -r $S $E/laptop; rm -rf $E/laptop/.revfs
$REVFS get $E/laptop x | jq -c .a=1 | $REVFS update $E/laptop > /dev/null; foreign a 2
cp -n $E/laptop/x/* $S/x/; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":2,\"b\":0}'";
const STALE: &str = "
py \"o = load(); sh('foreign b 5'); o['a'] = 1; store(o)\"; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":5}'";
const REFUSED: &str = "
py \"
o = load(); sh('foreign b 5'); o['a'] = 1
try: f = open('x.json', 'w'); f.write(json.dumps(o)); f.close()
except OSError as e: assert e.errno == 116, e
else: sys.exit('it was saved')
o = load(); assert o['b'] == 5\"
ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":5}'; until ls .drafts/x > /dev/null 2>&1; do sleep 0.01; done";
const REFUSED_MV: &str = "
jq -c .a=1 x.json > t; foreign b 5; ! mv t x.json 2> $E/said; grep -q Stale $E/said
test \"$(jq -c . t)\" = '{\"a\":1,\"b\":0}'; ack '{\"a\":1,\"b\":0}'";
