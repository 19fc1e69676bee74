"""Reaches one object in many ways, and looks at what each shows after the object was saved in many ways.

reach.py REVFS STORE MOUNT PLACE   exits with 0 if every way shows what the name shows; prints each that does not.
"""
import ctypes
import os
import subprocess
import sys
import time

REVFS, STORE, MOUNT, PLACE = sys.argv[1:]
C = ctypes.CDLL(None, use_errno=True)
FIRST, SECOND = b'{"v": 1}\n', b'{"v": 2, "and": "more than before"}\n'


def run(*command, text=None):
    return subprocess.run(command, input=text, check=True, stdout=subprocess.DEVNULL)


class Handle(ctypes.Structure):
    _fields_ = [('size', ctypes.c_uint), ('kind', ctypes.c_int), ('bytes', ctypes.c_ubyte * 128)]


class ByHandle:
    """As an NFS server has it."""

    def __init__(self, name):
        self.handle, mount = Handle(size=128), ctypes.c_int()
        path = f'{MOUNT}/{name}'.encode()
        assert C.name_to_handle_at(-100, path, ctypes.byref(self.handle), ctypes.byref(mount), 0) == 0

    def open(self, flags):
        mount = os.open(MOUNT, os.O_RDONLY)
        fd = C.open_by_handle_at(mount, ctypes.byref(self.handle), flags)
        error = ctypes.get_errno()
        os.close(mount)
        if fd < 0:
            raise OSError(error, os.strerror(error))
        return fd

    def size(self):
        fd = self.open(os.O_PATH)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def close(self):
        pass


class ByForgottenHandle(ByHandle):
    """The same, when the kernel knows nothing of the file any more."""

    def open(self, flags):
        with open('/proc/sys/vm/drop_caches', 'w') as f:
            f.write('2')
        return super().open(flags)


class ByDescriptor:
    """As Samba has it: O_PATH first, and then what that leads to."""

    def __init__(self, name):
        self.fd = os.open(f'{MOUNT}/{name}', os.O_PATH)

    def open(self, flags):
        return os.open(f'/proc/self/fd/{self.fd}', flags)

    def size(self):
        return os.fstat(self.fd).st_size

    def close(self):
        os.close(self.fd)


class ByPath:
    def open(self, flags):
        return os.open(self.path, flags)

    def size(self):
        return os.stat(self.path).st_size


class ByBindMount(ByPath):
    """As a container has one file of its host's."""

    def __init__(self, name):
        self.path = f'{PLACE}/one'
        open(self.path, 'w').close()
        run('mount', '--bind', f'{MOUNT}/{name}', self.path)

    def close(self):
        run('umount', self.path)


class Layer(ByPath):
    def __init__(self, name):
        for directory in ('layer', 'upper', 'work'):
            os.makedirs(f'{PLACE}/{directory}', exist_ok=True)
        self.mount()
        self.path = f'{PLACE}/layer/{name}'
        os.stat(self.path)

    def close(self):
        run('umount', f'{PLACE}/layer')


class ByOverlay(Layer):
    """The mount is the lower layer of an overlay."""

    def mount(self):
        options = f'lowerdir={MOUNT},upperdir={PLACE}/upper,workdir={PLACE}/work'
        run('mount', '-t', 'overlay', 'overlay', '-o', options, f'{PLACE}/layer')


class ByBindfs(Layer):
    """A FUSE file system above the mount."""

    def mount(self):
        # It would remember sizes for a second.
        run('bindfs', '-o', 'attr_timeout=0,entry_timeout=0', MOUNT, f'{PLACE}/layer')


def foreign(path, name):
    run(REVFS, 'put', STORE, name, text=SECOND)


def in_place(path, name):
    run('sh', '-c', f'cat > {path}', text=SECOND)


def by_rename(path, name):
    run('sh', '-c', f'cat > {path}.t; mv {path}.t {path}', text=SECOND)


def made_anew(path, name):
    run('sh', '-c', f'rm {path}; cat > {path}', text=SECOND)


def reads(way):
    fd = way.open(os.O_RDONLY)
    try:
        return os.read(fd, 1000)
    finally:
        os.close(fd)


def write(way, text, held):
    """The kernel tells of the last reader's close some time after it has returned. Until then the file is still read, and its
    size is what the reader has."""
    until = time.monotonic() + 20
    while True:
        fd = way.open(os.O_WRONLY | os.O_TRUNC)
        os.write(fd, text)
        if held or os.fstat(fd).st_size == len(text) or time.monotonic() > until:
            return fd
        os.close(fd)


def plain(path):
    with open(path, 'rb') as f:
        return f.read()


