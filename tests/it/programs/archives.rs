//! Archives, compressors, and git with the mount as its work tree.

use super::{names_in, row, table};
use crate::mounted::Place;

macro_rules! packed {
    ($rest:literal) => {
        concat!("mkdir -p $E/d; json > $E/d/x.json; touch -d 2020-01-0$V $E/d/x.json; ", $rest)
    };
}

#[test]
fn archives() {
    table(&[
        row("tar -xf", packed!("tar -C $E/d -cf $E/a.tar x.json; tar -xf $E/a.tar")).times(),
        row("tar --overwrite", packed!("tar -C $E/d -cf $E/a.tar x.json; tar --overwrite -xf $E/a.tar")).times(),
        row("tar -U", packed!("tar -C $E/d -cf $E/a.tar x.json; tar -U -xf $E/a.tar")).times(),
        row("tar -xpf --same-owner, sparse", packed!("tar -S -C $E/d -cf $E/a.tar .; tar -S -xpf $E/a.tar --same-owner")).times(),
        row("tar -xm", packed!("tar -C $E/d -czf $E/a.tgz x.json; tar -xmzf $E/a.tgz")),
        row("tar -k keeps", packed!("tar -C $E/d -cf $E/a.tar x.json; ! tar -kxf $E/a.tar 2>/dev/null; cp $E/d/x.json x.json")),
        row("tar --keep-newer-files", packed!("touch -d 2060-01-0$V $E/d/x.json; tar -C $E/d -cf $E/a.tar x.json; tar --keep-newer-files -xf $E/a.tar")).times(),
        row("tar within, through a scratch file", packed!("tar -C $E/d -cf a.tar x.json; tar -xf a.tar; rm a.tar")).times(),
        row("tar pipe", packed!("tar -C $E/d -c . | tar -x")).times(),
        row("cpio -pdmu", packed!("(cd $E/d; echo x.json | cpio -pdmu --quiet $OLDPWD)")).times(),
        row("cpio -i", packed!("(cd $E/d; echo x.json | cpio -oH newc --quiet > $E/a.cpio); cpio -imu --quiet < $E/a.cpio")).times(),
        row("zip and unzip -o", packed!("rm -f $E/a.zip; (cd $E/d; zip -q $E/a.zip x.json); unzip -qo $E/a.zip")).times(),
        row("zip into the mount", packed!("rm -f a.zip; (cd $E/d; zip -q $E/a.zip x.json; zip -qu $E/a.zip x.json || test $? = 12); cp $E/a.zip .; unzip -qo a.zip; rm a.zip")).times(),
        row("zip made in the mount", "sed -i s/$O/$V/ x.json; rm -f a.zip; zip -q a.zip x.json; zip -qu a.zip x.json || test $? = 12; zip -qd a.zip x.json 2>/dev/null; zip -q a.zip x.json; unzip -qqt a.zip; rm a.zip"),
        row("python zipfile", packed!("cd $E/d; python3 -m zipfile -c $E/a.zip x.json; cd $OLDPWD; python3 -m zipfile -e $E/a.zip .")),
        row("busybox tar", packed!("tar -C $E/d -cf $E/a.tar x.json; busybox tar -xf $E/a.tar")).times(),
        row("busybox unzip", packed!("rm -f $E/a.zip; (cd $E/d; zip -q $E/a.zip x.json); busybox unzip -qo $E/a.zip")),
        row("gunzip -f", packed!("gzip -kf $E/d/x.json; cp -p $E/d/x.json.gz .; gunzip -f x.json.gz")).times(),
        row("gzip and gunzip", "sed -i s/$O/$V/ x.json; gzip -n x.json; gunzip x.json.gz"),
        row("bzip2 -d", packed!("bzip2 -kf $E/d/x.json; cp -p $E/d/x.json.bz2 .; bunzip2 -f x.json.bz2")).times(),
        row("xz -d", packed!("xz -kf $E/d/x.json; cp -p $E/d/x.json.xz .; xz -df x.json.xz")).times(),
    ]);
}

