//! Locks between processes.

use crate::programs::{look, looks};

macro_rules! python {
    ($body:literal) => {
        concat!(
            "cat > $E/s.py <<'PYTHON'\nimport errno, fcntl, json, os, struct, subprocess, sys, tempfile\n",
            $body,
            "\nPYTHON\npython3 $E/s.py"
        )
    };
}

/// Twice 20 additions to one number, each under a lock of the file that `$1` of the script names.
macro_rules! counted {
    ($lock:literal) => {
        concat!(
            "echo '{\"n\":0}' > o1.json; cat > $E/s.py <<'PYTHON'\nimport fcntl, json, struct\nfor _ in range(20):\n",
            " with open('lock', 'a+') as lock:\n  ",
            $lock,
            "\n  d = json.load(open('o1.json')); d['n'] += 1\n  with open('o1.json', 'w') as f: json.dump(d, f)\n",
            "PYTHON\npython3 $E/s.py & python3 $E/s.py & wait; cat o1.json; rm lock"
        )
    };
}

#[test]
fn locks_hold_between_processes() {
    looks(&[
        look("flock excludes", "exec 3< o1.json; flock 3; flock -n o1.json true || echo busy; exec 3<&-; flock -n o1.json echo free"),
        look("flock -s shares", "exec 3< o1.json; flock -s 3; flock -ns o1.json echo shared; flock -nx o1.json true || echo busy"),
        look("flock waits, and gives up", "exec 3< o1.json; flock 3; flock -w 0.1 o1.json true || echo gave up; (sleep 0.2; echo one; flock -u 3) & flock o1.json echo two; wait"),
        look("flock of a scratch file", "exec 3> s; flock 3; flock -n s true || echo busy; exec 3>&-; flock -n s echo free; rm s"),
        look("flock of a directory", "exec 3< .; flock 3; flock -n . true || echo busy; exec 3< dir; flock 3; flock -n dir true || echo busy"),
        look("lockf of a scratch file", python!("
f = open('s', 'w+'); f.write('0123456789'); f.flush(); fcntl.lockf(f, fcntl.LOCK_EX, 5)
child = '''
import fcntl
f = open('s', 'r+')
for start in 0, 5:
    try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, start); print('free')
    except OSError as e: print(e.errno)
'''
subprocess.run([sys.executable, '-c', child], check=True)
fcntl.lockf(f, fcntl.LOCK_UN); subprocess.run([sys.executable, '-c', child], check=True); os.unlink('s')")),
        look("who holds a lock", python!("
f = open('s', 'w+'); f.write('0123456789'); f.flush(); fcntl.lockf(f, fcntl.LOCK_EX, 5)
child = '''
import fcntl, os, struct
f = open('s')
kind, whence, start, length, pid = struct.unpack('hhqqi4x', fcntl.fcntl(f, fcntl.F_GETLK, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0)))
print(kind == fcntl.F_WRLCK, start, length, pid == os.getppid())
'''
subprocess.run([sys.executable, '-c', child], check=True); os.unlink('s')")),
        look("open file description locks", python!("
GET, SET, SETW = 36, 37, 38
def lock(f, how, kind): return fcntl.fcntl(f, how, struct.pack('hhqqi4x', kind, 0, 0, 0, 0))
for name in 's', 'o2.json':
    one, two = open(name, 'a+'), open(name, 'a+')
    if name == 's': one.write('x'); one.flush()
    lock(one, SET, fcntl.F_RDLCK); lock(two, SET, fcntl.F_RDLCK); lock(two, SET, fcntl.F_UNLCK); lock(one, SET, fcntl.F_WRLCK)
    try: lock(two, SET, fcntl.F_WRLCK); print(name, 'free')
    except OSError as e: print(name, e.errno)
    one.close(); lock(two, SETW, fcntl.F_WRLCK); two.close()
os.unlink('s')")),
        look("leases of a scratch file", python!("
f = open('s', 'w'); f.close(); f = open('s')
try: fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_RDLCK); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_UNLCK); print('given')
except OSError as e: print('given' if e.errno == errno.EINVAL else e)
os.unlink('s')")),
        look("what is counted under flock of a file beside", counted!("fcntl.flock(lock, fcntl.LOCK_EX)")).saves(),
        look("what is counted under lockf of a file beside", counted!("fcntl.lockf(lock, fcntl.LOCK_EX)")).saves(),
        look("what is counted under an OFD lock beside", counted!("fcntl.fcntl(lock, 38, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))")).saves(),
        look("what is counted under mkdir", "echo '{\"n\":0}' > o1.json; add() { for i in {1..8}; do until mkdir lock 2>/dev/null; do sleep 0.01; done; \
             n=$(jq .n o1.json); echo \"{\\\"n\\\":$((n + 1))}\" > o1.json; rmdir lock; done; }; add & add & wait; cat o1.json").saves(),
        look("what is counted under a link", "echo '{\"n\":0}' > o1.json; add() { : > me$1; for i in {1..8}; do until ln me$1 lock 2>/dev/null; do sleep 0.01; done; \
             n=$(jq .n o1.json); jq -c .n=$((n + 1)) o1.json > t$1; mv t$1 o1.json; rm lock; done; rm me$1; }; add 1 & add 2 & wait; cat o1.json").saves(),
        look("what is counted with O_EXCL", python!("
def lock(name):
    import time
    while True:
        try: os.close(os.open(name, os.O_CREAT | os.O_EXCL)); return
        except FileExistsError: time.sleep(0.002)
json.dump({'n': 0}, open('o1.json', 'w'))
children = [os.fork() for _ in range(2)] if False else []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        for _ in range(20):
            lock('lock')
            d = json.load(open('o1.json')); d['n'] += 1
            with open('t', 'w') as f: json.dump(d, f)
            os.replace('t', 'o1.json'); os.unlink('lock')
        os._exit(0)
    children.append(pid)
for pid in children: assert os.waitpid(pid, 0)[1] == 0
print(open('o1.json').read())")).saves(),
    ]);
}
