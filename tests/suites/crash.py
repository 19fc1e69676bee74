#!/usr/bin/env python3
"""Writers on a mount that ends without a word, and what is there afterwards.

crash.py cut REVFS NODE_MODULES PLACE FILESYSTEM CUTS [async]         its disk shuts down with all that was not flushed
crash.py machine REVFS NODE_MODULES PLACE FILESYSTEM,… CUTS KERNEL    a machine dies; KERNEL holds boot/ and lib/modules/
crash.py kill REVFS NODE_MODULES PLACE KILLS OBJECTS                  the daemon is killed

Each file but those of all has one writer, so that the states it may be in are known: the last that its writer was told to be
durable, or one that it tried to make since. No text that was durable is missing, live or gone, no revision is torn, and the
original library reads what the mount shows. Every second round has one way of making something durable; $FIRST is the number
of the first. $DICE draws other moments. With `async` the mount does not wait for the disk (-o async), and what was told is that
once somebody has looked: a mount, or `check --repair` in every third round. As root, in a mount namespace of its own; exits with 77 where there is no such disk.
"""
import atexit
import fcntl
import glob
import json
import mmap
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

from media import texts

SHARED = 7
SKIPPED = 77
# FS_IOC_SHUTDOWN, ext4's and xfs's own: with FS_SHUTDOWN_FLAGS_NOLOGFLUSH, or _LOGFLUSH, by which all names come to the disk
# and bytes do not, as when the power fails right after a commit.
SHUTDOWN, DROP, NAMES = 0x8004587d, struct.pack('I', 2), struct.pack('I', 1)
# How a save becomes durable, if it does.
IN_PLACE = ('close', 'fsync', 'fdatasync', 'directory', 'halves', 'O_SYNC', 'mapped', 'read again', 'opened again')
BY_RENAME = ('close', 'fsync', 'directory', 'after', 'read again')
WAYS = ('read again', 'after', 'opened again', 'directory', 'halves', 'O_SYNC', 'mapped', 'fdatasync', 'fsync', 'close')


