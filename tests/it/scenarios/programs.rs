//! Programs that read once, write once and end: shells, filters, copies, scripts.

use super::{row, table};

const REV: &str = "{\"_rev\":\"REV\",\"a\":0,\"b\":0}\n";

#[test]
fn programs_meet() {
    table(&[
        row("echo > x.json", "echo '{\"a\":1}' > x.json; ack '{\"a\":1}'", "{\"a\":1}"),
        row("two shells echo at once", ECHOES, "any").revs(3),
        row(
            "jq > t && mv t x.json",
            "jq -c .a=1 x.json > t && mv t x.json; ack '{\"a\":1,\"b\":0}'",
            "{\"a\":1,\"b\":0}",
        ),
        row("the same, another member changes meanwhile", JQ_MV, "{\"a\":1,\"b\":0}").pair(3),
        row("the same, the same member changes meanwhile", JQ_MV_SAME, "{\"a\":1,\"b\":0}").pair(3),
        row("jq > /elsewhere/t && mv", MV_FROM_ELSEWHERE, "{\"a\":1,\"b\":0}"),
        row(
            "a python puts back what it had read before its child changed it",
            PYTHONS_SAME,
            "{\"a\":2,\"b\":0}",
        )
        .revs(3),
        row("the same, another member", PYTHONS, "{\"a\":0,\"b\":1}").revs(3),
        row("a python that reads again before each write", PYTHON_AGAIN, "{\"a\":3,\"b\":6}").revs(5),
        row("a python that reads again and takes it back", PYTHON_BACK, "{\"a\":0,\"b\":0}").revs(3),
        row("a python that changes in place, r+", PYTHON_IN_PLACE, "{\"a\":1,\"b\":0}").pair(3),
        row("a pipeline of several processes, with _rev", PIPELINE, "{\"a\":1,\"b\":0}").first(REV).pair(3),
        row("the same without _rev", PIPELINE, "{\"a\":1,\"b\":0}").pair(3),
        row("a backup is copied back, with _rev", BACKUP, "{\"a\":0,\"b\":0}").first(REV).revs(4),
        row("a backup is copied back, without _rev", BACKUP, "{\"a\":0,\"b\":0}").pair(4),
        row("an old text is edited and copied in, with _rev", OLD_EDITED, "{\"a\":9,\"b\":0}")
            .first(REV)
            .pair(4),
        row("a _rev from three generations ago", THREE_AGO, "{\"a\":9,\"b\":0}").first(REV).pair(5),
        row("sed -i", "sed -i 's/\"a\":0/\"a\":1/' x.json; ack '{\"a\":1,\"b\":0}'", "{\"a\":1,\"b\":0}"),
        row(
            "perl -i",
            "perl -pi -e 's/\"a\":0/\"a\":1/' x.json; ack '{\"a\":1,\"b\":0}'",
            "{\"a\":1,\"b\":0}",
        ),
        row("rsync -a, twice, and -c", RSYNC, "{\"a\":1,\"b\":0}").first(REV),
        row("rsync --inplace, then its times", RSYNC_INPLACE, "{\"a\":1,\"b\":0}"),
        row("rsync over what has changed since", RSYNC_OVER, "{\"a\":1,\"b\":0}").revs(3),
        row("cp x.json y.json", CP_OTHER, "{\"a\":0,\"b\":0}")
            .first("{\"_id\":\"x\",\"_rev\":\"REV\",\"a\":0,\"b\":0}\n")
            .revs(1),
        row("truncate and >>", APPEND, "{\"a\":0,\"b\":0,\"c\":1}").revs(2),
        row(
            "opened for writing, nothing written",
            "exec 3<>x.json; exec 3>&-; touch x.json",
            "{\"a\":0,\"b\":0}",
        )
        .revs(1),
        row("write, fsync, fchmod, close", FSYNC, "{\"a\":1}"),
        row("what is no JSON", NO_JSON, "{\"a\":0,\"b\":0}").revs(1),
        row("rm while a program has it open and writes", OPEN_RM, "{}").none_left(),
        row("rm, then echo", "rm x.json; echo '{\"a\":1}' > x.json; ack '{\"a\":1}'", "{\"a\":1}"),
        row("node reads, changes, writes while the original updates", NODE, "{\"a\":1,\"b\":0}").pair(3),
    ]);
}

const ECHOES: &str =
    "for i in 1 2; do (echo \"{\\\"a\\\":$i}\" > x.json) & done; wait; ack '{\"a\":1}'; ack '{\"a\":2}'";
const JQ_MV: &str = "jq -c .a=1 x.json > t; foreign b 5; mv t x.json; ack '{\"a\":1,\"b\":0}'";
const JQ_MV_SAME: &str =
    "jq -c .a=1 x.json > t; foreign a 5; mv t x.json; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":5,\"b\":0}'";
