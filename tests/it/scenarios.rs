//! Who meets whom over one object: each row is one story, played by real programs on real mounts and, beside them, the
//! original library.
//!
//! After each story the mount, the directory, the commands and the original must tell the same: what readers get, which
//! revisions live, what is in conflict. And every text that a program was told is saved must be in the store, among what
//! is gone or among the drafts, stamps aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::mounted::{Mount, Place};
use crate::seed;

mod editors;
mod others;
mod programs;
mod views;

/// The text of `x` at generation 7, where a row does not say another.
const FIRST: &str = "{\"a\":0,\"b\":0}\n";

/// Rows that run at a time; each pair has an original of its own.
const AT_A_TIME: usize = 3;

/// What every script may use: `$S` the store, `$E` a directory beside it, `$R` the name of the first revision, `$M` a
/// second mount where the row asks for one.
///
/// - `orig CALL ARGS…` calls the original; `change` is its getObject, an assignment and its updateObject.
/// - `foreign MEMBER VALUE` is such a change of `x`.
/// - `ack TEXT` notes a text that a program was told is saved.
/// - `vi OPTIONS COMMANDS` is vim on `x.json`, with `Wait(flag)` and `Touch(flag)` to take turns with others; asked
///   whether to write over a file that has changed, its user says yes.
/// - `py CODE` is python with `load()`, `store(object)`, `sh(command)`, all on `x.json`.
/// - `rev N` makes a name of that generation.
const PRELUDE: &str = r#"
set -e -o pipefail
export HOME=$E TERM=xterm LC_ALL=C.UTF-8 PATH=$E:$PATH
ack() { printf '%s\0' "$1" >> $E/acked; }
rev() { printf '%s-%s' $1 $(tr -d - < /proc/sys/kernel/random/uuid); }
vi() {
  local f=$E/$BASHPID.vim
  printf '%s\n' 'function! Wait(f)' ' while !filereadable($E . "/" . a:f)' '  sleep 5m' ' endwhile' 'endfunction' \
    'function! Touch(f)' ' call writefile([], $E . "/" . a:f)' 'endfunction' "autocmd FileChangedShell * let v:fcs_choice = ''" \
    "set $1" "$2" 'qa!' > $f
  yes 2> /dev/null | timeout 30 vim -u NONE -i NONE -N -es --cmd 'set backupskip= shortmess+=A' x.json -S $f > /dev/null 2>&1 || test $? = 141
}
py() {
  timeout 30 python3 -c "
import json, os, subprocess, sys, time
def load(): return json.load(open('x.json'))
def store(o): open('x.json', 'w').write(json.dumps(o, separators=(',', ':')))
def sh(c): subprocess.run(['bash', '-c', c], check=True)
$1"
}
until_there() { until test -e $E/$1; do sleep 0.01; done; }
"#;

/// A call of the original from any shell.
const ORIG: &str = r#"#!/bin/bash
call="[\"$S\",\"$1\",\"$2\"${3:+,$3}]"
exec 9<>/dev/tcp/127.0.0.1/$PORT
echo "$call" >&9
read -r answer <&9
echo "$answer"
[[ $answer == '{"ok"'* ]]
"#;

const SERVER: &str = "
const library = require(process.argv[1] + '/multiprocess-store');
const answer = async ([dir, call, ...args]) => {
  const store = await library.createStore(dir);
  if (call === 'change') return store.updateObject(Object.assign(await store.getObject(args[0]), args[1]));
  if (call === 'update') return store.updateObject({ _id: args[0], ...args[1] });
  return store[call](...args);
};
require('net').createServer(socket => {
  socket.on('error', () => {});
  require('readline').createInterface({ input: socket }).on('line', async line => {
    let said;
    try { said = { ok: (await answer(JSON.parse(line))) ?? null }; } catch (e) { said = { err: e.code || e.message }; }
    socket.end(JSON.stringify(said) + '\\n');
  });
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });";

/// The original library, serving calls on any store, one after the other.
pub struct Original {
    child: Child,
    pub port: u16,
}