/// Two commits, `old` and `new`, that hold the value before and the one to save; the work tree is at the old one.
macro_rules! git {
    ($rest:literal) => {
        concat!(
            "export GIT_DIR=$E/g GIT_WORK_TREE=$PWD; git init -q $E/g 2>/dev/null; git config advice.detachedHead false; ",
            "git add x.json; git commit -q --allow-empty -m old; git branch -qf old; ",
            "cp x.json $E/old.json; export GIT_WORK_TREE=$E/w; mkdir -p $E/w; json > $E/w/x.json; ",
            "git checkout -q --detach old 2>/dev/null; json > $E/w/x.json; git commit -qa --allow-empty -m new; git branch -qf new; ",
            "git update-ref --no-deref HEAD old; export GIT_WORK_TREE=$PWD; git read-tree old; git update-index -q --refresh || true; ",
            $rest
        )
    };
}

#[test]
fn git_with_the_mount_as_its_work_tree() {
    table(&[
        row("git checkout", git!("git checkout -q new; test -z \"$(git status --porcelain)\"")),
        row("git checkout -- file", git!("git checkout -q new -- x.json")),
        row("git restore", git!("git restore --source=new x.json")),
        row("git switch", git!("git switch -q --detach new; git status --porcelain")),
        row("git reset --hard", git!("git reset -q --hard new; git status --porcelain")),
        row("git merge", git!("git merge -q --ff-only new; git status --porcelain")),
        row("git merge --no-ff", git!("git merge -q --no-ff -m m new; git status --porcelain")),
        row("git rebase", git!("git rebase -q new; git status --porcelain")),
        row("git cherry-pick", git!("git cherry-pick --allow-empty new > /dev/null; git status --porcelain")),
        row("git apply", git!("git diff --binary old new > $E/p; test ! -s $E/p || git apply $E/p")),
        row(
            "git am",
            git!(
                "git format-patch -q --stdout old..new > $E/p; test $O = $V || git am -q $E/p; git status --porcelain"
            ),
        ),
        // Changed, stashed away, brought back: three saves.
        row(
            "git stash and pop",
            git!("json > x.json; git stash -q; git stash pop -q; git status --porcelain"),
        )
        .revisions_each(3)
        .never_the_same(),
        row(
            "git checkout -p",
            git!("git read-tree new; printf 'y\\ny\\n' | git checkout -p -- x.json > /dev/null 2>&1"),
        ),
        row("git mv away and back", git!("git mv x.json y; git mv y x.json; git checkout -q new")),
        row("git rm and checkout", git!("git rm -q x.json; git checkout -q new -- x.json")),
        row(
            "git init in the mount",
            "git init -q . ; json > x.json; git add x.json; git commit -qm m --allow-empty; git gc -q; git fsck --no-progress; git status --porcelain; rm -r .git",
        ),
        row(
            "git clone into the mount",
            "rm -rf $E/c c; git init -q $E/c; json > $E/c/x.json; git -C $E/c add .; git -C $E/c commit -qm m; git clone -q $E/c c; mv c/x.json x.json; git -C c status --porcelain; rm -rf c",
        ),
        row(
            "git worktree",
            "test -e $E/c || { git init -q $E/c; git -C $E/c commit -q --allow-empty -m m; }; rm -rf w; git -C $E/c worktree prune; git -C $E/c worktree add -q --detach $PWD/w; json > w/x.json; git -C w add .; mv w/x.json x.json; git -C $E/c worktree remove --force $PWD/w",
        ),
    ]);
}

