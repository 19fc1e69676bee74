#!/usr/bin/env python3
"""Mixed readers and writers on a mount, and the original library beside, for long.

soak.py REVFS NODE_MODULES PLACE SECONDS OBJECTS

Sixteen processes read, save, delete, list and rename through the mount; eight with the original library change the same store
beside. Every text has a number of its own and says it twice, with a length between: what is cut, mixed or padded shows. Some
objects have one writer, whose number rises: whoever reads them never gets a lower number than before, and their writer none but
its last; the others have all for writers. At the end every text that a writer was told is saved is there, live or gone, the
original reads what the mount shows, the daemon holds no more memory and descriptors than at a quarter of the time, and
`revfs check` finds nothing. $DICE draws other choices. Exits with 0 if all is well.
"""
import atexit
import errno
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

from crash import Mount, original
from media import texts

WORKERS, NODES, SHARED = 16, 8, 40
# What the daemon may hold more at the end than at a quarter of the time: what it remembers has bounds, but it may take longer than
# that until they are reached.
MORE, SLACK = 1.15, 16 << 10
# It remembers the names of so many revisions at most, at so many kB each.
NAMES, NAME = 1 << 18, .13
PADS = (0, 10, 500, 5000, 30000)

NODE = '''
const fs = require('fs')
const [place, number, seconds, own, shared] = process.argv.slice(1)
const lib = require('multiprocess-store')
const log = fs.openSync(`${place}/node-${number}`, 'a')
const sleep = ms => new Promise(done => setTimeout(done, ms))
const dice = n => Math.floor(Math.random() * n)
// Its writes are not whole at once, and its readers see that: it is no fault of ours.
const patient = async what => {
    for (const end = Date.now() + 60000; ;) {
        try { return await what() } catch (e) {
            if (Date.now() > end || !(e instanceof SyntaxError || e.code === 'ENOENT' || /EMPTY_OBJECT/.test(e.message))) throw e
            await sleep(5)
        }
    }
}
const run = async () => {
    const store = await lib.createStore(`${place}/store`)
    const last = {}
    let ops = 0
    for (const end = Date.now() + seconds * 1000; Date.now() < end; ops++) {
        // Or it leaves the mount no processor.
        await sleep(dice(20))
        const all = dice(3) === 0
        const id = all ? `all-${dice(shared)}` : `n${number}-${dice(own)}`
        if (dice(2) || all && !fs.existsSync(`${place}/store/${id}`)) {
            const pad = [0, 10, 500, 5000][dice(4)]
            const said = `n${number}-${ops}`
            const object = {_id: id, said, pad: 'x'.repeat(pad), length: pad, end: said}
            // As its upsertObject, which does not survive what its getObject throws.
            if (all || last[id])
                await store.updateObject(Object.assign(await patient(() => store.getObject(id)), object))
            else await store.createObject(object)
            fs.writeSync(log, `${said}\\n`)
            last[id] = said
        } else if (all || last[id]) {
            const found = await patient(() => store.getObject(id))
            if (found.said !== found.end || !all && found.said !== last[id])
                fs.writeSync(log, `wrong: ${id} says ${found.said}, ${found.end}, not ${last[id]}\\n`)
        }
    }
    fs.writeSync(log, `ops ${ops}\\n`)
}
run().catch(e => { fs.writeSync(log, `wrong: ${e.stack.replaceAll('\\n', ' ')}\\n`); process.exit(1) })
'''


class Wrong(Exception):
    pass