class Writer:
    """Changes files until the first failure. A line says what it tries, and what it was told: `told`, or `kept` where that is
    to survive a power cut."""

    def __init__(self, mount, word, durable, number, objects, say):
        self.mount, self.word, self.durable, self.number, self.say = mount, word, durable, number, say
        self.objects = objects
        self.dice = random.Random(f'{word}-{number}')
        self.there, self.deleted, self.kind = {}, {}, ''
        # In every second round there is one way alone: else what one does not do another would.
        number = int(word)
        self.only = WAYS[number // 2 % len(WAYS)] if number % 2 else None
        self.root = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)

    def tell(self, verb, name, said):
        os.write(self.say, f'{verb}\t{name}\t{said}\n'.encode())

    def path(self, name):
        return f'{self.mount}/{name}'

    def run(self):
        n = 0
        while True:
            n += 1
            name, said = f'w{self.number}-{self.dice.randrange(self.objects)}.json', f'{self.word}-{self.number}-{n}'
            try:
                self.step(name, said, self.dice.random())
            except OSError as e:
                self.tell('fail', name, f'{time.monotonic()} {self.kind}: {e}')
                return

    def step(self, name, said, luck):
        if name not in self.there:
            self.there[name] = os.path.exists(self.path(name))
        if luck < .06 and not self.only:
            self.note(said)
        elif luck < .2:
            self.save(f'all-{self.dice.randrange(SHARED)}.json', said)
        elif luck < .3 and self.there[name]:
            self.delete(name)
        elif luck < .5 and name in self.deleted:
            self.undelete(name)
        elif luck < .56 and self.there[name]:
            self.move(name)
        else:
            said = self.save(name, said)
            if luck > .9 and self.read(name) != said:
                self.tell('fail', name, f'{time.monotonic()} {self.kind}: reads {self.read(name)}, not {said}')

    def read(self, name):
        with open(self.path(name)) as file:
            return json.load(file)['said']

    def names_kept(self, *states):
        """Names changed, and now they are durable, perhaps."""
        for name, said in states:
            self.tell('told', name, said)
        if self.dice.random() < .6 and self.only in (None, 'directory'):
            os.fsync(self.root)
            for name, said in states:
                self.tell('kept', name, said)

    def delete(self, name):
        self.kind = 'delete'
        self.deleted[name] = self.read(name)
        self.tell('try', name, '-')
        os.unlink(self.path(name))
        self.there[name] = False
        self.names_kept((name, '-'))

    def undelete(self, name):
        self.kind = 'undelete'
        said = self.deleted.pop(name)
        self.tell('try', name, said)
        os.rename(self.path(f'.deleted/{name.removesuffix(".json")}'), self.path(name))
        self.there[name] = True
        self.names_kept((name, said))

    def move(self, name):
        free = [other for other, there in self.there.items() if not there]
        if not free:
            return
        self.kind, to, said = 'move', self.dice.choice(free), self.read(name)
        self.tell('try', to, said)
        self.tell('try', name, '-')
        os.rename(self.path(name), self.path(to))
        self.there[name], self.there[to] = False, True
        self.deleted.pop(to, None)
        self.names_kept((to, said), (name, '-'))

    def note(self, said):
        """A scratch file, as careful programs save."""
        self.kind, name = 'note', f'note-{self.number}-{self.dice.randrange(3)}.txt'
        self.tell('try', name, said)
        with open(self.path('.' + name), 'w') as file:
            json.dump({'said': said}, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(self.path('.' + name), self.path(name))
        self.names_kept((name, said))

    def save(self, name, said):
        # Two who make one new file in place have one file, as on a disk.
        fresh = name.startswith('all-') and not os.path.exists(self.path(name))
        ways = {True: BY_RENAME, False: IN_PLACE}
        by_rename = fresh or self.dice.random() < .4
        if self.only and not fresh and self.only not in ways[by_rename]:
            by_rename = not by_rename
        how = self.only if self.only in ways[by_rename] else self.dice.choice(ways[by_rename]) if not self.only else 'close'
        self.kind = f'{"renamed" if by_rename else "in place"}, {how}'
        said = f'{said} {self.kind}'
        self.there[name] = True
        self.deleted.pop(name, None)
        text = json.dumps({'said': said, 'pad': 'x' * self.dice.choice((10, 500, 5000, 20000))}).encode()
        self.tell('try', name, said)
        target = self.path(name)
        path = self.path(f'.{self.number}.tmp') if by_rename else target
        flags = os.O_SYNC if how == 'O_SYNC' else 0
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | flags, 0o644)
        kept = lambda: self.tell('kept', name, said)
        try:
            if how == 'mapped':
                os.ftruncate(fd, len(text))
                with mmap.mmap(fd, len(text)) as mapped:
                    mapped[:] = text
                    mapped.flush()
                kept()
            else:
                half = len(text) // 2
                os.write(fd, text[:half])
                if how == 'halves':
                    os.fsync(fd)
                os.write(fd, text[half:])
                if how == 'O_SYNC':
                    kept()
            if how == 'fdatasync':
                os.fdatasync(fd)
                kept()
            if how == 'fsync' or by_rename and how == 'directory':
                os.fsync(fd)
                by_rename or kept()
            if how == 'after':
                os.rename(path, target)
                os.fsync(fd)
                kept()
        finally:
            os.close(fd)
        if by_rename and how != 'after':
            os.rename(path, target)
        # What was durable by half is so as a whole, says the close.
        self.tell('kept' if self.durable or how == 'halves' else 'told', name, said)
        if how == 'directory':
            os.fsync(self.root)
            kept()
        elif how in ('read again', 'opened again'):
            fd = os.open(target, os.O_RDONLY if how == 'read again' else os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
            kept()
        return said


def write(mount, word, durable, writers, objects, say):
    """Starts them."""
    pids = []
    for number in range(writers):
        pid = os.fork()
        if not pid:
            try:
                Writer(mount, word, durable, number, objects, say).run()
            finally:
                os._exit(0)
        pids.append(pid)
    return pids


class Known:
    """What may be, from what the writers said."""

    def __init__(self, first):
        self.first, self.now, self.kept, self.touched, self.counts = first, {}, set(), {}, {'told': 0, 'kept': 0}

    def hear(self, lines, all_kept, end):
        """`end`: since when failures are due. Returns what should not have been."""
        wrong = []
        for line in lines:
            verb, name, said = line.split('\t')
            if verb == 'fail':
                at, why = said.split(' ', 1)
                if float(at) < end:
                    wrong.append(f'{name}: {why}')
                continue
            states = self.touched.setdefault(name, [self.now.get(name, self.first(name))])
            if verb == 'try':
                states.append(said)
                continue
            self.counts[verb] += 1
            if verb == 'kept' or all_kept:
                if said != '-' and name.endswith('.json'):
                    self.kept.add(said)
                if not name.startswith('all-'):
                    del states[: len(states) - 1 - states[::-1].index(said)]
        return wrong

    def settle(self, read):
        """Looks at all that was touched; what is there now is what was kept."""
        wrong = []
        for name, states in self.touched.items():
            if name.startswith('all-'):
                continue
            found = read(name)
            if found not in states:
                wrong.append(f'{name} is {found}, not one of {states}')
            self.now[name] = found
        self.touched = {}
        return wrong


class Mount:
    """The daemon, and how long it took until it served."""

    def __init__(self, revfs, store, at, options, log, probe='.status'):
        self.at = at
        start = time.monotonic()
        command = [revfs, 'mount', '--foreground', *options, store, at]
        self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not self.serves(probe):
            if self.daemon.poll() is not None or time.monotonic() - start > 60:
                said = open(log.name, errors='replace').read()[-2000:]
                raise SystemExit(f'no mount: {command}, ended with {self.daemon.poll()}: {said}')
            time.sleep(.001)
        self.took = time.monotonic() - start

    def serves(self, probe):
        try:
            # What is below has no such file, and a dead one opens none.
            os.close(os.open(f'{self.at}/{probe}', os.O_RDONLY))
            return True
        except OSError:
            return False

    def read(self, name):
        try:
            with open(f'{self.at}/{name}') as file:
                text = file.read()
        except FileNotFoundError:
            return '-'
        try:
            return json.loads(text)['said']
        except (ValueError, KeyError, TypeError):
            return f'torn: {text[:40]!r}'

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()


def must(*command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f'{command}: {done.stdout}{done.stderr}')
    return done.stdout


def gone(path):
    """Unmounts what nobody needs any more."""
    for _ in range(200):
        if subprocess.run(['umount', path], capture_output=True).returncode == 0 or not os.path.ismount(path):
            return
        time.sleep(.02)
    raise SystemExit(f'{path} is busy')


def original(modules, store, ids):
    """What the original library reads."""
    script = '''const read = async () => {
        const store = await require('multiprocess-store').createStore(process.argv[1])
        for (const id of JSON.parse(require('fs').readFileSync(0))) {
            const found = await store.getObject(id).catch(e => ({said: String(e)}))
            console.log(JSON.stringify([id, found && found.said]))
        }
    }
    read()'''
    node = ['node', '-e', script, store]
    done = subprocess.run(node, input=json.dumps(ids), capture_output=True, text=True, env={**os.environ, 'NODE_PATH': modules})
    if done.returncode:
        raise SystemExit(f'node: {done.stderr}')
    return dict(json.loads(line) for line in done.stdout.splitlines())


class Crash:
    """Rounds of one kind. A subclass says what the store lies on and how it ends."""

    writers, objects, per_store = 8, 24, 10
    all_kept, probe = False, '.status'

    def __init__(self, revfs, modules, place):
        self.revfs, self.modules, self.place = map(os.path.abspath, (revfs, modules, place))
        self.store, self.at = f'{place}/disk/store', f'{place}/mnt'
        self.dice = random.Random(os.environ.get('DICE'))
        self.log = open(f'{place}/daemon', 'a')
        self.took, self.wrong, self.mount, self.stores = [], [], None, 0
        self.totals = {'told': 0, 'kept': 0}
        os.makedirs(f'{place}/disk', exist_ok=True)
        os.makedirs(self.at, exist_ok=True)
        atexit.register(self.end)

    def end(self):
        """Also after a failure nothing is left running."""
        if self.mount:
            self.mount.kill()

    def first(self, name):
        return '-'

    def lacks(self):
        """Why that cannot be had here."""

    def rounds(self, count):
        first = int(os.environ.get('FIRST', 0))
        for n in range(first, first + count):
            if (n - first) % self.per_store == 0:
                if n > first:
                    self.end_store()
                self.new_store()
                self.stores += 1
                self.known = Known(self.first)
            self.say = f'{self.place}/said'
            open(self.say, 'w').close()
            end = self.go(n, n % 6 == 4 or n % 40 == 19)
            with open(self.say) as said:
                lines = [line[:-1] for line in said if line.endswith('\n')]
            wrong = self.known.hear(lines, self.all_kept, end) + self.after(n)
            for line in wrong[:5]:
                print(f'round {n}: {line}', flush=True)
            self.wrong += wrong
        self.end_store()
        took = sorted(self.took)
        print(f'{count} {self.name}: {self.totals["kept"]} kept, {self.totals["told"]} only told, {len(self.wrong)} wrong;'
              f' serving again after {took[len(took) // 2] * 1000:.0f} ms in the middle, {took[-1] * 1000:.0f} at most')
        return bool(self.wrong) or not self.totals['kept']

    def serve(self, *options):
        self.mount = Mount(self.revfs, self.store, self.at, options, self.log, self.probe)
        mounts = [line for line in open('/proc/self/mountinfo') if line.split()[4] == self.at]
        if len(mounts) != 1:
            self.wrong.append(f'mounted {len(mounts)} times')

    def look(self, whole):
        """`whole`: the whole store, not only what was touched."""
        names = [name for name in self.known.touched if name.endswith('.json')]
        wrong = self.known.settle(self.mount.read)
        ids = [name.removesuffix('.json') for name in names]
        places = [self.store] if whole else [f'{self.store}/{at}{id}' for id in ids for at in ('', '.revfs/gone/')]
        said, torn = texts(*places)
        wrong += [f'torn: {path}' for path in torn]
        if whole:
            lost = self.known.kept - said
            self.known.kept -= lost
            wrong += [f'lost: {text}' for text in sorted(lost)]
            ids = [id for id in os.listdir(self.store) if id[0] != '.']
            read = original(self.modules, self.store, ids)
            for id in ids:
                here = self.mount.read(id + '.json')
                if read.get(id) != here or here.startswith('torn'):
                    wrong.append(f'{id}: the original reads {read.get(id)}, the mount {here}')
        return wrong

    def end_store(self):
        for verb in self.totals:
            self.totals[verb] += self.known.counts[verb]

    def write(self, word, durable):
        say = os.open(self.say, os.O_WRONLY | os.O_APPEND)
        pids = write(self.at, word, durable, self.writers, self.objects, say)
        os.close(say)
        return pids

    def until_said(self, lines, seconds, machine=None):
        """Until the writers have said so much, if they do in time: a busy machine is slow. Whether they have said anything."""
        until, said = time.monotonic() + seconds, open(self.say)
        while lines > 0 and time.monotonic() < until:
            if machine and machine.poll() is not None:
                raise SystemExit(f'the machine has ended, see {self.place}/console and {self.log.name}')
            lines -= said.read().count('\n')
            time.sleep(.002)
        said.close()
        return os.path.getsize(self.say) > 0

    def wait(self, pids, seconds=20):
        """The writers end by themselves."""
        until, left = time.monotonic() + seconds, set(pids)
        while left and time.monotonic() < until:
            left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
            time.sleep(.002)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return len(left)


class Cut(Crash):
    name = 'cuts'

    def __init__(self, *args, kind, how=''):
        super().__init__(*args)
        self.how, self.torn = how, 0
        self.kind, self.image, self.disk = kind, f'{self.place}/image', f'{self.place}/disk'
        self.name = f'cuts of {kind}{how and ", " + how}'

    def lacks(self):
        if not shutil.which(f'mkfs.{self.kind}'):
            return f'no mkfs.{self.kind}'
        self.make_image()
        tried = subprocess.run(['mount', '-o', 'loop', self.image, self.disk], capture_output=True, text=True)
        return tried.stderr.strip() or gone(self.disk)

    def make_image(self):
        with open(self.image, 'wb') as image:
            image.truncate(320 << 20)
        must(f'mkfs.{self.kind}', '-q', self.image)

    def new_store(self):
        self.make_image()
        must('mount', '-o', 'loop', self.image, self.disk)
        os.mkdir(self.store)
        os.sync()
        gone(self.disk)

    def up(self):
        must('mount', '-o', 'loop', self.image, self.disk)

    def go(self, n, durable):
        self.up()
        # A sync point comes after some seconds, so most rounds end before.
        self.serve(*(['-o', self.how or 'durable'] if durable or self.how else []))
        durable = durable and not self.how
        pids = self.write(f'{n}', durable)
        self.until_said(self.dice.randrange(20, 600), 2)
        if self.how and n % 8 == 7:
            time.sleep(5)
        time.sleep(self.dice.uniform(0, .01))
        disk = os.open(self.disk, os.O_RDONLY)
        end = time.monotonic()
        fcntl.ioctl(disk, SHUTDOWN, NAMES if self.how and n % 4 < 2 else DROP)
        os.close(disk)
        hang = self.wait(pids)
        if hang:
            self.wrong.append(f'{hang} writers hang')
        self.down()
        return end

    def down(self):
        self.mount.kill()
        must('umount', '-l', self.at)
        gone(self.disk)

    def after(self, n):
        self.up()
        wrong = []
        if self.how:
            self.torn += len(texts(self.store)[1])
            if n % 3 == 2:
                subprocess.run([self.revfs, 'check', '--repair', self.store], capture_output=True)
                wrong += [f'torn after check: {path}' for path in texts(self.store)[1]]
        self.serve()
        self.took.append(self.mount.took)
        wrong += self.look(True)
        unsynced = f'{self.store}/.revfs/unsynced'
        if self.how and os.path.exists(unsynced) and os.listdir(unsynced):
            wrong.append('what was not on the disk is not looked at')
        self.down()
        return wrong

    def rounds(self, count):
        wrong = super().rounds(count)
        if self.how:
            print(f'{self.torn} revisions were torn before somebody looked')
        return wrong


class Machine(Cut):
    """It is started once, with all it needs in memory, and its state kept when it waits for its disk: each round goes on from there."""

    # Behind the file system the disk has a block that tells the machine what to do.
    size, block = 320 << 20, 4096

    def __init__(self, *args, kind, kernel):
        self.kinds = kind.split(',')
        super().__init__(*args, kind=self.kinds[0])
        self.name = f'machines with {kind} killed'
        version = os.listdir(f'{kernel}/lib/modules')[0]
        self.kernel, self.initrd, self.state = f'{kernel}/boot/vmlinuz-{version}', f'{self.place}/initrd', f'{self.place}/state'
        self.pack(f'{self.place}/initial', kernel, version)

    def pack(self, root, kernel, version):
        """This program and revfs, with what they load."""
        must('depmod', '-b', kernel, version)
        modules = {}
        for module in ('virtio_pci', 'virtio_blk', 'virtio_console', 'fuse', *self.kinds, 'crc32c_generic'):
            shown = must('modprobe', '-d', kernel, '-S', version, '--show-depends', module)
            modules |= {line.split()[1]: f'/{module}' for line in shown.splitlines() if line.startswith('insmod')}
        files = [os.path.realpath(sys.executable), self.revfs, shutil.which('busybox')]
        files += [module.__file__ for module in list(sys.modules.values()) if getattr(module, '__file__', None)]
        for path in [path for path in files if not path.endswith('.py')]:
            shown = subprocess.run(['ldd', path], capture_output=True, text=True).stdout
            files += [word for word in shown.split() if word[0] == '/']
        for path in {*files, *modules}:
            os.makedirs(root + os.path.dirname(path), exist_ok=True)
            shutil.copy2(path, root + path)
        must('strip', root + self.revfs)
        busybox = shutil.which('busybox')
        with open(f'{root}/init', 'w') as init:
            init.write(f'''#!{busybox} sh
                for at in {' '.join(modules)}; do {busybox} insmod $at; done
                {busybox} mkdir -p /dev /proc /sys /tmp {self.disk} {self.at}
                {busybox} mount -t devtmpfs dev /dev
                {busybox} mount -t proc proc /proc
                {busybox} mount -t sysfs sys /sys
                exec {files[0]} {os.path.abspath(__file__)} guest {self.revfs} {busybox} {self.disk} {self.at}
                ''')
        os.chmod(f'{root}/init', 0o755)
        must('sh', '-c', f'cd {root} && find . | cpio -o -H newc --quiet >{self.initrd}')

    def start(self, *more):
        command = ['qemu-system-x86_64', '-accel', 'tcg', '-m', '512M', '-smp', '2', '-display', 'none', '-no-reboot', '-nodefaults',
                   '-vga', 'none', '-net', 'none', '-serial', f'file:{self.place}/console', '-kernel', self.kernel, '-initrd', self.initrd,
                   '-append', 'console=ttyS0 panic=-1 quiet no_timer_check mitigations=off',
                   '-drive', f'file={self.image},format=raw,if=virtio,cache=writeback', '-device', 'virtio-serial',
                   '-chardev', f'file,id=said,path={self.say},append=on', '-device', 'virtserialport,chardev=said', *more]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def keep_state(self):
        monitor = f'{self.place}/monitor'
        machine = self.start('-monitor', f'unix:{monitor},server,nowait')
        try:
            if not self.until_said(1, 900, machine):
                raise SystemExit(f'the machine does not start, see {self.place}/console')
            with socket.socket(socket.AF_UNIX) as told:
                told.connect(monitor)
                told.sendall(f'migrate "exec:cat >{self.state}"\n'.encode())
                said = b''
                while b'Migration status: completed' not in said:
                    time.sleep(.1)
                    told.sendall(b'info migrate\n')
                    said += told.recv(1 << 16)
                    if b'failed' in said:
                        raise SystemExit(said.decode())
        finally:
            machine.kill()
            machine.wait()

    def make_image(self):
        super().make_image()
        os.truncate(self.image, self.size + self.block)

    def new_store(self):
        self.kind = self.kinds[self.stores % len(self.kinds)]
        super().new_store()
        if not os.path.exists(self.state):
            self.say = f'{self.place}/ready'
            open(self.say, 'w').close()
            self.keep_state()

    def tell(self, what):
        with open(self.image, 'r+b') as image:
            image.seek(self.size)
            image.write(what.encode().ljust(self.block, b'\0'))

    def go(self, n, durable):
        self.tell(f'{self.kind} {n} {durable}')
        machine = self.start('-incoming', f'exec:cat {self.state}')
        try:
            if not self.until_said(1, 300, machine):
                raise SystemExit(f'the machine does not go on, see {self.place}/console')
            self.until_said(self.dice.randrange(10, 300), 20, machine)
        finally:
            machine.kill()
            machine.wait()
        self.tell('')
        return float('inf')


def guest(revfs, busybox, disk, at):
    """What the machine does."""
    say = os.open(glob.glob('/dev/vport*p*')[0], os.O_WRONLY)
    device = os.open('/dev/vda', os.O_RDONLY | os.O_DIRECT)
    told = mmap.mmap(-1, Machine.block)
    os.write(say, b'ready\n')
    while not told[0]:
        time.sleep(.05)
        os.preadv(device, [told], Machine.size)
    kind, word, durable = bytes(told).rstrip(b'\0').decode().split()
    # BLKFLSBUF: what was read of the disk when it was another.
    fcntl.ioctl(device, 0x1261)
    must(busybox, 'mount', '-t', kind, '/dev/vda', disk)
    Mount(revfs, f'{disk}/store', at, ['-o', 'durable'] if durable == 'True' else [], sys.stderr)
    for pid in write(at, word, durable == 'True', Crash.writers, Crash.objects, say):
        os.waitpid(pid, 0)
    time.sleep(1000)


class Kill(Crash):
    name, all_kept, probe, per_store = 'kills', True, 'probe.json', 250

    def __init__(self, *args, objects):
        super().__init__(*args)
        self.objects = objects // self.writers

    def first(self, name):
        return 'made' if name[0] == 'w' else '-'

    def new_store(self):
        os.mkdir(self.store)
        # An object that no writer deletes tells whether the mount serves.
        ids = [f'w{writer}-{n}' for writer in range(self.writers) for n in range(self.objects)] + ['probe']
        for id in ids:
            os.mkdir(f'{self.store}/{id}')
            with open(f'{self.store}/{id}/0-{self.dice.randbytes(16).hex()}', 'w') as file:
                file.write('{"said": "made"}')
        self.serve()

    def end_store(self):
        super().end_store()
        self.wrong += self.look(True)
        must('umount', self.at)
        if self.mount.daemon.wait():
            self.wrong.append(f'the daemon ended with {self.mount.daemon.returncode}')
        shutil.rmtree(self.store)

    def go(self, n, durable):
        pids = self.write(f'{n}', False)
        self.until_said(self.dice.randrange(300), .5)
        time.sleep(self.dice.uniform(0, .01))
        end = time.monotonic()
        self.mount.kill()
        if self.wait(pids):
            self.wrong.append('writers hang')
        if n % 8 == 7:
            # While it starts.
            command = [self.revfs, 'mount', '--foreground', self.store, self.at]
            early = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
            time.sleep(self.dice.uniform(0, .06))
            early.kill()
            early.wait()
        return end

    def after(self, n):
        self.serve()
        self.took.append(self.mount.took)
        return self.look(False)


def main(what, *args):
    if what == 'guest':
        return guest(*args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    revfs, modules, place, *args = args
    crash = {'cut': lambda kind, count, how='': (Cut(revfs, modules, place, kind=kind, how=how), count),
             'machine': lambda kind, count, kernel: (Machine(revfs, modules, place, kind=kind, kernel=kernel), count),
             'kill': lambda count, objects: (Kill(revfs, modules, place, objects=int(objects)), count)}
    run, count = crash[what](*args)
    if why := run.lacks():
        print(f'skipped: {why}')
        return SKIPPED
    return run.rounds(int(count))


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
