//! Programs that people edit objects with, as they are.

use std::fs;

use crate::mounted::{Mount, Place};

fn value(m: &Mount) -> String {
    m.sh_ok("jq -c . a.json").trim().to_owned()
}

/// Runs vim without a terminal; the script's commands report what vim said into `said`.
fn vim(m: &Mount, place: &Place, set: &str, commands: &str) -> String {
    let said = place.work().join("said");
    let script = place.work().join("script.vim");
    let _ = fs::remove_file(&said);
    fs::write(
        &script,
        format!(
            "let g:said = []\n\
             autocmd FileChangedShell * call add(g:said, 'W11 or W12: ' . v:fcs_reason)\n\
             set {set}\n\
             function! Save()\n try\n  silent w\n catch\n  call add(g:said, v:exception)\n endtry\nendfunction\n\
             {commands}\ncall writefile(g:said, '{}')\nqa!\n",
            said.display()
        ),
    )
    .unwrap();
    m.sh_ok(&format!(
        "timeout 60 vim -u NONE -i NONE -N -es --cmd 'set backupskip=' a.json -S {} </dev/null >/dev/null 2>&1 || true",
        script.display()
    ));
    fs::read_to_string(&said).expect("vim ran to the end")
}

#[test]
fn vim_saves_three_times_in_one_session() {
    for set in [
        "backupcopy=auto",
        "backupcopy=yes",
        "backupcopy=no",
        "nowritebackup",
        "backup backupcopy=no",
        "backup backupcopy=yes",
        "nofsync",
        "noswapfile undofile undodir=.",
    ] {
        let place = Place::new();
        let m = place.mount(&[]);
        m.write("a.json", "{\"v\":1}\n");
        let step = "%s/\\d\\+/\\=submatch(0)+1/\ncall Save()\nchecktime\nsleep 50m\n";
        let said = vim(&m, &place, set, &step.repeat(3));
        assert_eq!(said, "", "{set}");
        assert_eq!(value(&m), "{\"v\":4}", "{set}");
        assert_eq!(place.revs("a").len(), 4, "{set}");
        m.sh_ok("rm -f a.json~ .*.un~");
        assert_eq!(m.names(), ["a.json"], "{set}");
        assert_eq!(value(&m), "{\"v\":4}", "{set}");
        place.assert_clean();
    }
}

#[test]
fn vim_is_told_when_another_process_changed_the_object() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"v\":1}\n");
    let said = vim(
        &m,
        &place,
        "backupcopy=auto",
        &format!(
            "call system(\"echo '{{\\\"v\\\":2,\\\"other\\\":true}}' > {}\")\nsleep 1100m\nchecktime\n",
            m.path("a.json").display()
        ),
    );
    assert!(said.contains("changed"), "{said:?}");
}

#[test]
fn vim_learns_that_its_text_was_refused() {
    for set in ["backupcopy=auto", "backupcopy=yes"] {
        let place = Place::new();
        let m = place.mount(&[]);
        m.write("a.json", "{\"v\":1}\n");
        let said = vim(&m, &place, set, "%s/}//\ncall Save()\n");
        assert!(said.contains("E"), "{set}: vim believes that it saved: {said:?}");
        assert_eq!(value(&m), "{\"v\":1}", "{set}");
        assert_eq!(place.revs("a").len(), 1, "{set}");
    }
}

