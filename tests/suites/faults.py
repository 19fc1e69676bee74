#!/usr/bin/env python3
"""Each system call of each kind of change fails in each way: who asked is told or has it all, and nothing is lost.

faults.py [OPTIONS] REVFS PLACE   as root, on x86_64; makes its stores and mounts below PLACE
  --ops=OP,…       these alone                --errors=E,…   these ways to fail alone
  --sample=N       of each operation and error no more than N calls, evenly      --jobs=N   so many at a time (1)
  --only=OP:CALL:N:E   one run, told in detail            --list    the calls of a clean run of each operation
  --tell           names also the runs that were told of

First an operation runs alone, and its calls are listed. Then for each call, its n-th use, and each error there is a new
store (objects with a few revisions, one deleted, some in conflict) and a new daemon, the operation is done with that one
failure (`E+`: and with all failures of this kind from there on), and then, without: the program was told, or it is done; what
the mount and afterwards the store show is the old or the new text, whole; every text acknowledged before is in the store; the
daemon has no more descriptors than without the failure, serves, and the operation done again succeeds; `.revfs/stage` is
empty; `revfs check` finds nothing; and the original library reads the same.
Prints a table; exits with 0 if nothing was wrong.
"""
import argparse
import collections
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True
from faults_calls import Short, Tracer, libc
from faults_ops import OPS, Setting, build, tell

ERRORS = {e: getattr(errno, e) for e in ('ENOSPC', 'EIO', 'EINTR', 'EDQUOT', 'EMFILE', 'EROFS')}
MAKE = {'open', 'openat', 'openat2', 'creat', 'dup', 'dup2', 'dup3', 'fcntl', 'pipe2', 'socket', 'eventfd2', 'memfd_create',
        'inotify_init1', 'pidfd_open'}
CHANGE = {'write', 'writev', 'pwritev', 'rename', 'renameat', 'renameat2', 'mkdir', 'mkdirat', 'link', 'linkat', 'symlink',
          'symlinkat', 'fsync', 'fdatasync', 'syncfs', 'sync_file_range', 'ftruncate', 'truncate', 'fallocate', 'fsetxattr', 'setxattr',
          'lsetxattr', 'copy_file_range', 'mknodat', 'fchmod', 'fchmodat', 'fchown', 'fchownat', 'utimensat', 'unlink', 'unlinkat',
          'rmdir', 'close', 'sendfile', 'fremovexattr', 'removexattr'}
GROW = CHANGE - {'unlink', 'unlinkat', 'rmdir', 'close', 'fchmod', 'fchmodat', 'fchown', 'fchownat', 'utimensat', 'ftruncate', 'truncate'}
O_WRITE, O_MAKE = os.O_WRONLY | os.O_RDWR, os.O_CREAT | os.O_TMPFILE
SHORT = {'read', 'write', 'copy_file_range', 'sendfile'}
SETTLE = 4.0


def opens(call):
    return {'openat': 2, 'open': 1}.get(call.name)


def changes(call, grows=False):
    at = opens(call)
    if at is not None:
        flags = call.args[at]
        return bool(flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE or (not grows and flags & O_WRITE))
    return call.name in (GROW if grows else CHANGE)


def can(call, error):
    """Whether this call can fail so."""
    if call.name == 'close' and call.place().startswith('/proc/'):
        return False
    if error == 'short':
        return call.raw in ('read', 'write', 'pread64', 'pwrite64', 'copy_file_range', 'sendfile')
    if error in ('EMFILE',):
        return call.name in MAKE
    if error in ('ENOSPC', 'EDQUOT'):
        return changes(call) or call.name == 'inotify_add_watch'
    if error == 'EROFS':
        return changes(call) and call.name not in ('close', 'fsync', 'fdatasync', 'syncfs', 'sync_file_range')
    return True


