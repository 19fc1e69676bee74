//! Stream editors, copies, moves.

use super::{row, session, table};

#[test]
fn stream_editors() {
    table(&[
        row("sed -i", "sed -i s/$O/$V/ x.json"),
        row("sed -i.bak", "sed -i.bak s/$O/$V/ x.json"),
        row("sed -i with a backup elsewhere", "mkdir -p b; sed -i'b/*' s/$O/$V/ x.json"),
        row("sed -i --follow-symlinks", "sed -i --follow-symlinks s/$O/$V/ l").setup("ln -s x.json l"),
        row("sed w", "sed s/$O/$V/w$E/t x.json >/dev/null; cat $E/t > x.json"),
        row("perl -pi", "perl -pi -e s/$O/$V/ x.json"),
        row("perl -pi.bak", "perl -pi.bak -e s/$O/$V/ x.json"),
        row("gawk -i inplace with a suffix", "gawk -i inplace -v inplace::suffix=~ '{sub(ENVIRON[\"O\"], ENVIRON[\"V\"]); print}' x.json; grep -q $O x.json~; rm x.json~"),
        row("gawk -i inplace", "gawk -i inplace '{sub(ENVIRON[\"O\"], ENVIRON[\"V\"]); print}' x.json"),
        // A patch that was applied is refused: there is no save without a change.
        row("patch", DIFF).never_the_same(),
        row("patch -b", DIFF_B).never_the_same(),
        row("jq into a file, mv", "jq -c .v=$V x.json > t; mv t x.json"),
        row("jq into itself", "json > $E/t; jq -c . $E/t > x.json"),
        row("jq and sponge", "jq -c .v=$V x.json | sponge x.json"),
        row("tee", "json | tee x.json > /dev/null"),
        row("tee two", "json | tee x.json y.json > /dev/null"),
        row("dd", "json | dd of=x.json status=none"),
        row("dd conv=notrunc,fsync", "json | dd of=x.json conv=notrunc,fsync status=none"),
        row("dd seek", "printf $V | dd of=x.json bs=1 seek=5 conv=notrunc status=none"),
        row("dd oflag=direct,sync", "json | dd of=x.json oflag=sync status=none"),
        row("truncate and append", "truncate -s 0 x.json; json >> x.json"),
        row("truncate -s to a prefix", "printf '{\"v\":%s}\\n{' $V > $E/t; cp $E/t t; truncate -s -1 t; mv t x.json"),
        // Two complete texts, one after the other: two saves.
        row("truncate an object", "printf '{\"v\":%s}\\n ' $V > x.json; truncate -s -1 x.json")
            .revisions_each(2)
            .never_the_same(),
        row("echo >", "echo \"{\\\"v\\\":$V}\" > x.json"),
        row("cat > with a here-document", "cat > x.json <<E\n{\"v\":$V}\nE"),
        row("several commands into one file", "{ echo '{'; /bin/echo \"\\\"v\\\":$V\"; echo '}'; } > x.json"),
        row("appending to an emptied file", ": > x.json; echo '{' >> x.json.t; rm x.json.t; json >> x.json"),
        // Each printf closes a copy of the descriptor: the first finds half a text, which is put aside until the second.
        row("exec and a kept descriptor", "exec 3> x.json; printf '{\"v\":' >&3; printf '%s}\\n' $V >&3; exec 3>&-").warns(),
        row("sort -o", "json > $E/t; sort -o x.json $E/t"),
        row("sort -o in place", "sed -i s/$O/$V/ x.json; sort -o x.json x.json"),
        row("base64 -d", "json | base64 | base64 -d > x.json"),
        row("xxd -r in place", "printf '5: %02x' \"'$V\" | xxd -r - x.json"),
        row("iconv -o", "json > $E/t; iconv -f utf-8 -t utf-8 -o x.json $E/t"),
        row("curl -o", "json > $E/t; curl -sS -o x.json file://$E/t"),
        row("python -m json.tool", "json > $E/t; python3 -m json.tool --compact $E/t x.json"),
        row("split and cat", "json | split -b 3 - part.; cat part.* > x.json; rm part.*"),
        row("shuf -o", "json > $E/t; shuf -o x.json $E/t"),
        row("fallocate first", "fallocate -l 8 t; json > t; mv t x.json"),
        row("busybox sed -i", "busybox sed -i s/$O/$V/ x.json"),
        row("busybox cp and mv", "json > $E/t; busybox cp $E/t t; busybox mv t x.json"),
        row("script -c", "script -qec 'printf \"{\\\"v\\\":%s}\\n\" $V > x.json' /dev/null"),
        row("flock", "flock x.json -c 'sed s/$O/$V/ x.json > t; cat t > x.json; rm t'"),
        row("flock of a file beside", "flock .lock sed -i s/$O/$V/ x.json"),
        row("mktemp -p . and mv", "t=$(mktemp -p .); json > $t; chmod 644 $t; mv $t x.json"),
        row("mktemp -p . --suffix and mv", "t=$(mktemp -p . --suffix=.json); json > $t; chmod 644 $t; mv $t x.json"),
        session("sed -i thrice in one shell", "for v in 2 3 4; do sed -i s/[0-9]/$v/ x.json; done"),
        session("a shell that writes thrice", "for v in 2 3 4; do echo \"{\\\"v\\\":$v}\" > x.json; done"),
        session(
            "chmod and touch between saves",
            "for v in 2 3 4; do touch x.json; chmod 600 x.json; sed -i s/[0-9]/$v/ x.json; touch -d 2020-01-0$v x.json; done",
        )
        .times(),
    ]);
}