def settle(done):
    """Waits until that is so, for what no call waits for."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            if done():
                return
        except OSError:
            pass
        time.sleep(.01)


failures = 0


def expect(what, got, wanted):
    global failures
    if got != wanted:
        failures += 1
        print(f'{what}: {got!r} instead of {wanted!r}')


def play(reach, save, held):
    name = f'{reach.__name__}-{save.__name__}-{held}'
    path, what = f'{MOUNT}/{name}.json', f'{reach.__name__}, {save.__name__}{", held" if held else ""}'
    run('sh', '-c', f'cat > {path}', text=FIRST)
    way = reach(f'{name}.json')
    keeps = None
    try:
        expect(f'{what}, at first', reads(way), FIRST)
        if held:
            keeps = way.open(os.O_RDONLY)
        for round in range(2):
            save(path, name)
            if keeps is not None and reach is ByOverlay:
                # An overlay knows a lower file by its node, and the name has another one while this is open.
                expect(f'{what}, of who has it open', os.pread(keeps, 1000, 0), FIRST)
                os.close(keeps)
                keeps = None
            if reach is ByOverlay:
                # The kernel tells of a close some time after it has returned; until all of it is done the name leads elsewhere, and
                # an overlay says ESTALE.
                settle(lambda: way.size() == len(SECOND) and reads(way) == SECOND)
            expect(f'{what}, saved', reads(way), SECOND)
            if not held:
                expect(f'{what}, its size', way.size(), len(SECOND))
            elif keeps is not None:
                expect(f'{what}, of who has it open', os.pread(keeps, 1000, 0), FIRST)
            if reach is ByOverlay:
                continue
            third = b'{"v": 3%d, "and": "more than before", "r%d": 1}\n' % (round, round)
            fd = write(way, third, held)
            if not held:
                expect(f'{what}, the size of what is written', os.fstat(fd).st_size, len(third))
            os.close(fd)
            if reach is ByBindfs:
                # It closes its own descriptor some time after its caller's close has returned.
                settle(lambda: plain(path) == third)
            expect(f'{what}, saved this way', plain(path), third)
            expect(f'{what}, saved and read this way', reads(way), third)
    except OSError as e:
        expect(what, str(e), 'no error')
    finally:
        if keeps is not None:
            os.close(keeps)
        way.close()


def keep_written(reach, save):
    """As a server keeps open what its client has closed."""
    name = f'{reach.__name__}-{save.__name__}-written'
    path, what = f'{MOUNT}/{name}.json', f'{reach.__name__}, {save.__name__}, what it has saved open'
    run('sh', '-c', f'cat > {path}', text=FIRST)
    way = reach(f'{name}.json')
    fd = way.open(os.O_WRONLY | os.O_TRUNC)
    try:
        third = b'{"v": 3}\n'
        os.write(fd, third)
        os.fsync(fd)
        expect(f'{what}, by name', plain(path), third)
        expect(f'{what}, at first', (reads(way), way.size()), (third, len(third)))
        for round in range(2):
            save(path, name)
            expect(f'{what}, saved', (reads(way), way.size()), (SECOND, len(SECOND)))
    except OSError as e:
        expect(what, str(e), 'no error')
    finally:
        os.close(fd)
        way.close()


def create_open(at, text):
    """The handle is taken while its first text is written."""
    global writer
    writer = os.open(at, os.O_CREAT | os.O_WRONLY)
    os.write(writer, text)


def become(reach, story, *commands):
    """The file that was reached has become another name's, or another revision of it."""
    base = f'{reach.__name__}-{story}'.replace(' ', '-')
    first, last = (f'{base}{end}' for end in ('.t' if story.startswith('scratch') else '-1.json', '-2.json'))
    what = f'{reach.__name__}, {story}'
    if story == 'a draft':
        last = first
        create_open(f'{MOUNT}/{first}', FIRST)
    else:
        run('sh', '-c', f'cat > {MOUNT}/{first}', text=FIRST)
    if 'over' in story:
        run('sh', '-c', f'cat > {MOUNT}/{last}', text=b'{"v": 0}')
    way = reach(first)
    try:
        if story == 'a draft':
            os.close(writer)
        else:
            for step in commands:
                run('sh', '-c', f'cd {MOUNT}; F={first} L={last}; {step}')
        path = f'{MOUNT}/{last}'
        expect(f'{what}, at first', reads(way), FIRST)
        for save in (foreign, in_place, by_rename):
            save(path, last.removesuffix('.json'))
            expect(f'{what}, {save.__name__}', (reads(way), way.size()), (SECOND, len(SECOND)))
            third = b'{"v": 3, "and": "more than before", "by": "%s"}\n' % save.__name__.encode()
            fd = way.open(os.O_WRONLY | os.O_TRUNC)
            os.write(fd, third)
            os.close(fd)
            expect(f'{what}, {save.__name__}, and saved this way', plain(path), third)
    except OSError as e:
        expect(what, str(e), 'no error')
    finally:
        way.close()


for reach in (ByHandle, ByForgottenHandle, ByDescriptor):
    become(reach, 'scratch', 'mv $F $L')
    become(reach, 'scratch over', 'mv $F $L')
    become(reach, 'scratch and on', 'mv $F between$L', 'mv between$L $L')
    become(reach, 'object', 'mv $F $L')
    become(reach, 'object over', 'mv $F $L')
    become(reach, 'object there and back', 'mv $F $L', 'mv $L $F', 'mv $F $L')
    become(reach, 'a draft')
for reach in (ByHandle, ByForgottenHandle, ByDescriptor, ByBindMount):
    for save in (foreign, in_place, by_rename):
        keep_written(reach, save)
for reach in (ByHandle, ByForgottenHandle, ByDescriptor, ByBindMount, ByOverlay, ByBindfs):
    for save in (foreign, in_place, by_rename, made_anew):
        for held in (False, True):
            play(reach, save, held)
expect('in conflict', os.listdir(f'{MOUNT}/.conflicts'), [])
sys.exit(failures > 0)
