//! What programs in scripting languages do to files.

use super::{row, session, table};

macro_rules! python {
    ($body:literal) => {
        concat!("python3 - <<'PYTHON'\nimport json, os\nV = int(os.environ['V'])\n", $body, "\nPYTHON\n")
    };
}
macro_rules! node {
    ($body:literal) => {
        concat!(
            "cat > $E/s.js <<'NODE'\nconst fs = require('fs'), fsp = fs.promises;\n(async () => {\n",
            "for (const V of process.env.ALL.split(' ')) {\nconst text = `{\"v\":${V}}\\n`;\n",
            $body,
            "\n}\n})();\nNODE\nnode $E/s.js"
        )
    };
}

#[test]
fn python_programs() {
    table(&[
        row("python open('w')", python!("with open('x.json', 'w') as f: json.dump({'v': V}, f)")),
        row("python open('w'), never closed", python!("open('x.json', 'w').write('{\"v\":%d}' % V)")),
        row(
            "python open('r+')",
            python!("with open('x.json', 'r+') as f:\n d = json.load(f); d['v'] = V; f.seek(0); f.truncate(); json.dump(d, f)"),
        ),
        row(
            "python open('r+'), truncate last",
            python!("with open('x.json', 'r+') as f:\n d = json.load(f); d['v'] = V; f.seek(0); json.dump(d, f); f.truncate()"),
        ),
        row(
            "python open('a')",
            python!("os.truncate('x.json', 0)\nwith open('x.json', 'a') as f: f.write('{'); f.write('\"v\":%d}' % V)"),
        ),
        row("python open('w+')", python!("with open('x.json', 'w+') as f: json.dump({'v': V}, f); f.seek(0); assert json.load(f)['v'] == V")),
        row("python open('x') after unlink", python!("os.unlink('x.json')\nwith open('x.json', 'x') as f: json.dump({'v': V}, f)")),
        row("python open('rb+', buffering=0)", python!("with open('x.json', 'rb+', buffering=0) as f:\n f.write(b'{\"v\":'); f.write(b'%d}' % V)")),
        row("python os.open, os.write, os.fsync", python!("fd = os.open('x.json', os.O_WRONLY | os.O_TRUNC)\nos.write(fd, b'{\"v\":%d}' % V); os.fsync(fd); os.close(fd)")),
        row("python os.pwrite out of order", python!("fd = os.open('x.json', os.O_RDWR | os.O_TRUNC)\nos.pwrite(fd, b'%d}' % V, 5); os.pwrite(fd, b'{\"v\":', 0); os.close(fd)")),
        // Two complete texts, both flushed with fsync: two saves.
        row("python fsync between two texts", python!("f = open('x.json', 'w'); f.write('{\"v\":%d}' % V); f.flush(); os.fsync(f.fileno()); f.write('\\n'); f.flush(); os.fsync(f.fileno())"))
            .revisions_each(2)
            .never_the_same(),
        row("python flush between two texts", python!("f = open('x.json', 'w'); f.write('{\"v\":%d}' % V); f.flush(); f.write('\\n'); f.close()")),
        row("python os.replace", python!("with open('t', 'w') as f: json.dump({'v': V}, f)\nos.replace('t', 'x.json')")),
        row("python os.rename of a .json", python!("with open('t.json', 'w') as f: json.dump({'v': V}, f)\nos.rename('t.json', 'x.json')")),
        row("python os.replace, directory fsync", python!("with open('t', 'w') as f: json.dump({'v': V}, f); f.flush(); os.fsync(f.fileno())\nos.replace('t', 'x.json'); d = os.open('.', os.O_RDONLY); os.fsync(d); os.close(d)")),
        row(
            "python NamedTemporaryFile, os.replace",
            python!("import tempfile\nwith tempfile.NamedTemporaryFile('w', dir='.', delete=False) as f: json.dump({'v': V}, f)\nos.chmod(f.name, 0o644); os.replace(f.name, 'x.json')"),
        ),
        row(
            "python NamedTemporaryFile(suffix='.json')",
            python!("import tempfile\nwith tempfile.NamedTemporaryFile('w', dir='.', suffix='.json', delete=False) as f: json.dump({'v': V}, f)\nos.chmod(f.name, 0o644); os.replace(f.name, 'x.json')"),
        ),
        row(
            "python replaced while it is open",
            python!("import tempfile\nf = tempfile.NamedTemporaryFile('w', dir='.', delete=False); json.dump({'v': V}, f); f.flush()\nos.chmod(f.name, 0o644); os.replace(f.name, 'x.json'); f.close()"),
        ),
        row(
            "python TemporaryFile, copied",
            python!("import tempfile, shutil\nwith tempfile.TemporaryFile('w+', dir='.') as f, open('x.json', 'w') as o: json.dump({'v': V}, f); f.seek(0); shutil.copyfileobj(f, o)"),
        ),
        row("python mkstemp, link is not needed", python!("import tempfile\nfd, p = tempfile.mkstemp(dir='.'); os.write(fd, b'{\"v\":%d}' % V); os.fchmod(fd, 0o644); os.close(fd); os.rename(p, 'x.json')")),
        row("python shutil.copy", python!("import shutil\nt = os.environ['E'] + '/t'; open(t, 'w').write('{\"v\":%d}' % V); shutil.copy(t, 'x.json')")),
        row("python shutil.copy2", python!("import shutil\nt = os.environ['E'] + '/t'; open(t, 'w').write('{\"v\":%d}' % V); os.utime(t, (1, V)); shutil.copy2(t, 'x.json')")).times(),
        row("python shutil.copyfile within", python!("import shutil\nopen('t', 'w').write('{\"v\":%d}' % V); shutil.copyfile('t', 'x.json'); os.unlink('t')")),
        row("python shutil.move", python!("import shutil\nopen('t', 'w').write('{\"v\":%d}' % V); shutil.move('t', 'x.json')")),
        row("python shutil.move from elsewhere", python!("import shutil\nt = os.environ['SHM'] + '/t'; open(t, 'w').write('{\"v\":%d}' % V); os.utime(t, (1, V)); shutil.move(t, 'x.json')")).times(),
        row("python shutil.copytree", python!("import shutil\nt = os.environ['E'] + '/d'; os.makedirs(t, exist_ok=True); open(t + '/x.json', 'w').write('{\"v\":%d}' % V); os.utime(t + '/x.json', (1, V)); shutil.copytree(t, '.', dirs_exist_ok=True)")).times(),
        row("python mmap, flush", python!("import mmap\nwith open('x.json', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m: m[5:6] = b'%d' % V; m.flush()")),
        row("python mmap without flush", python!("import mmap\nwith open('x.json', 'r+b') as f:\n m = mmap.mmap(f.fileno(), 0); m[5:6] = b'%d' % V; m.close()")),
        row("python fcntl.lockf", python!("import fcntl\nwith open('x.json', 'r+') as f:\n fcntl.lockf(f, fcntl.LOCK_EX); d = json.load(f); d['v'] = V; f.seek(0); f.truncate(); json.dump(d, f)")),
        row("python fcntl.flock", python!("import fcntl\nwith open('x.json', 'r+') as f:\n fcntl.flock(f, fcntl.LOCK_EX); d = json.load(f); d['v'] = V; f.seek(0); f.truncate(); json.dump(d, f)")),
        row("python pathlib write_text", python!("from pathlib import Path\nPath('x.json').write_text('{\"v\":%d}' % V)")),
        row("python pathlib rename, touch, unlink", python!("from pathlib import Path\np = Path('x.json'); p.touch(); q = p.rename('x.json.old'); p.write_text('{\"v\":%d}' % V); q.unlink()")),
        row("python pathlib replace", python!("from pathlib import Path\nt = Path('t'); t.write_bytes(b'{\"v\":%d}' % V); t.replace('x.json')")),
        row("python fileinput inplace", python!("import fileinput, sys\nfor line in fileinput.input('x.json', inplace=True): sys.stdout.write(line.replace(os.environ['O'], str(V)))")),
        row("python fileinput inplace, backup", python!("import fileinput, sys\nfor line in fileinput.input('x.json', inplace=True, backup='.bak'): sys.stdout.write(line.replace(os.environ['O'], str(V)))")),
        row("python atomicwrites of a new name", python!("from atomicwrites import atomic_write\nos.remove('x.json')\nwith atomic_write('x.json', overwrite=False) as f: f.write('{\"v\":%d}' % V)\nos.chmod('x.json', 0o644)")),
        row("python atomicwrites", python!("from atomicwrites import atomic_write\nwith atomic_write('x.json', overwrite=True) as f: f.write('{\"v\":%d}' % V)\nos.chmod('x.json', 0o644)")),
        row("python subprocess with stdout", python!("import subprocess\nwith open('x.json', 'w') as f: subprocess.run(['printf', '{\"v\":%d}', str(V)], stdout=f, check=True)")),
        row("python child that inherits", python!("import subprocess\nf = open('x.json', 'w'); f.write('{\"v\":'); f.flush(); subprocess.run(['true'], close_fds=False, stdout=f); f.write('%d}' % V); f.close()")),
        row("python os.fork in the middle", python!("f = open('x.json', 'w'); f.write('{\"v\":'); f.flush()\npid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0); f.write('%d}' % V); f.close()")),
        row("python os.sendfile", python!("t = os.environ['E'] + '/t'; open(t, 'w').write('{\"v\":%d}' % V)\nwith open(t, 'rb') as i, open('x.json', 'wb') as o: os.sendfile(o.fileno(), i.fileno(), 0, 100)")),
        row("python os.copy_file_range", python!("open('t', 'w').write('{\"v\":%d}' % V)\nwith open('t', 'rb') as i, open('x.json', 'wb') as o: os.copy_file_range(i.fileno(), o.fileno(), 100)\nos.unlink('t')")),
        row("python posix_fallocate", python!("fd = os.open('x.json', os.O_RDWR | os.O_TRUNC)\nos.posix_fallocate(fd, 0, 7); os.pwrite(fd, b'{\"v\":%d}' % V, 0); os.close(fd)")),
        row("python shelve-like rename chain", python!("open('x.json.new', 'w').write('{\"v\":%d}' % V); os.path.exists('x.json.bak') and os.unlink('x.json.bak')\nos.rename('x.json', 'x.json.bak'); os.rename('x.json.new', 'x.json')")),
        row("python sqlite beside", python!("import sqlite3\nfor mode in 'wal', 'delete':\n c = sqlite3.connect(mode + '.db'); c.execute('pragma journal_mode=' + mode); c.execute('create table if not exists t(v)'); c.execute('insert into t values(?)', (V,)); c.commit(); n = c.execute('select max(v) from t').fetchone()[0]; c.close()\nopen('x.json', 'w').write('{\"v\":%d}' % n)"))
            .names_only(),
        row("python dbm beside", python!("import dbm.dumb\nwith dbm.dumb.open('db', 'c') as d: d['v'] = str(V)\nopen('x.json', 'w').write('{\"v\":%d}' % V)")),
    ]);
}