#[test]
fn stream_editors_and_temporary_files() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"v\":1}\n");
    let mut revs = 1;
    for script in [
        "sed -i 's/1/2/' a.json",
        "sed -i.bak 's/2/3/' a.json && rm a.json.bak",
        "perl -pi -e 's/3/4/' a.json",
        "jq -c '.v=5' a.json > t && mv t a.json",
        "jq -c '.v=6' a.json | sponge a.json",
        "jq -c '.v=7' a.json > a.json",
        "jq -c '.v=8' a.json > ../side/t && mv ../side/t a.json",
        "jq -c '.v=9' a.json | dd of=a.json conv=notrunc status=none",
        "jq -c '.v=10' a.json | tee a.json >/dev/null",
        "echo '{\"v\":11}' > t.json && mv t.json a.json",
        "printf '%s\\n' '--- a.json' '+++ a.json' '@@ -1 +1 @@' '-{\"v\":11}' '+{\"v\":12}' | patch -s a.json",
        "python3 -c \"
import json
with open('a.json', 'r+') as f:
    d = json.load(f); d['v'] = 13; f.seek(0); f.truncate(); json.dump(d, f)\"",
        "python3 -c \"
import json, os, tempfile
d = json.load(open('a.json')); d['v'] = 14
with tempfile.NamedTemporaryFile('w', dir='.', delete=False) as f:
    json.dump(d, f); f.flush(); os.fsync(f.fileno())
os.replace(f.name, 'a.json')\"",
        "node -e \"const fs=require('fs');const o=JSON.parse(fs.readFileSync('a.json'));o.v=15;fs.writeFileSync('a.json',JSON.stringify(o))\"",
        "node -e \"const fs=require('fs').promises;(async()=>{const o=JSON.parse(await fs.readFile('a.json'));o.v=16;await fs.writeFile('t.tmp',JSON.stringify(o));await fs.rename('t.tmp','a.json')})()\"",
        "echo '{\"v\":17}' > ../side/s.json && rsync -a ../side/s.json a.json",
        "echo '{\"v\":18,\"longer\":1}' > ../side/s.json && rsync -a --inplace ../side/s.json a.json",
        "echo '{\"v\":19}' > ../side/s.json && rsync -a --inplace --ignore-times ../side/s.json a.json",
    ] {
        let before = value(&m);
        m.sh_ok(&format!("set -o pipefail; {script}"));
        revs += 1;
        assert_ne!(value(&m), before, "{script}");
        assert_eq!(place.revs("a").len(), revs, "{script}");
        assert_eq!(m.sh_ok("ls -A | grep -v '^a.json$' || true"), "", "{script}");
        assert!(m.sh_ok("ls .conflicts").is_empty(), "{script}");
        // An object made and renamed away leaves its own history behind; that is all there may be besides.
        place.assert_clean();
    }
}

#[test]
fn what_vs_code_does() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"v\":1}\n");
    // Its ordinary save: open without truncation, truncate, write, fsync, close, stat.
    let save = "
const fs = require('fs');
for (let v = 2; v < 5; v++) {
  const old = fs.readFileSync('a.json', 'utf8');
  const fd = fs.openSync('a.json', fs.constants.O_WRONLY | fs.constants.O_CREAT);
  fs.ftruncateSync(fd, 0);
  fs.writeSync(fd, old.replace(/\\d+/, v));
  fs.fdatasyncSync(fd);
  const through = fs.fstatSync(fd);
  fs.closeSync(fd);
  const after = fs.statSync('a.json');
  if (through.mtimeMs !== after.mtimeMs || through.size !== after.size || through.ino !== after.ino)
    throw new Error(JSON.stringify([through, after]));
}";
    fs::write(place.work().join("save.js"), save).unwrap();
    m.sh_ok("node ../side/save.js");
    assert_eq!((value(&m).as_str(), place.revs("a").len()), ("{\"v\":4}", 4));
}

#[test]
fn rsync_twice_transfers_nothing_and_keeps_times() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.sh_ok(
        "mkdir ../side/src; for i in 1 2 3; do echo \"{\\\"n\\\":$i}\" > ../side/src/o$i.json; \
         touch -d \"2020-01-0$i 03:04:05.123456789\" ../side/src/o$i.json; done; rsync -a ../side/src/ ./",
    );
    assert_eq!(m.sh_ok("rsync -ai ../side/src/ ./ | grep -v '/$' || true"), "");
    assert_eq!(m.sh_ok("stat -c %y o2.json ../side/src/o2.json | sort -u | wc -l").trim(), "1");
    assert_eq!(place.revs("o2").len(), 1);
    assert_eq!(m.names(), ["o1.json", "o2.json", "o3.json"]);
    m.stop();
    let m = place.mount(&[]);
    assert_eq!(m.sh_ok("rsync -ai ../side/src/ ./ | grep -v '/$' || true"), "");
}