impl Original {
    pub fn start() -> Original {
        let mut node = Command::new("node");
        node.args(["-e", SERVER]).arg(seed::dir()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = node.spawn().expect("run node");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Original { child, port: line.trim().parse().expect("the port that node serves at") }
    }

    /// An answer, or the error's code.
    pub fn call(&self, store: &Path, call: &str, args: Value) -> Result<Value, String> {
        let mut all = vec![json!(store.to_str().unwrap()), json!(call)];
        all.extend(args.as_array().unwrap().clone());
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        writeln!(socket, "{}", Value::Array(all)).unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        let mut answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{call}: {line:?}: {e}"));
        match answer.get_mut("ok") {
            Some(ok) => Ok(ok.take()),
            None => Err(answer["err"].as_str().unwrap_or_default().to_owned()),
        }
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One story and how it ends.
struct Row {
    name: &'static str,
    script: &'static str,
    first: &'static str,
    options: &'static [&'static str],
    two: bool,
    /// The daemon lives in a pid namespace of its own, as in a container.
    apart: bool,
    /// What `x` holds at the end, stamps aside; `None` where no `x` is left, `"any"` for any text that was acknowledged.
    text: Option<&'static str>,
    /// How many revisions live; `None` where chance decides.
    revs: Option<usize>,
    /// How many revisions each conflict has.
    groups: &'static [usize],
}

/// A row that ends with one more revision and without a conflict.
fn row(name: &'static str, script: &'static str, text: &'static str) -> Row {
    Row {
        name,
        script,
        first: FIRST,
        options: &[],
        two: false,
        apart: false,
        text: Some(text),
        revs: Some(2),
        groups: &[],
    }
}

impl Row {
    fn first(self, first: &'static str) -> Row {
        Row { first, ..self }
    }

    fn options(self, options: &'static [&'static str]) -> Row {
        Row { options, ..self }
    }

    /// There is a second mount.
    fn two(self) -> Row {
        Row { two: true, ..self }
    }

    /// The daemon cannot tell who calls.
    fn apart(self) -> Row {
        Row { apart: true, ..self }
    }

    fn revs(self, revs: usize) -> Row {
        Row { revs: Some(revs), ..self }
    }

    /// It ends in this many revisions, two of which are in conflict.
    fn pair(self, revs: usize) -> Row {
        Row { revs: Some(revs), groups: &[2], ..self }
    }

    /// It ends in this many revisions, `conflicting` of which are in conflict.
    fn group(self, revs: usize, conflicting: &'static [usize]) -> Row {
        Row { revs: Some(revs), groups: conflicting, ..self }
    }

    /// There is no `x` in the end.
    fn none_left(self) -> Row {
        Row { text: None, revs: Some(0), ..self }
    }

    /// Chance decides how many revisions there are, and which conflict.
    fn by_chance(self) -> Row {
        Row { revs: None, ..self }
    }
}

/// What a row came to.
#[derive(Default)]
struct Found {
    text: String,
    revs: usize,
    groups: Vec<usize>,
    acknowledged: usize,
    faults: Vec<String>,
}

/// Runs all rows, prints the table, and fails if one of them does not end as it must.
fn table(rows: &[Row]) {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let only = std::env::var("REVFS_ROW").ok();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                let original = Original::start();
                while let Some((i, row)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, rows.get(i)?)))
                {
                    if only.as_ref().is_none_or(|only| row.name.contains(only)) {
                        let found = run(row, &original);
                        done.lock().unwrap().insert(i, found);
                    }
                }
            });
        }
    });
    let mut out = format!("{:58} | revs | conflicts | saved | lost | text\n", "scenario");
    let mut faults = Vec::new();
    for (i, found) in &done.into_inner().unwrap() {
        let (name, groups) = (rows[*i].name, format!("{:?}", found.groups));
        let (revs, saved, text) = (found.revs, found.acknowledged, &found.text);
        let lost = found.faults.iter().filter(|fault| fault.starts_with("lost")).count();
        out += &format!("{name:58} | {revs:4} | {groups:9} | {saved:5} | {lost:4} | {text}\n");
        faults.extend(found.faults.iter().map(|fault| format!("{name}: {fault}")));
    }
    println!("\n{out}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A text without its stamps, as JavaScript would compare it.
pub fn plain(text: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(text).ok()?;
    for stamp in ["_id", "_rev"] {
        value.as_object_mut()?.remove(stamp);
    }
    Some(value)
}

/// Every file of the store that holds an object, stamps aside: revisions, what is gone, drafts.
pub fn kept(store: &Path) -> BTreeSet<String> {
    let (mut found, mut dirs) = (BTreeSet::new(), vec![store.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => {
                    let bytes = fs::read(entry.path()).unwrap_or_default();
                    let text = plain(&bytes).map(|v| v.to_string());
                    found.insert(text.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned()));
                }
            }
        }
    }
    found
}