#[test]
fn node_programs() {
    table(&[
        session("node writeFileSync", node!("fs.writeFileSync('x.json', text)")),
        session("node writeFile", node!("await new Promise(d => fs.writeFile('x.json', text, e => { if (e) throw e; d() }))")),
        session("node promises.writeFile", node!("await fsp.writeFile('x.json', text)")),
        session("node promises.writeFile, flush", node!("await fsp.writeFile('x.json', text, { flush: true })")),
        session("node read, change, write", node!("const o = JSON.parse(await fsp.readFile('x.json')); o.v = +V; await fsp.writeFile('x.json', JSON.stringify(o))")),
        session("node truncate, appendFile", node!("await fsp.truncate('x.json'); await fsp.appendFile('x.json', text)")),
        session("node createWriteStream", node!("const s = fs.createWriteStream('x.json'); for (const c of text) s.write(c); s.end(); await new Promise(d => s.on('close', d))")),
        session("node createWriteStream r+", node!("const s = fs.createWriteStream('x.json', { flags: 'r+', start: 5 }); s.end(V); await new Promise(d => s.on('close', d))")),
        session("node pipeline", node!("await require('stream/promises').pipeline([text.slice(0, 4), text.slice(4)], fs.createWriteStream('x.json'))")),
        session("node fs.cp", node!("const t = process.env.E + '/t'; fs.writeFileSync(t, text); await fsp.cp(t, 'x.json')")),
        session("node fs.cpSync, preserveTimestamps", node!("const t = process.env.E + '/t'; fs.writeFileSync(t, text); fs.utimesSync(t, 1, V); fs.cpSync(t, 'x.json', { preserveTimestamps: true })")).times(),
        session("node fs.cp of a directory", node!("const t = process.env.E + '/d'; fs.mkdirSync(t, { recursive: true }); fs.writeFileSync(t + '/x.json', text); await fsp.cp(t, '.', { recursive: true })")),
        session("node copyFile", node!("const t = process.env.E + '/t'; fs.writeFileSync(t, text); await fsp.copyFile(t, 'x.json')")),
        session("node copyFile within", node!("fs.writeFileSync('t', text); await fsp.copyFile('t', 'x.json'); fs.rmSync('t')")),
        session("node rename", node!("fs.writeFileSync('x.json.tmp', text); await fsp.rename('x.json.tmp', 'x.json')")),
        session("node write-file-atomic", node!("await require('write-file-atomic')('x.json', text)")),
        session("node write-file-atomic, sync", node!("require('write-file-atomic').sync('x.json', text)")),
        session("node filehandle.sync", node!("const h = await fsp.open('x.json', 'w'); await h.write(text); await h.sync(); await h.close()")),
        session("node filehandle.writev", node!("const h = await fsp.open('x.json', 'w'); await h.writev([Buffer.from(text.slice(0, 3)), Buffer.from(text.slice(3))]); await h.close()")),
        session("node 'r+' and truncate", node!("const h = await fsp.open('x.json', 'r+'); const o = JSON.parse(await h.readFile()); o.v = +V; await h.truncate(0); await h.write(JSON.stringify(o), 0); await h.close()")),
        session("node mkdtemp beside", node!("const d = await fsp.mkdtemp('t-'); fs.writeFileSync(d + '/x.json', text); fs.renameSync(d + '/x.json', 'x.json'); fs.rmdirSync(d)")),
        session("node 'wx' after rm", node!("fs.rmSync('x.json'); fs.writeFileSync('x.json', text, { flag: 'wx' })")),
        session("node fs.watch sees the save", node!("
            const seen = new Promise(d => { const w = fs.watch('.', (kind, name) => { if (name == 'x.json') { w.close(); d() } }) });
            await new Promise(d => setTimeout(d, 20));
            fs.writeFileSync('x.json', text); await seen")),
        session("node fs.watchFile", node!("
            const seen = new Promise(d => fs.watchFile('x.json', { interval: 20 }, () => { fs.unwatchFile('x.json'); d() }));
            await new Promise(d => setTimeout(d, 60));
            fs.writeFileSync('x.json.tmp', text); fs.renameSync('x.json.tmp', 'x.json'); await seen")),
        row("perl open >", "perl -e 'open F, \">\", \"x.json\"; print F \"{\\\"v\\\":$ENV{V}}\\n\"; close F or die'"),
        row("perl open +<", "perl -e 'open F, \"+<\", \"x.json\"; $_ = <F>; s/\\d/$ENV{V}/; seek F,0,0; print F; truncate F, tell F; close F or die'"),
        row("perl File::Copy", "json > $E/t; perl -MFile::Copy -e 'copy(\"$ENV{E}/t\", \"x.json\") or die'"),
        row("perl File::Copy move", "json > $E/t; perl -MFile::Copy -e 'move(\"$ENV{E}/t\", \"x.json\") or die'"),
    ]);
}