#[test]
fn a_tool_that_walks_sees_each_object_once() {
    let place = Place::new();
    let m = place.mount(&[]);
    for n in 0..3 {
        m.write("a.json", format!("{{\"k\":\"needle{n}\"}}"));
    }
    m.write("b.json", "{\"k\":\"x\"}");
    m.sh_ok("mkdir dir; echo needle > dir/scratch.json");
    assert_eq!(m.sh_ok("grep -rl needle . | sort"), "./a.json\n./dir/scratch.json\n");
    assert_eq!(m.sh_ok("find . -type f | sort"), "./a.json\n./b.json\n./dir/scratch.json\n");
    m.sh_ok("tar -cSf ../side/t.tar . && mkdir ../side/x && tar -C ../side/x -xf ../side/t.tar && diff -r . ../side/x");
    m.sh_ok("cp -a . ../side/copy && diff -r . ../side/copy");
}

#[test]
fn git_keeps_the_objects_as_its_work_tree() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}\n");
    m.write("b.json", "{\"b\":1}\n");
    let git = "git --git-dir=../side/g --work-tree=. -c user.name=t -c user.email=t@t";
    m.sh_ok(&format!("git --git-dir=../side/g init -q && {git} add -A && {git} commit -qm one"));
    assert_eq!(m.sh_ok(&format!("{git} status --porcelain")), "");
    m.write("a.json", "{\"a\":2}\n");
    assert_eq!(m.sh_ok(&format!("{git} status --porcelain")), " M a.json\n");
    m.sh_ok(&format!("{git} commit -qam two && {git} checkout -q HEAD~1 -- a.json"));
    assert_eq!((m.read("a.json").as_str(), place.revs("a").len()), ("{\"a\":1}\n", 3));
    m.sh_ok(&format!("{git} reset -q --hard && {git} stash list && {git} clean -nd"));
    assert_eq!(m.read("a.json"), "{\"a\":2}\n");
    assert_eq!(m.sh_ok(&format!("{git} ls-files")), "a.json\nb.json\n");
    // Its index holds for the next mount.
    m.stop();
    let m = place.mount(&[]);
    assert_eq!(m.sh_ok(&format!("{git} diff-files --name-only")), "");
    place.assert_clean();
}

#[test]
fn a_shell_that_goes_on_writing_is_in_conflict_with_nobody() {
    let place = Place::new();
    let m = place.mount(&[]);
    let shell = |script: &str| m.sh_ok(&format!("set -e -o pipefail; {script}"));
    shell("echo '{\"a\":1}' > a.json; sed -i s/1/2/ a.json; echo '{\"a\":3}' > a.json");
    assert_eq!((m.read("a.json").as_str(), m.sh_ok("ls .conflicts").as_str()), ("{\"a\":3}\n", ""));
    shell("echo '{\"a\":1}' > b.json; jq -c .b=1 b.json | sponge b.json; echo '{\"a\":5}' > b.json");
    assert_eq!(m.read("b.json"), "{\"a\":5}\n");
    shell("echo '{\"a\":1}' > c.json; jq -c .b=1 c.json | sponge c.json; echo '{\"a\":1}' > c.json");
    assert_eq!((m.read("c.json").as_str(), place.revs("c").len()), ("{\"a\":1}\n", 3));
}

#[test]
fn an_old_revision_copied_back_is_a_restore() {
    let place = Place::new();
    let m = place.mount(&[]);
    m.write("a.json", "{\"a\":1}\n");
    m.write("a.json", "{\"a\":2}\n");
    let old = place.revs("a")[0].clone();
    // As the command shows it, with its stamps.
    let revfs = env!("CARGO_BIN_EXE_revfs");
    m.sh_ok(&format!("{revfs} get --rev {old} ../store a > ../side/old; cp ../side/old a.json"));
    assert_eq!(m.sh_ok("jq .a a.json; ls .conflicts"), "1\n");
    assert_eq!(place.revs("a").len(), 3);
    m.sh_ok(&format!("{revfs} get ../store a | {revfs} update ../store"));
    assert_eq!(place.revs("a").len(), 3, "what is there already is no revision");
}