const DIFF: &str =
    "printf -- '--- x.json\\n+++ x.json\\n@@ -1 +1 @@\\n-{\"v\":%s}\\n+{\"v\":%s}\\n' $O $V | patch -s";
const DIFF_B: &str = "printf -- '--- x.json\\n+++ x.json\\n@@ -1 +1 @@\\n-{\"v\":%s}\\n+{\"v\":%s}\\n' $O $V | patch -s -b -p0";

#[test]
fn copies_and_moves() {
    table(&[
        row("cp", "json > $E/t; cp $E/t x.json"),
        row("cp -p", "json > $E/t; touch -d '2020-01-02 03:04:05.123456789' $E/t; cp -p $E/t x.json").times(),
        row("cp -a", "json > $E/t; touch -d '2020-01-02 03:04:05.123456789' $E/t; chmod 640 $E/t; cp -a $E/t x.json")
            .times(),
        row("cp --reflink=auto", "json > $E/t; cp --reflink=auto $E/t x.json"),
        row("cp --remove-destination", "json > $E/t; cp --remove-destination $E/t x.json"),
        row("cp -b", "json > $E/t; cp -b $E/t x.json"),
        row("cp -b --suffix", "json > $E/t; cp --backup=numbered $E/t x.json"),
        row("cp -u", "json > $E/t; touch -d '2060-01-01' $E/t; cp -up $E/t x.json; touch -d 2020-01-01 x.json").times(),
        row("cp -f", "json > $E/t; cp -f $E/t x.json"),
        row("cp -n changes nothing", "json > $E/t; cp -n $E/t x.json; cp $E/t x.json"),
        row("cp within", "json > t; cp t x.json; rm t"),
        row(
            "cp --attributes-only -p",
            "json > $E/t; cp $E/t x.json; chmod 600 $E/t; touch -d 2020-01-0$V $E/t; cp --attributes-only -p $E/t x.json",
        )
        .times(),
        row("install", "json > $E/t; install -m 640 $E/t x.json"),
        row("install -b -p", "json > $E/t; touch -d 2020-01-02 $E/t; install -b -p -m 600 $E/t x.json").times(),
        row("install -C", "json > $E/t; install -C -m 644 $E/t x.json"),
        row("mv from memory", "json > $SHM/t; touch -d 2020-01-02 $SHM/t; mv $SHM/t x.json").times(),
        row("mv from beside", "json > $E/t; touch -d 2020-01-02 $E/t; mv $E/t x.json").times(),
        row("mv within", "json > t; touch -d 2020-01-02 t; mv t x.json").times(),
        row("mv from a directory within", "mkdir -p d; json > d/x.json; mv d/x.json .; rmdir d"),
        row("mv -b", "json > t; mv -b t x.json"),
        row("mv -b from memory", "json > $SHM/t; mv -b $SHM/t x.json"),
        row("mv -n changes nothing", "json > t; mv -n t x.json; mv t x.json"),
        row("mv -u", "json > t; touch -d 206$V-01-01 t; mv -u t x.json").times(),
        row("mv away and back", "mv x.json t; sed -i s/$O/$V/ t; mv t x.json"),
        row("mv out and back", "mv x.json $E/t; sed -i s/$O/$V/ $E/t; mv $E/t x.json"),
        row("mv out to memory and back", "mv x.json $SHM/t; sed -i s/$O/$V/ $SHM/t; mv $SHM/t x.json"),
        row("mv into a directory and back", "mkdir -p d; mv x.json d; sed -i s/$O/$V/ d/x.json; mv d/x.json .; rmdir d"),
        row("rm and cp", "json > $E/t; rm x.json; cp $E/t x.json"),
        row("rm and >", "rm x.json; json > x.json"),
        row("unlink and mv", "json > t; unlink x.json; mv t x.json"),
        row("rsync -a", "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -a $E/t x.json").times(),
        row("rsync", "json > $E/t; rsync -I $E/t x.json"),
        row("rsync --inplace", "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -a --inplace $E/t x.json").times(),
        row("rsync -c", "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -ac $E/t x.json").times(),
        // It appends what is longer, finds that the rest differs, and sends all of it: two saves.
        row("rsync --append-verify", "printf '{\"v\":%s}\\n%*s' $V $V '' > $E/t; rsync -a --append-verify $E/t x.json")
            .revisions_each(2),
        row("rsync --delay-updates", "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -a --delay-updates $E/t x.json")
            .times(),
        row("rsync -T", "mkdir -p tmp; json > $E/t; touch -d 2020-01-0$V $E/t; rsync -a -T $PWD/tmp $E/t x.json").times(),
        row("rsync -T elsewhere", "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -a -T $SHM $E/t x.json").times(),
        row("rsync --backup", "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -a --backup $E/t x.json").times(),
        row(
            "rsync --backup-dir",
            "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -a --backup --backup-dir=old $E/t x.json",
        )
        .times(),
        row("rsync --partial-dir", "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -a --partial-dir=.p $E/t x.json")
            .times(),
        row("rsync --fsync", "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -a --fsync $E/t x.json").times(),
        row("rsync -W --no-times", "json > $E/t; rsync -rW --no-times -I $E/t x.json"),
        row(
            "rsync --delete of a directory",
            "mkdir -p $E/d; json > $E/d/x.json; touch -d 2020-01-0$V $E/d/x.json; touch stray; \
             rsync -a --delete $E/d/ ./; rsync -ai --delete $E/d/ ./",
        )
        .times(),
        row(
            "rsync --delete --inplace --checksum",
            "mkdir -p $E/d; json > $E/d/x.json; touch -d 2020-01-0$V $E/d/x.json; mkdir -p stray/s; \
             rsync -ac --inplace --delete $E/d/ ./; rsync -aci --delete $E/d/ ./",
        )
        .times(),
        row(
            "rsync --copy-dest",
            "mkdir -p $E/d; json > $E/d/x.json; touch -d 2020-01-0$V $E/d/x.json; rsync -a --copy-dest=$E/d $E/d/ ./",
        )
        .times(),
        row("rsync -H", "mkdir -p $E/d; json > $E/d/x.json; touch -d 2020-01-0$V $E/d/x.json; ln -f $E/d/x.json $E/d/y; rsync -aH --exclude y $E/d/ ./"),
        row("a trash can and back", "mkdir -p .Trash-0/files; mv x.json .Trash-0/files/; sed s/$O/$V/ .Trash-0/files/x.json > x.json; rm -r .Trash-0"),
        row("gio trash-like copy", "json > $E/t; gio copy $E/t x.json"),
        row("cp --preserve=all", "json > $E/t; touch -d 2020-01-0$V $E/t; cp --preserve=all $E/t x.json").times(),
        row("rsync -aXA", "json > $E/t; touch -d 2020-01-0$V $E/t; rsync -aXA $E/t x.json").times(),
        row("setfacl and setfattr are refused", "json > x.json; setfacl -m u:1:r x.json 2>/dev/null || true; setfattr -n user.a -v 1 x.json 2>/dev/null || true"),
        row("gio move", "json > t; gio move t x.json"),
    ]);
}