class Plan:
    """What happens to which call: the n-th of a name, or that and all after it of its kind."""

    def __init__(self, name='', n=0, error=''):
        self.name, self.n, self.error = name, n, error.rstrip('+')
        self.on = error.endswith('+')
        self.seen, self.hit, self.calls, self.armed = 0, None, [], True

    def __call__(self, call):
        if not self.armed:
            return None
        self.calls.append(call)
        if self.hit and self.on:
            grows = self.error in ('ENOSPC', 'EDQUOT')
            if (self.error == 'EIO' and can(call, 'EIO')) or (self.error == 'EMFILE' and call.name in MAKE) \
                    or (self.error in ('ENOSPC', 'EDQUOT', 'EROFS') and can(call, self.error) and (not grows or changes(call, True))):
                return ERRORS[self.error]
            return None
        if not self.name or call.key != self.name:
            return None
        self.seen += 1
        if self.seen != self.n:
            return None
        if not can(call, self.error):
            return None
        self.hit = call
        return Short if self.error == 'short' else ERRORS[self.error]


class Wrong(Exception):
    pass


class Node:
    """The original library, asked what it reads."""
    SCRIPT = '''
const [, modules] = process.argv;
const lib = require(modules + '/multiprocess-store');
require('readline').createInterface({ input: process.stdin }).on('line', async line => {
  const [dir, ids] = JSON.parse(line), said = {};
  const store = await lib.createStore(dir);
  for (const id of ids) {
    try { const o = await store.getObject(id); delete o._id; delete o._rev; said[id] = JSON.stringify(o); } catch (e) { said[id] = null; }
  }
  console.log(JSON.stringify(said));
});'''

    def __init__(self, modules):
        self.child = subprocess.Popen(['node', '-e', self.SCRIPT, modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self, store, ids):
        self.child.stdin.write(json.dumps([store, ids]) + '\n')
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())