class Worker:
    def __init__(self, number, mount, place, objects, count):
        self.number, self.mount, self.objects, self.count = number, mount, objects, count
        self.dice = random.Random(f'{os.environ.get("DICE")}-{number}')
        self.log = os.open(f'{place}/worker-{number}', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.n, self.own, self.seen = 0, {}, {}

    def path(self, name):
        return f'{self.mount}/{name}'

    def say(self, line):
        os.write(self.log, f'{line}\n'.encode())

    def run(self, end):
        ways = [self.read] * 50 + [self.save] * 30 + [self.stat] * 10 + [self.remove] * 3 + [self.list] + [self.note] * 3 + \
            [self.conflicts] * 2 + [self.hold]
        while time.monotonic() < end:
            way = self.dice.choice(ways)
            try:
                way()
            except Wrong as e:
                self.say(f'wrong: {e}')
            except OSError as e:
                self.say(f'wrong: {way.__name__}: {e}')
            self.n += 1
            self.count(self.n)

    def mine(self):
        return f'w{self.number}-{self.dice.randrange(self.objects)}.json'

    def any(self):
        luck = self.dice.random()
        if luck < .3:
            return f'all-{self.dice.randrange(SHARED)}.json'
        if luck < .6:
            return f'w{self.dice.randrange(WORKERS)}-{self.dice.randrange(self.objects)}.json'
        return f'n{self.dice.randrange(NODES)}-{self.dice.randrange(self.objects)}.json' if luck < .8 else self.mine()

    def whole(self, name, text):
        try:
            found = json.loads(text)
            if found['said'] != found['end'] or found['length'] != len(found['pad']) or found['pad'].strip('x'):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise Wrong(f'torn: {name} says {len(text)} bytes, {text[:60]!r}…{text[-30:]!r}') from None
        return found['said']

    def heard(self, name, said):
        """What one writer says never gets older."""
        if name.startswith('all-'):
            return
        n = int(said.split('-')[1])
        if n < self.seen.get(name, -1):
            raise Wrong(f'went back: {name} says {said} after {self.seen[name]}')
        self.seen[name] = n
        if name in self.own and said != self.own[name]:
            raise Wrong(f'lost: {name} says {said} to its writer after {self.own[name]}')

    def read(self, name=None):
        name = name or self.any()
        try:
            with open(self.path(name), 'rb') as file:
                text = file.read()
        except FileNotFoundError:
            if name in self.own and self.own[name]:
                raise Wrong(f'lost: {name} is not there after {self.own[name]}') from None
            return
        self.heard(name, self.whole(name, text))

    def text(self):
        pad, said = self.dice.choice(PADS), f'w{self.number}-{self.n}'
        return said, json.dumps({'said': said, 'pad': 'x' * pad, 'length': pad, 'end': said}).encode()

    def save(self):
        name = self.mine() if self.dice.random() < .7 else f'all-{self.dice.randrange(SHARED)}.json'
        (said, text), target = self.text(), self.path(name)
        # Two who make one new file in place have one file, as on a disk.
        by_rename = self.dice.random() < .4 or name.startswith('all-') and not os.path.exists(target)
        path = self.path(f'.{self.number}.tmp') if by_rename else target
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            cut = self.dice.randrange(len(text))
            os.write(fd, text[:cut])
            os.pwrite(fd, text[cut:], cut)
            if self.dice.random() < .01:
                os.fsync(fd)
        finally:
            os.close(fd)
        if by_rename:
            os.rename(path, target)
        self.say(said)
        if not name.startswith('all-'):
            self.own[name] = said
            if self.dice.random() < .2:
                self.read(name)

    def stat(self):
        name = self.any()
        try:
            if os.stat(self.path(name)).st_size < 40:
                raise Wrong(f'torn: {name} has {os.stat(self.path(name)).st_size} bytes')
        except FileNotFoundError:
            pass

    def remove(self):
        name = self.mine()
        if self.own.get(name):
            os.unlink(self.path(name))
            self.own[name] = None
            if os.path.exists(self.path(name)):
                raise Wrong(f'{name} is there after it was removed')

    def list(self):
        names = os.listdir(self.mount)
        if len(names) != len(set(names)):
            raise Wrong('a name is listed twice')
        missing = [name for name, said in self.own.items() if said] and set(
            name for name, said in self.own.items() if said) - set(names)
        if missing:
            raise Wrong(f'not listed: {sorted(missing)[:3]}')

    def note(self):
        """A file that is no object."""
        path, said = self.path(f'note-{self.number}'), f'{self.n}' * 100
        with open(path, 'w') as file:
            file.write(said)
        os.rename(path, path + '.txt')
        with open(path + '.txt') as file:
            if file.read() != said:
                raise Wrong('a note says something else')

    def conflicts(self):
        try:
            name = self.dice.choice(os.listdir(self.path('.conflicts')) or [''])
            for rev in name and os.listdir(self.path(f'.conflicts/{name}'))[-2:]:
                with open(self.path(f'.conflicts/{name}/{rev}'), 'rb') as file:
                    # The original writes in place, and this shows what is there.
                    file.read()
        except OSError as e:
            # It was settled meanwhile.
            if e.errno not in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
                raise

    def hold(self):
        """Who has an object open goes on to read what it has opened."""
        name = self.any()
        try:
            with open(self.path(name), 'rb') as file:
                first = file.read()
                for _ in range(3):
                    self.save()
                file.seek(0)
                again = file.read()
        except FileNotFoundError:
            return
        if first != again:
            raise Wrong(f'torn: {name} held open says {again[:40]!r} after {first[:40]!r}')


class Daemon:
    """What it holds, while it lives."""

    def __init__(self, pid, seconds):
        self.pid, self.begun, self.seconds, self.taken = pid, time.monotonic(), seconds, []

    def look(self):
        status = dict(line.split(':', 1) for line in open(f'/proc/{self.pid}/status'))
        held = int(status['VmRSS'].split()[0]), len(os.listdir(f'/proc/{self.pid}/fd'))
        self.taken.append(((time.monotonic() - self.begun) / self.seconds, *held))

    def about(self, since, until):
        """Medians of that part of the time."""
        part = [held for at, *held in self.taken if since <= at <= until]
        return [sorted(column)[len(column) // 2] for column in zip(*part)]


def main(revfs, modules, place, seconds, objects):
    seconds, objects = int(seconds), int(objects)
    store, at = f'{place}/store', f'{place}/mnt'
    os.makedirs(store, exist_ok=True)
    os.makedirs(at, exist_ok=True)
    log, pids, nodes = open(f'{place}/daemon', 'w'), [], []
    mount = Mount(revfs, store, at, [], log)

    def end():
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for node in nodes:
            node.kill()
        mount.kill()
        subprocess.run(['umount', '-l', at], capture_output=True)

    parent = os.getpid()
    atexit.register(lambda: os.getpid() == parent and end())
    counts = mmap.mmap(-1, 8 * WORKERS)
    began, until = time.monotonic(), time.monotonic() + seconds
    for number in range(WORKERS):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                count = lambda n: struct.pack_into('Q', counts, 8 * number, n)
                Worker(number, at, place, objects, count).run(until)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    for number in range(NODES):
        command = ['node', '-e', NODE, place, str(number), str(seconds), str(objects), str(SHARED)]
        nodes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, 'NODE_PATH': modules}))
    daemon = Daemon(mount.daemon.pid, seconds)
    while time.monotonic() < until:
        daemon.look()
        time.sleep(max(.1, min(seconds / 400, until - time.monotonic())))
    wrong = []
    for pid in list(pids):
        if os.waitpid(pid, 0)[1]:
            wrong.append('a worker died')
        pids.remove(pid)
    wrong += [f'node ended with {node.returncode}' for node in nodes if node.wait()]
    took = time.monotonic() - began

    told, operations = set(), sum(struct.unpack(f'{WORKERS}Q', counts[:]))
    by_mount = operations
    for name in [f'worker-{n}' for n in range(WORKERS)] + [f'node-{n}' for n in range(NODES)]:
        for line in open(f'{place}/{name}').read().splitlines():
            if line.startswith('wrong: '):
                wrong.append(f'{name}: {line[7:]}')
            elif line.startswith('ops '):
                operations += int(line[4:])
            else:
                told.add(line)
    said, torn = texts(store)
    lost = told - said
    wrong += [f'lost: {text}' for text in sorted(lost)] + [f'torn in the store: {path}' for path in torn]
    ids = [id for id in os.listdir(store) if id[0] != '.']
    read = original(modules, store, ids)
    for id in ids:
        here = mount.read(f'{id}.json')
        if read.get(id) != here:
            wrong.append(f'{id}: the original reads {read.get(id)}, the mount {here}')
    kept = os.listdir(f'{at}/.drafts')
    wrong += [f'kept as a draft: {name}' for name in kept[:5]]
    quarter, last = daemon.about(.2, .3), daemon.about(.9, 1)
    # It keeps a descriptor of each object that was read, up to a limit.
    names = min(len(told), NAMES) - min(len(told) // 4, NAMES)
    if last[0] > quarter[0] * MORE + SLACK + names * NAME or last[1] > quarter[1] + len(ids):
        wrong.append(f'the daemon grows: {quarter[0]} kB, {quarter[1]} descriptors at a quarter, {last[0]} kB, {last[1]} at the end')
    for _ in range(100):
        if subprocess.run(['umount', at], capture_output=True).returncode == 0:
            break
        time.sleep(.1)
    if mount.daemon.wait():
        wrong.append(f'the daemon ended with {mount.daemon.returncode}')
    check = subprocess.run([revfs, 'check', store], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check.returncode:
        wrong.append(f'check: {check.returncode}: {(check.stdout + check.stderr)[:300]}')
    revisions = sum(len(files) for dir, dirs, files in os.walk(store) if '/.revfs' not in dir)
    kinds = {'torn': 0, 'lost': 0, 'went back': 0}
    for line in wrong:
        print(line, flush=True)
        for kind in kinds:
            kinds[kind] += kind in line
    print(f'{operations} operations ({by_mount} through the mount) in {took:.0f} s, {len(told)} saves, {revisions} revisions live;'
          f' {", ".join(f"{n} {kind}" for kind, n in kinds.items())}, {len(wrong)} wrong; the daemon at a quarter {quarter[0] / 1024:.1f} MB,'
          f' {quarter[1]} descriptors, at the end {last[0] / 1024:.1f} MB, {last[1]}')
    shutil.rmtree(store)
    return bool(wrong) or not by_mount


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(*sys.argv[1:]))
