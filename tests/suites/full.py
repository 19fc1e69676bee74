#!/usr/bin/env python3
"""Every kind of call on a disk with few blocks or few inodes left: nothing that was saved is lost, each revision is whole,
and removing, discarding, resolving and gc succeed and give room back.

full.py REVFS PLACE FILESYSTEM blocks|inodes LEFT…   as root, in a mount namespace of its own; FILESYSTEM is ext4 or tmpfs
Prints one line for each number of blocks or inodes that are LEFT; exits with 0 if all is well.
"""
import json
import os
import re
import shlex
import subprocess
import sys
import time

REVFS, PLACE, KIND, WHAT = sys.argv[1:5]
STORE, MOUNT, IMAGE, LOG = (os.path.join(PLACE, name) for name in ('store', 'mnt', 'image', 'log'))
BLOCK = 4096
LONG = '{"t":"' + 'q' * 20000 + '"}'
LOSER, WINNER = '1-' + 'a' * 32, '1-' + 'b' * 32


def sh(command, cwd='/'):
    return subprocess.run(['bash', '-c', command], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def must(command):
    done = sh(command)
    if done.returncode:
        sys.exit(f'{command}: {done.stderr}')


class Disk:
    """A disk with a store on it, mounted."""

    def __init__(self):
        must(f'mkdir -p {STORE} {MOUNT}')
        if KIND == 'ext4':
            must(f'truncate -s 16M {IMAGE}; mkfs.ext4 -q -m 0 -N 256 {IMAGE}; mount -o loop {IMAGE} {STORE}; rmdir {STORE}/lost+found')
        else:
            must(f'mount -t tmpfs -o size=8M,nr_inodes=400 tmpfs {STORE}')
        self.daemon = subprocess.Popen([REVFS, 'mount', '--foreground', STORE, MOUNT], stdout=open(LOG, 'w'), stderr=subprocess.STDOUT)
        while not os.path.ismount(MOUNT):
            time.sleep(.02)

    def end(self):
        must(f'umount {MOUNT}')
        self.daemon.wait()
        must(f'for n in 1 2 3 4 5 6 7 8 9; do umount {STORE} && exit; sleep 0.1; done; umount {STORE}')
        must(f'rm -rf {STORE} {MOUNT} {IMAGE}')

    def fill(self, left):
        """Leaves so many blocks or inodes."""
        place = STORE + '/.full'
        os.mkdir(place)
        if WHAT == 'inodes':
            try:
                for n in range(1 << 20):
                    open(f'{place}/{n}', 'x').close()
            except OSError:
                pass
            for n in range(left):
                os.unlink(f'{place}/{n}')
            return
        with open(f'{place}/0', 'xb', 0) as file:
            # What was to be written later finds its room first.
            for _ in range(2):
                try:
                    while file.write(b'x' * BLOCK):
                        pass
                except OSError:
                    os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size // BLOCK * BLOCK
            os.ftruncate(file.fileno(), max(size - left * BLOCK, 0))
            os.fsync(file.fileno())
        os.sync()


class Run:
    def __init__(self):
        self.saved, self.wrong = {}, []

    def prepare(self):
        for name in 'abcdefgh':
            for n in range(3):
                must(f"echo '{{\"{name}\":{n}}}' > {MOUNT}/{name}.json")
            self.saved[name] = f'{{"{name}":2}}\n'
        with open(MOUNT + '/long.json', 'w') as file:
            file.write(LONG)
        self.saved['long'] = LONG
        for name in ('k1', 'k2', 'k3', 'k4'):
            os.mkdir(f'{STORE}/{name}')
            for rev in ('0-' + '0' * 32, LOSER, WINNER):
                with open(f'{STORE}/{name}/{rev}', 'w') as file:
                    file.write(json.dumps({'rev': rev}))
            must(f'cat {MOUNT}/{name}.json')
        sh(f"echo '{{' | cp /dev/stdin {MOUNT}/a.json")
        must(f'echo x > {MOUNT}/note.txt')

    def try_(self, command):
        """What may fail for want of room."""
        return sh(command, MOUNT).returncode == 0

    def do(self, command):
        """What must not."""
        done = sh(command, MOUNT)
        if done.returncode:
            self.wrong.append(f'{command}: exit {done.returncode}: {done.stderr.strip()}')

    def save(self, name, command, text):
        if self.try_(command):
            self.saved[name] = text

    def look(self, when):
        for name, text in self.saved.items():
            try:
                with open(f'{MOUNT}/{name}.json') as file:
                    got = file.read()
            except OSError as e:
                got = str(e)
            if got != text:
                self.wrong.append(f'{when}: {name} is {got[:80]!r}, not {text[:80]!r}')
        # What the original library finds.
        for name in os.listdir(STORE):
            if name.startswith('.'):
                continue
            revs = os.listdir(f'{STORE}/{name}')
            if not revs:
                self.wrong.append(f'{when}: {name} has no revision')
            for rev in revs:
                try:
                    with open(f'{STORE}/{name}/{rev}') as file:
                        whole = isinstance(json.load(file), dict)
                except ValueError:
                    whole = False
                if not whole or not re.fullmatch(r'\d+-[0-9a-f]{32}', rev):
                    self.wrong.append(f'{when}: {name}/{rev} is no revision')

    def go(self, disk, left):
        self.prepare()
        disk.fill(left)
        revfs, store = shlex.quote(REVFS), shlex.quote(STORE)
        # A shell looks at what its writes say, not at its close.
        self.save('a', "echo '{\"a\":3}' > a.json", '{"a":3}\n')
        self.save('b', 'sed -i s/2/7/ b.json', '{"b":7}\n')
        self.save('n', "printf '{\"n\":1}' | cp /dev/stdin n.json", '{"n":1}')
        self.save('c', "printf '{\"c\":5}' > t.tmp && mv t.tmp c.json", '{"c":5}')
        for command in ("printf '{' | cp /dev/stdin a.json", 'echo hello > s.txt', 'mkdir dir', 'touch t.json', 'ln note.txt note'):
            self.try_(command)
        self.look('after saves')
        self.do('chmod 600 d.json')
        if self.try_('mv d.json e2.json'):
            self.saved['e2'] = self.saved.pop('d')
        self.look('after a rename')
        self.do('rm e.json')
        self.do(f'{revfs} rm {store} f')
        for name in 'ef':
            self.saved.pop(name)
            if os.path.exists(f'{STORE}/{name}') or os.path.exists(f'{MOUNT}/{name}.json'):
                self.wrong.append(f'{name} was removed and is there')
            self.do(f'{revfs} undelete {store} | grep -q " {name}$"')
        self.do(f'rm .conflicts/k1/{LOSER}')
        self.do(f'{revfs} resolve --ours {store} k2')
        self.do(f'{revfs} resolve --theirs 1-aa {store} k3')
        self.try_(f'cp .conflicts/k4/{LOSER} k4.json')
        self.do('for draft in .drafts/a/*; do rm -f $draft; done')
        self.do('rm note.txt')
        self.look('after removals')
        self.try_(f'{revfs} undelete {store} f')
        self.do(f'{revfs} gc {store} --keep 1')
        self.look('after gc --keep')
        for name in ('g', 'h', 'long'):
            self.do(f'rm {name}.json')
            self.saved.pop(name)
        os.sync()
        before = os.statvfs(STORE)
        self.do(f'{revfs} gc {store} --purge 0d --purge-deleted 0d')
        os.sync()
        gave = os.statvfs(STORE).f_bfree - before.f_bfree
        if gave < len(LONG) // BLOCK:
            self.wrong.append(f'gc gave {gave} blocks')
        if WHAT == 'blocks':
            self.do("echo '{}' > z.tmp; cp z.tmp z.json")
            self.saved['z'] = '{}\n'
        self.look('at the end')
        return gave


ok = True
for left in map(int, sys.argv[5:]):
    disk, run = Disk(), Run()
    gave = run.go(disk, left)
    print(f'{KIND}, {left} {WHAT} left: gc gave {gave} blocks', *run.wrong, sep='\n    ')
    ok = ok and not run.wrong
    disk.end()
sys.exit(0 if ok else 1)