fn run(row: &Row, original: &Original) -> Found {
    let place = Place::new();
    let first = place.seed("x", 7, row.first);
    if row.first.contains("REV") {
        fs::write(place.store().join("x").join(&first), row.first.replace("REV", &first)).unwrap();
    }
    let beside = place.work();
    let orig = beside.join("orig");
    fs::write(&orig, ORIG).unwrap();
    let foreign = beside.join("foreign");
    fs::write(&foreign, "#!/bin/bash\norig change x \"{\\\"$1\\\":$2}\"\n").unwrap();
    for script in [&orig, &foreign] {
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let options: Vec<&str> = row.options.iter().flat_map(|option| ["-o", option]).collect();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_revfs"));
    if row.apart {
        daemon = Command::new("unshare");
        daemon.args(["--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_revfs")]);
    }
    let mount = Mount::by(daemon, &place.store(), &place.point(), &options);
    let second = beside.join("second");
    let _second = row.two.then(|| {
        fs::create_dir(&second).unwrap();
        Mount::new(&place.store(), &second, &options)
    });
    let out = Command::new("timeout")
        .args(["100", "bash", "-c", &format!("{PRELUDE}\n{}", row.script)])
        .current_dir(place.point())
        .env("S", place.store())
        .env("E", &beside)
        .env("M", &second)
        .env("R", &first)
        .env("PORT", original.port.to_string())
        .env("REVFS", env!("CARGO_BIN_EXE_revfs"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut found = Found::default();
    if !out.status.success() {
        let said = [out.stdout, out.stderr].map(|s| String::from_utf8_lossy(&s).into_owned()).concat();
        found.faults.push(format!("{}: {said}", out.status));
    }
    found.look(row, &place, &mount, original);
    if !found.faults.is_empty() {
        found.faults.push(format!("revisions {:?}; the daemon said:\n{}", place.revs("x"), mount.log()));
    }
    found
}

impl Found {
    fn look(&mut self, row: &Row, place: &Place, mount: &Mount, original: &Original) {
        let acked = fs::read(place.work().join("acked")).unwrap_or_default();
        let acked: Vec<String> = acked
            .split(|&b| b == 0)
            .filter(|text| !text.is_empty())
            .map(|text| {
                plain(text).map_or_else(|| String::from_utf8_lossy(text).into_owned(), |v| v.to_string())
            })
            .collect();
        self.acknowledged = acked.len();
        let kept = kept(&place.store());
        self.faults
            .extend(acked.iter().filter(|text| !kept.contains(*text)).map(|text| format!("lost: {text}")));
        place.assert_clean();

        let shown = fs::read(mount.path("x.json")).ok().map(|text| plain(&text));
        self.text = shown.as_ref().map_or("-".into(), |v| v.as_ref().map_or("?".into(), Value::to_string));
        let right = match row.text {
            None => shown.is_none(),
            Some("any") => acked.contains(&self.text),
            Some(text) => shown == Some(plain(text.as_bytes())),
        };
        if !right {
            self.faults.push(format!("readers get {}, not {:?}", self.text, row.text));
        }
        let theirs = original.call(&place.store(), "getObject", json!(["x"]));
        let theirs = theirs.map_or("-".into(), |v| plain(v.to_string().as_bytes()).unwrap().to_string());
        if theirs != self.text {
            self.faults.push(format!("the original's getObject says {theirs}, the mount {}", self.text));
        }

        let revs = place.revs("x");
        self.revs = revs.len();
        if row.revs.is_some_and(|wanted| wanted != self.revs) {
            self.faults.push(format!("{} revisions, not {:?}", self.revs, row.revs));
        }
        if self.revs == 0 {
            return;
        }
        let theirs = original.call(&place.store(), "getConflicts", json!(["x"])).unwrap();
        let command = Command::new(env!("CARGO_BIN_EXE_revfs"))
            .args(["conflicts", "--json"])
            .arg(place.store())
            .arg("x")
            .output()
            .unwrap();
        let ours: Value = serde_json::from_slice(&command.stdout).unwrap_or_default();
        if ours != theirs {
            self.faults.push(format!("conflicts --json says {ours}, getConflicts {theirs}"));
        }
        self.groups =
            theirs.as_array().unwrap().iter().map(|group| group.as_array().unwrap().len()).collect();
        if row.revs.is_some() && self.groups != row.groups {
            self.faults.push(format!("conflicts of {:?}, not {:?}", self.groups, row.groups));
        }
        let listed = names(&mount.path(".conflicts"));
        if listed != if self.groups.is_empty() { vec![] } else { vec!["x".to_owned()] } {
            self.faults.push(format!(".conflicts lists {listed:?}"));
        }
        let listed = names(&mount.path(".conflicts/x"));
        if listed != revs {
            self.faults.push(format!(".conflicts/x lists {listed:?}"));
        }
    }
}

fn names(dir: &PathBuf) -> Vec<String> {
    let Ok(dir) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