/// What saves many objects at once makes one revision of each that it changes.
#[test]
fn programs_that_save_many_objects() {
    const OBJECTS: usize = 60;
    let place = Place::new();
    let mount = place.mount(&[]);
    mount.sh_ok(&format!(
        "for i in {{1..{OBJECTS}}}; do echo \"{{\\\"v\\\":0,\\\"i\\\":$i}}\" > o$i.json; done"
    ));
    let git = "git --git-dir=../side/g --work-tree=. -c user.name=t -c user.email=t@t";
    mount.sh_ok(&format!("git --git-dir=../side/g init -q; {git} add -A; {git} commit -qm zero"));
    let revisions = || (1..=OBJECTS).map(|i| place.revs(&format!("o{i}")).len()).sum::<usize>();
    let mut last = revisions();
    let mut out = String::new();
    for (program, script, each) in [
        ("sed -i *.json", "sed -i 's/\"v\":0/\"v\":1/' *.json", 1),
        ("perl -pi *.json", "perl -pi -e 's/\"v\":1/\"v\":2/' *.json", 1),
        ("find -exec sed -i {} +", "find . -name '*.json' -exec sed -i 's/\"v\":2/\"v\":3/' {} +", 1),
        ("xargs -P", "ls *.json | xargs -P 8 -n 5 sed -i 's/\"v\":3/\"v\":4/'", 1),
        (
            "git checkout . and back",
            "git --git-dir=../side/g --work-tree=. checkout -q .; sed -i 's/\"v\":0/\"v\":4/' *.json",
            2,
        ),
        (
            "rsync -a --delete",
            "cp -a . ../side/r; sed -i 's/\"v\":4/\"v\":5/' ../side/r/*.json; touch ../side/r/*.json; rsync -aI --delete ../side/r/ ./",
            1,
        ),
        ("rsync -a --delete again", "rsync -ai --delete ../side/r/ ./; rsync -aci --delete ../side/r/ ./", 0),
        ("tar pipe", "sed -i 's/\"v\":5/\"v\":6/' ../side/r/*.json; tar -C ../side/r -c . | tar -x", 1),
        ("cp -a", "sed -i 's/\"v\":6/\"v\":7/' ../side/r/*.json; cp -a ../side/r/. .", 1),
        (
            "unzip",
            "sed -i 's/\"v\":7/\"v\":8/' ../side/r/*.json; (cd ../side/r; zip -q ../z *.json); rm *.json; unzip -q ../side/z",
            1,
        ),
        ("jq into itself, all at once", "for f in *.json; do jq -c .v=9 $f > $f & done; wait", 1),
        ("mv away, cp back", "mkdir old; mv *.json old; cp -p old/*.json .; rm -r old", 0),
        ("mv away, mv back", "mkdir old; mv *.json old; mv old/* .; rmdir old", 0),
        (
            "mv to other names and back",
            "for f in *.json; do mv $f ${f%.json}; done; for f in o*; do mv $f $f.json; done",
            0,
        ),
        ("rm, tar -x", "tar -cf ../side/a.tar .; rm -rf *; tar -xf ../side/a.tar", 0),
        ("rm, git checkout .", "rm *.json; git --git-dir=../side/g --work-tree=. checkout -q .", 1),
        ("rm -r, rsync", "rm -rf ./*; rsync -a ../side/r/ ./", 1),
        (
            "node, all at once",
            "node -e 'const fs = require(\"fs\").promises; (async () => { for (const f of await fs.readdir(\".\")) fs.writeFile(f, JSON.stringify({ v: 10, f })) })()'",
            1,
        ),
        (
            "python threads",
            "python3 -c '
import json, os
from concurrent.futures import ThreadPoolExecutor
def save(name):
    with open(name, \"r+\") as f: d = json.load(f); d[\"v\"] = 11; f.seek(0); f.truncate(); json.dump(d, f)
with ThreadPoolExecutor(8) as pool: list(pool.map(save, os.listdir(\".\")))'",
            1,
        ),
        (
            "npm pkg set",
            "echo '{\"name\":\"x\",\"version\":\"1.0.0\"}' > package.json; export HOME=$PWD/../side; npm pkg set description=d; \
          npm version patch --no-git-tag-version >/dev/null; test $(ls ../store/package | wc -l) = 3; rm package.json",
            0,
        ),
    ] {
        mount.sh_ok(&format!("set -e -o pipefail; {script}"));
        let made = revisions() - last;
        last += made;
        out += &format!(
            "{program:44} | {:5} | {made:9} | {:9} |\n",
            OBJECTS * each,
            names_in(&mount.path(".conflicts")).len()
        );
        assert_eq!(made, OBJECTS * each, "{program}\n{out}");
        assert_eq!(mount.names().len(), OBJECTS, "{program}");
        for view in [".conflicts", ".drafts"] {
            assert_eq!(names_in(&mount.path(view)), [""; 0], "{program}");
        }
    }
    println!("\n{:44} | saves | revisions | conflicts | left behind\n{out}", "program");
    place.assert_clean();
}