class Lab:
    """Where runs are made."""

    def __init__(self, revfs, place, template, node):
        self.revfs, self.place, self.template, self.node = revfs, place, template, node
        self.clean = {}

    def descriptors(self, pid):
        held = collections.Counter()
        for fd in os.listdir(f'/proc/{pid}/fd'):
            try:
                to = os.readlink(f'/proc/{pid}/fd/{fd}')
            except OSError:
                continue
            held[to.split(':[')[0] if ':[' in to and not to.startswith('/') else to] += 1
        return held

    def run(self, op, plan):
        """One operation in a new store; its calls, and 'told', 'held' or 'wrong', with what was wrong."""
        self.base = os.path.join(self.place, 'run')
        shutil.rmtree(self.base, ignore_errors=True)
        os.makedirs(self.base + '/mnt')
        shutil.copytree(self.template, self.base + '/store', symlinks=True)
        self.set = Setting(self.revfs, self.base)
        self.log = self.base + '/log'
        self.daemon = None
        self.tracer = Tracer(self.log)
        try:
            return (self.cli if op.kind == 'cli' else self.mount)(op, plan)
        except Wrong as e:
            return 'wrong', str(e)
        finally:
            self.stop()

    def spawn(self, argv, stdin=b'', out=None):
        """A process of ours, which waits to be let go."""
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(go)
                os.dup2(os.open(out or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC), 1)
                os.dup2(1, 2)
                data, feed = os.pipe()
                os.write(feed, stdin)
                os.close(feed)
                os.dup2(data, 0)
                os.environ['RUST_LOG'] = 'info'
                os.read(ready, 1)
                os.execv(argv[0], argv)
            finally:
                os._exit(127)
        os.close(ready)
        return pid, go

    def start(self, plan=None):
        pid, go = self.spawn([self.revfs, 'mount', '--foreground', self.set.store, self.set.mnt], out=self.log)
        self.daemon = pid
        if plan:
            self.tracer.seize(pid)
            plan.armed = False
        os.close(go)
        deadline = time.monotonic() + 10

        def ready():
            # A look at the mount itself would wait for who is being traced.
            return pid in self.tracer.exits or ' serves ' in self.said()

        if plan:
            self.tracer.until(ready, self.from_store(plan), 10)
            self.tracer.release()
        else:
            while not ready() and time.monotonic() < deadline:
                self.reap()
                time.sleep(.003)
        return pid not in self.tracer.exits

    def from_store(self, plan):
        """The plan begins when the program looks at the store."""
        def decide(call):
            plan.armed = plan.armed or call.place().startswith(self.base)
            return plan(call)
        return decide

    def reap(self):
        try:
            while (got := os.waitpid(-1, os.WNOHANG | 0x40000000))[0]:
                if not os.WIFSTOPPED(got[1]):
                    self.tracer.exits[got[0]] = got[1]
        except ChildProcessError:
            pass

    def wait(self, pid, seconds):
        deadline = time.monotonic() + seconds
        while pid not in self.tracer.exits:
            if time.monotonic() > deadline:
                return None
            self.reap()
            time.sleep(.001)
        return self.tracer.exits[pid]

    def stop(self):
        if self.daemon and self.daemon not in self.tracer.exits:
            os.kill(self.daemon, signal.SIGKILL)
            self.wait(self.daemon, 5)
        if self.is_mounted():
            subprocess.run(['umount', '-l', self.set.mnt], stderr=subprocess.DEVNULL)

    def is_mounted(self):
        with open('/proc/self/mountinfo') as mounts:
            return any(f' {self.set.mnt} ' in line for line in mounts)

    def child(self, doing, plan=None, seconds=30):
        """Has a process do something in the mount; what it tells. `plan` meets the daemon's calls meanwhile."""
        out = self.base + '/told'
        ready, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(go)
                os.read(ready, 1)
                tell(out, doing)
            finally:
                os._exit(0)
        os.close(ready)
        if plan:
            self.tracer.seize(self.daemon)
            self.tracer.until(lambda: True, lambda call: None, 5, quiet=.003)
        os.close(go)
        if plan:
            ended = self.tracer.until(lambda: pid in self.tracer.exits, plan, seconds)
            self.tracer.release()
        else:
            ended = self.wait(pid, seconds) is not None
        if not ended or pid not in self.tracer.exits:
            os.kill(pid, signal.SIGKILL)
            raise Wrong('the call hangs')
        with open(out) as said:
            told = json.load(said)
        os.unlink(out)
        if 'broken' in told:
            raise Wrong(told['broken'])
        return told

    def shown(self, names):
        return {name: None if text is None else text.encode('latin1') for name, text in self.child(lambda: self.set.show(names)).items()}

    def settle(self, op, first=False):
        """A file that is shown is held once; all else as in the clean run, but for processes that are remembered."""
        def count():
            held = self.descriptors(self.daemon)
            shown = {to for to in held if to.startswith(self.set.store + '/') and not to.endswith('(deleted)')
                     and (not to.startswith(self.set.store + '/.revfs') or '/.revfs/scratch/' in to)}
            self.odd = [to.replace(self.base, '') for to in held if held[to] > 1 or to not in shown]
            many = sum(held[to] - 1 for to in shown) + len(shown) - len({os.path.dirname(to) if '/.revfs/' not in to else to for to in shown})
            return many + sum(held[to] for to in held if to not in shown and to != 'anon_inode'), held['anon_inode']
        if op not in self.clean or first:
            # What ends by itself does so within two turns of the daemon's clock.
            time.sleep(.6)
            self.clean[op] = max(self.clean.get(op, (0, 0)), count())
            return
        deadline = time.monotonic() + SETTLE
        files, others = self.clean[op]
        while (now := count())[0] > files or now[1] > others + 4:
            if time.monotonic() > deadline:
                raise Wrong(f'descriptors are left, {now} for {self.clean[op]}: {self.odd}')
            time.sleep(.02)

    def mount(self, op, plan):
        kind = op.kind
        if not self.start(plan if kind == 'start' else None):
            if kind != 'start' or not plan.hit:
                raise Wrong('no mount: ' + self.tail())
            result, allowed, told = 'told', [op.states[0]], None
            if not self.start():
                raise Wrong('no mount afterwards: ' + self.tail())
        else:
            if op.before:
                self.child(lambda: op.run(self.set, op.before))
            told = self.child(lambda: op.run(self.set), plan if kind == 'mount' else None)
            result, allowed = op.judge(told)
            if result == 'told':
                allowed += op.others
            if kind in ('start', 'end') and result != 'held':
                raise Wrong(f'{op.name}: {told}')
        names = op.names()
        if kind != 'end':
            got = self.shown(names)
            self.compare(got, allowed, f'{result} {told}: the mount')
            self.settle(op.name, not plan.name)
            again = self.child(lambda: op.run(self.set, 'again'))
            allowed = op.states[-1:]
            self.compare(self.shown(names), allowed, f'done again ({again}): the mount')
            if kind == 'mount':
                self.settle(op.name, not plan.name)
        self.unmount(plan if kind == 'end' else None)
        self.after(op, allowed + (op.others if plan.hit else []), plan)
        return result, told

    def said(self):
        try:
            with open(self.log) as log:
                return log.read()
        except FileNotFoundError:
            return ''

    def tail(self):
        return ' | '.join(line.strip()[-160:] for line in self.said().splitlines()[-3:])

    def unmount(self, plan=None):
        daemon = self.daemon
        if plan:
            self.tracer.seize(daemon)
        def end():
            return daemon in self.tracer.exits
        # What tells of changes to inotify may have a file open just now.
        script = 'for n in $(seq 99); do umount "$0" 2>/dev/null && exit; sleep 0.1; done; umount "$0"'
        taken = subprocess.Popen(['sh', '-c', script, self.set.mnt])
        if plan:
            ended = self.tracer.until(end, plan, 20)
            self.tracer.release()
            ended = ended or end()
        else:
            ended = self.wait(daemon, 20) is not None
        taken.returncode = 0
        if not ended:
            raise Wrong('the daemon does not end: ' + self.tail())
        if self.tracer.exits[daemon] != 0 and not (plan and plan.hit):
            raise Wrong(f'the daemon ended with {self.tracer.exits[daemon]:#x}: {self.tail()}')
        if 'panicked' in self.said():
            raise Wrong('the daemon panicked: ' + self.tail())

    def compare(self, got, allowed, what):
        if got not in allowed:
            def brief(text):
                return text if text is None else f'{text[:30]}…{len(text)}'
            odd = {name: brief(text) for name, text in got.items() if all(state[name] != text for state in allowed)} \
                or {name: brief(text) for name, text in got.items() if any(state[name] != text for state in allowed)}
            raise Wrong(f'{what} shows {odd}')

    def after(self, op, allowed, plan):
        """What the store holds when nobody has it open."""
        store = self.set.store
        objects = [name[:-5] for name in op.names() if name.endswith('.json')]
        allowed = [{f'{id}.json': state[f'{id}.json'] for id in objects} for state in allowed]
        got = self.got(op, allowed)
        self.compare(got, allowed, 'the store')
        found = self.revfs_does('check', store + '/')
        if found.returncode:
            lines = (found.stdout + found.stderr).decode().strip().splitlines()
            raise Wrong(f'check: {" | ".join(lines[:3])}')
        texts = self.set.texts()
        for text in op.kept:
            if text not in texts:
                raise Wrong(f'a text is lost: {text[:40]}')
        left = os.listdir(store + '/.revfs/stage')
        if left and not plan.on and not (plan.hit and plan.hit.name in ('unlink', 'unlinkat', 'rmdir')):
            raise Wrong(f'in stage: {left}')
        if self.node:
            said = self.node.read(store, objects)
            for id, text in said.items():
                ours = got[f'{id}.json']
                mine = None if ours is None else {k: v for k, v in json.loads(ours).items() if k not in ('_id', '_rev')}
                if (None if text is None else json.loads(text)) != mine:
                    raise Wrong(f'the original reads of {id} {text}')

    def revfs_does(self, *args):
        done = subprocess.Popen([self.revfs, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        done.stdout, done.stderr = done.stdout, done.stderr
        out, err = done.communicate()
        return subprocess.CompletedProcess(args, done.returncode, out, err)

    def cli(self, op, plan):
        pid, go = self.spawn([self.revfs, *op.argv(self.set)], op.stdin, self.log)
        self.tracer.seize(pid)
        plan.armed = False
        os.close(go)
        self.tracer.until(lambda: pid in self.tracer.exits, self.from_store(plan), 30, quiet=0)
        self.tracer.release()
        if pid not in self.tracer.exits:
            os.kill(pid, signal.SIGKILL)
            raise Wrong('the command hangs')
        code = self.tracer.exits[pid]
        if os.WIFSIGNALED(code) or os.WEXITSTATUS(code) == 101:
            raise Wrong(f'the command ended with {code:#x}: {self.tail()}')
        result = 'held' if code == 0 else 'told'
        allowed = op.states[-1:] if code == 0 else op.states
        # In the middle of a change the store may have something to repair, and says so to nobody.
        self.compare(self.got(op, allowed), allowed, f'{result}, {self.tail()}: the store')
        texts = self.set.texts()
        for text in op.kept:
            if text not in texts:
                raise Wrong(f'a text is lost: {text[:40]}')
        if code == 0:
            op.verify(self)
        else:
            again = subprocess.run([self.revfs, *op.argv(self.set)], input=op.stdin, capture_output=True)
            if again.returncode and self.got(op, op.states[-1:]) != op.done():
                raise Wrong(f'again: {again.stderr.decode().strip()}')
        self.after(op, op.states[-1:], plan)
        return result, os.WEXITSTATUS(code)

    def got(self, op, allowed):
        """What the program reads of the store's objects."""
        names = [name for name in op.names() if name.endswith('.json')]
        all_ = self.revfs_does('get', '--raw', '-s', self.set.store, *[name[:-5] for name in names])
        if all_.returncode not in (0, 1):
            raise Wrong(f'get: {all_.stderr.decode().strip()}')
        # One after the other they are what one of the states would be.
        for state in allowed:
            texts = [state[name] for name in names]
            if all(text is None or type(text) is bytes for text in texts) and b''.join(filter(None, texts)) == all_.stdout:
                return {name: state[name] for name in names}
        got = {}
        for name in names:
            done = self.revfs_does('get', '--raw', '-s', self.set.store, name[:-5])
            got[name] = done.stdout if done.returncode == 0 else None
        return got


def tasks_of(calls, errors, sample):
    """Which call is to fail how."""
    uses, tasks, before = collections.Counter(), collections.defaultdict(list), collections.Counter()
    for call in calls:
        uses[call.key] += 1
        # Of a process's ancestors two are enough, and of each text that the kernel makes up its first piece.
        if call.key.endswith('@proc'):
            kind = (call.name, call.place().split('/')[-1])
            before[kind] += 1
            before[call.name, call.place()] += 1
            if before[kind] > 2 or before[call.name, call.place()] > 1:
                continue
        for error in errors:
            if can(call, error.rstrip('+')):
                tasks[error].append((call.key, uses[call.key], error))
    for error, of in tasks.items():
        if sample and len(of) > sample:
            of = [of[i * len(of) // sample] for i in range(sample)]
        yield from of


def main():
    parser = argparse.ArgumentParser()
    for flag in ('--ops', '--errors', '--only', '--node'):
        parser.add_argument(flag)
    parser.add_argument('--sample', type=int, default=0)
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--tell', action='store_true')
    parser.add_argument('revfs')
    parser.add_argument('place')
    args = parser.parse_args()
    args.revfs, args.place = os.path.abspath(args.revfs), os.path.abspath(args.place)
    # Whoever ends this gets what is mounted unmounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('ended'))
    ops = {op.name: op for op in OPS}
    errors = args.errors.split(',') if args.errors else [*ERRORS, 'short', 'ENOSPC+', 'EIO+', 'EMFILE+', 'EROFS+']
    chosen = args.ops.split(',') if args.ops else list(ops)
    if args.only:
        chosen = [args.only.split(':')[0]]
    os.makedirs(args.place, exist_ok=True)
    template = os.path.join(args.place, 'template')
    if not os.path.exists(template):
        build(args.revfs, args.place, template)
    results, workers = [], []
    for job in range(args.jobs):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                libc.prctl(1, signal.SIGTERM)
                os.close(read)
                work(args, job, template, [ops[name] for name in chosen[job::args.jobs]], errors, os.fdopen(write, 'w', 1))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        os.close(write)
        workers.append((pid, os.fdopen(read)))
    for pid, lines in workers:
        for line in lines:
            results.append(json.loads(line))
    broken = any([os.waitpid(pid, 0)[1] for pid, _ in workers])
    if not args.list:
        table(results, chosen)
    shutil.rmtree(template)
    sys.exit(bool(broken or any(result == 'wrong' for *_, result in results)))


def work(args, job, template, ops, errors, out):
    place = os.path.join(args.place, str(job))
    lab = Lab(args.revfs, place, template, Node(args.node) if args.node else None)
    for op in ops:
        clean = Plan()
        result = lab.run(op, clean)
        if result[0] != 'held' and not op.expects:
            print(f'{op.name} alone: {result}', flush=True)
            out.write(json.dumps([op.name, '', 0, '', 'wrong']) + '\n')
            continue
        if args.list:
            for call in clean.calls:
                print(op.name, str(call).replace(lab.base, ''))
            continue
        tasks = [args.only.split(':')[1:]] if args.only else tasks_of(clean.calls, errors, args.sample)
        for name, n, error in tasks:
            plan = Plan(name, int(n), error)
            result = lab.run(op, plan)
            what = result[0] if plan.hit or result[0] == 'wrong' else 'unreached'
            if what == 'wrong' or args.only or (args.tell and what == 'told'):
                where = str(plan.hit).replace(lab.base, '')
                print(f'{op.name}:{name}:{n}:{error}: {what}: {result[1]} [{where}]', flush=True)
            out.write(json.dumps([op.name, name, n, error, what]) + '\n')
            if args.only and what == 'wrong':
                with open(lab.log) as log:
                    print(log.read())
    shutil.rmtree(place, ignore_errors=True)
    if lab.node:
        lab.node.child.stdin.close()


def table(results, chosen):
    count = collections.Counter((op, error, what) for op, _, _, error, what in results)
    errors = list(dict.fromkeys(error for _, _, _, error, _ in results if error))
    print('calls that failed: told, held' + (', WRONG' if any(r[-1] == 'wrong' for r in results) else ''))
    print(f'{"":18}' + ''.join(f'{error:>13}' for error in errors))
    for op in [*chosen, 'all']:
        cells = []
        for error in errors:
            told, held, wrong = (sum(c for (o, e, w), c in count.items() if o in (op, '') + (tuple(chosen) if op == 'all' else ()) and e == error and w == what)
                                 for what in ('told', 'held', 'wrong'))
            cells.append(f'{told}+{held}' + (f' !{wrong}' if wrong else ''))
        print(f'{op:18}' + ''.join(f'{cell:>13}' for cell in cells))
    missed = sum(c for (_, _, what), c in count.items() if what == 'unreached')
    print(f'{len(results)} runs, {missed} of them without the call, {sum(r[-1] == "wrong" for r in results)} wrong')


if __name__ == '__main__':
    main()