const MV_FROM_ELSEWHERE: &str = "
jq -c .a=1 x.json > $E/t; mv $E/t x.json; ack '{\"a\":1,\"b\":0}'; ls $S/x | grep -q ^8-";
const PYTHONS_SAME: &str = "
cat > $E/b.py <<'P'
import json
o = json.load(open('x.json')); o['a'] = 1
open('x.json', 'w').write(json.dumps(o))
P
py \"o = load(); sh('python3 $E/b.py'); o['a'] = 2; store(o)\"; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":2,\"b\":0}'";
const PYTHONS: &str = "
cat > $E/b.py <<'P'
import json
o = json.load(open('x.json')); o['a'] = 1
open('x.json', 'w').write(json.dumps(o))
P
py \"o = load(); sh('python3 $E/b.py'); o['b'] = 1; store(o)\"; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":1}'";
const PYTHON_AGAIN: &str = "
py \"
load(); sh('foreign b 5')
o = load(); o['a'] = 2; store(o)
load(); sh('foreign b 6')
o = load(); o['a'] += 1; store(o)\"
ack '{\"a\":2,\"b\":5}'; ack '{\"a\":3,\"b\":6}'";
const PYTHON_BACK: &str = "
py \"
o = load(); sh('foreign b 5')
load(); store(o)\"; ack '{\"a\":0,\"b\":5}'";
const PYTHON_IN_PLACE: &str = "
py \"
f = open('x.json', 'r+'); t = f.read(); sh('foreign b 5')
f.seek(0); f.write(t.replace('\\\"a\\\":0', '\\\"a\\\":1')); f.close()\"; ack '{\"a\":1,\"b\":0}'";
const PIPELINE: &str = "
cat x.json > $E/old; foreign b 5; jq -c .a=1 $E/old > $E/new; cat $E/new > x.json
ack '{\"a\":0,\"b\":5}'; ack '{\"a\":1,\"b\":0}'";
const BACKUP: &str = "
cp x.json $E/bak; foreign a 1; foreign a 2; cp $E/bak x.json
ack '{\"a\":1,\"b\":0}'; ack '{\"a\":2,\"b\":0}'; ack '{\"a\":0,\"b\":0}'";
const OLD_EDITED: &str = "
cp x.json $E/old; foreign a 1; foreign a 2; sed -i 's/\"a\":0/\"a\":9/' $E/old; cp $E/old x.json
ack '{\"a\":2,\"b\":0}'; ack '{\"a\":9,\"b\":0}'";
const THREE_AGO: &str = "
cp x.json $E/old; for i in 1 2 3; do foreign a $i; done
sed -i 's/\"a\":0/\"a\":9/' $E/old; cat $E/old > x.json; ack '{\"a\":3,\"b\":0}'; ack '{\"a\":9,\"b\":0}'";
const RSYNC: &str = "
mkdir $E/src; sed 's/\"a\":0/\"a\":1/' x.json > $E/src/x.json; touch -d 2020-01-02 $E/src/x.json
rsync -a $E/src/x.json .; ack '{\"a\":1,\"b\":0}'; test $(stat -c %Y x.json) = $(stat -c %Y $E/src/x.json)
test -z \"$(rsync -ai $E/src/x.json .)\"; rsync -ac $E/src/x.json .";
const RSYNC_INPLACE: &str = "
mkdir $E/src; sed 's/\"a\":0/\"a\":1/' x.json > $E/src/x.json; touch -d 2020-01-02 $E/src/x.json
rsync -a --inplace $E/src/x.json .; ack '{\"a\":1,\"b\":0}'; test $(stat -c %Y x.json) = $(stat -c %Y $E/src/x.json)";
const RSYNC_OVER: &str = "
mkdir $E/src; sed 's/\"a\":0/\"a\":1/' x.json > $E/src/x.json; foreign b 5
rsync -a $E/src/x.json .; ack '{\"a\":0,\"b\":5}'; ack '{\"a\":1,\"b\":0}'";
const CP_OTHER: &str = "
cp x.json y.json; test \"$(jq -r ._id y.json)\" = y; ls $S/y | grep -q ^0-; test \"$(jq -r ._rev y.json)\" = $(ls $S/y)";
const APPEND: &str = "
py \"
f = open('x.json', 'r+'); f.truncate(len(f.read()) - 2); f.seek(0, 2); f.write(',\\\"c\\\":1}'); f.close()\"
ack '{\"a\":0,\"b\":0,\"c\":1}'";
const FSYNC: &str = "
py \"
f = open('x.json', 'w'); f.write('{\\\"a\\\":1}'); f.flush(); os.fsync(f.fileno()); os.fchmod(f.fileno(), 0o600)
f.close()\"; ack '{\"a\":1}'; test $(stat -c %a x.json) = 600";
const NO_JSON: &str = "
echo '[1]' > $E/t; ! cp $E/t x.json 2> $E/said; grep -q 'Bad message' $E/said; cat .drafts/x/* | grep -q '\\[1\\]'
cp $E/t t; ! mv t x.json 2> /dev/null; printf '[1]\\n\\0' >> $E/acked";
const OPEN_RM: &str = "
exec 3> x.json; rm x.json; echo '{\"late\":1}' >&3; exec 3>&-; ack '{\"late\":1}'; test ! -e x.json
for i in $(seq 100); do ls .drafts/x > /dev/null 2>&1 && break; sleep 0.05; done";
const NODE: &str = "
cat > $E/n.js <<'N'
const fs = require('fs'), o = JSON.parse(fs.readFileSync('x.json'));
require('child_process').execFileSync('orig', ['change', 'x', '{\"b\":5}']);
o.a = 1; fs.writeFileSync('x.json', JSON.stringify(o));
N
node $E/n.js; ack '{\"a\":1,\"b\":0}'; ack '{\"a\":0,\"b\":5}'";
