"""System calls of other processes, counted, failed and cut short by ptrace (x86_64).

A `Tracer` follows the threads of a process. Each system call that names a file, or makes a descriptor, is a `Call`; those on
/dev/fuse, sockets, pipes, inotify and the log are not, nor is what does not touch the disk. `decide` says what happens to it.
One process traces at a time with its own children, so `waitpid` is all its own.
"""
import ctypes
import errno
import os
import signal
import struct
import time

SEIZE, INTERRUPT, LISTEN, SYSCALL, DETACH, POKE, INFO = 0x4206, 0x4207, 0x4208, 24, 17, 6, 0x420E
SYSGOOD, THREADS, EXECS, EXITKILL, ALL = 1, 8, 0x10, 0x100000, 0x40000000
# Where `struct user` has the registers.
NUMBER, RESULT, COUNTS = 120, 80, {'read': 96, 'write': 96, 'pread64': 96, 'pwrite64': 96, 'copy_file_range': 72, 'sendfile': 56}

# Name: number, the argument that is a descriptor, the one that is a path.
TABLE = {name: row for row in [line.split() for line in '''
read 0 0 -|write 1 0 -|open 2 - 0|close 3 0 -|stat 4 - 0|fstat 5 0 -|lstat 6 - 0|mmap 9 4 -|pread64 17 0 -|pwrite64 18 0 -|readv 19 0 -
writev 20 0 -|access 21 - 0|dup 32 0 -|dup2 33 0 -|sendfile 40 0 -|socket 41 - -|fcntl 72 0 -|flock 73 0 -|fsync 74 0 -
fdatasync 75 0 -|truncate 76 - 0|ftruncate 77 0 -|rename 82 - 0|mkdir 83 - 0|rmdir 84 - 0|creat 85 - 0|link 86 - 0|unlink 87 - 0
symlink 88 - 0|readlink 89 - 0|chmod 90 - 0|fchmod 91 0 -|chown 92 - 0|fchown 93 0 -|lchown 94 - 0|statfs 137 - 0|fstatfs 138 0 -
setxattr 188 - 0|lsetxattr 189 - 0|fsetxattr 190 0 -|getxattr 191 - 0|lgetxattr 192 - 0|fgetxattr 193 0 -|listxattr 194 - 0
llistxattr 195 - 0|flistxattr 196 0 -|removexattr 197 - 0|lremovexattr 198 - 0|fremovexattr 199 0 -|getdents64 217 0 -
inotify_add_watch 254 - 1|openat 257 0 1|mkdirat 258 0 1|mknodat 259 0 1|fchownat 260 0 1|newfstatat 262 0 1|unlinkat 263 0 1
renameat 264 0 1|linkat 265 2 3|symlinkat 266 1 2|readlinkat 267 0 1|fchmodat 268 0 1|faccessat 269 0 1|sync_file_range 277 0 -
utimensat 280 0 1|fallocate 285 0 -|eventfd2 290 - -|dup3 292 0 -|pipe2 293 - -|inotify_init1 294 - -|preadv 295 0 -|pwritev 296 0 -
syncfs 306 0 -|renameat2 316 0 1|memfd_create 319 - -|copy_file_range 326 0 -|statx 332 0 1|pidfd_open 434 - -|openat2 437 0 1
faccessat2 439 0 1|fchmodat2 452 0 1'''.replace('|', '\n').split('\n') if line.strip()] for name in [row[0]]}
BY_NUMBER = {int(row[1]): (name, *(None if arg == '-' else int(arg) for arg in row[2:])) for name, row in TABLE.items()}
# Of these any number is a descriptor, or none.
ALWAYS = {'socket', 'eventfd2', 'pipe2', 'inotify_init1', 'memfd_create', 'pidfd_open', 'inotify_add_watch'}
# What else these calls are called, so that a count does not hang on which one libc takes.
SAME = {'pread64': 'read', 'pwrite64': 'write', 'newfstatat': 'stat', 'fstat': 'stat', 'lstat': 'stat', 'statx': 'stat'}

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, tid, addr=0, data=0):
    done = libc.ptrace(request, tid, addr, data)
    if done < 0 and ctypes.get_errno() not in (0, errno.ESRCH):
        raise OSError(ctypes.get_errno(), f'ptrace {request}')
    return done


def status_of(tid, line):
    try:
        with open(f'/proc/{tid}/status') as status:
            return next((int(at.split()[1]) for at in status if at.startswith(line)), None)
    except OSError:
        return None


def leader(tid):
    return status_of(tid, 'Tgid:')


def tracees(pid):
    """The threads of a process that this one traces."""
    try:
        return [int(tid) for tid in os.listdir(f'/proc/{pid}/task') if status_of(tid, 'TracerPid:') == os.getpid()]
    except OSError:
        return []


class Call:
    """One system call that is about to be made."""

    def __init__(self, tid, name, args, fd, path):
        self.tid, self.name, self.args, self.fd, self.path = tid, name, args, fd, path

    @property
    def key(self):
        """Of what it is a use: how many of a process's ancestors there are to look at changes no other number."""
        return f'{self.name}@proc' if self.place().startswith('/proc/') and not self.path.startswith('/proc/self/') else self.name

    def place(self):
        """What it is about, as a path."""
        if self.path and (self.path.startswith('/') or not self.fd):
            return self.path
        return f'{self.fd}/{self.path}' if self.path else self.fd or ''

    def __str__(self):
        return f'{self.name} {self.place()}'


class Short:
    """The call reads or writes a part of what it was asked to."""


class Tracer:
    def __init__(self, skip):
        self.skip, self.exits, self.pending, self.traced, self.released = skip, {}, {}, set(), set()
        self.last = time.monotonic()

    def seize(self, pid):
        for tid in map(int, os.listdir(f'/proc/{pid}/task')):
            if ptrace(SEIZE, tid, 0, SYSGOOD | THREADS | EXECS | EXITKILL) == 0:
                self.traced.add(tid)
                ptrace(INTERRUPT, tid)

    def release(self):
        """Lets all go on untraced."""
        for tid in self.traced:
            ptrace(INTERRUPT, tid)
        waits = set(self.traced)
        deadline = time.monotonic() + 5
        while waits and time.monotonic() < deadline:
            got = self.wait(deadline)
            if got is None:
                break
            tid, status = got
            if not os.WIFSTOPPED(status):
                waits.discard(tid)
                continue
            if os.WSTOPSIG(status) == signal.SIGTRAP | 0x80 and tid in self.pending:
                self.stopped(tid, status, lambda call: None)
                continue
            sig = os.WSTOPSIG(status)
            ptrace(DETACH, tid, 0, sig if status >> 16 == 0 and sig & 0x7f != signal.SIGTRAP else 0)
            waits.discard(tid)
            self.traced.discard(tid)
            self.released.add(tid)
        # Threads that began meanwhile.
        for pid in {leader(tid) for tid in waits | self.released} - {None}:
            for tid in tracees(pid):
                ptrace(INTERRUPT, tid)
                while (got := self.wait(deadline)) and got[0] != tid:
                    pass
                ptrace(DETACH, tid)
        self.released.clear()
        self.traced.clear()
        self.pending.clear()

    def wait(self, deadline):
        """The next that stops or ends, or `None` if it is too late."""
        pause = 0.00002
        while True:
            try:
                tid, status = os.waitpid(-1, ALL | os.WNOHANG)
            except ChildProcessError:
                return None
            if tid:
                if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                    self.exits[tid] = status
                    self.traced.discard(tid)
                    self.pending.pop(tid, None)
                return tid, status
            if time.monotonic() > deadline:
                return None
            time.sleep(pause)
            pause = min(pause * 2, 0.0005)

    def until(self, done, decide, timeout, quiet=0.02):
        """Lets all run until `done()`, and then until nothing has been called for a while. Whether it came to that."""
        deadline = time.monotonic() + timeout
        self.last = time.monotonic()
        while True:
            now = time.monotonic()
            if done() and now - self.last > quiet:
                return True
            if now > deadline:
                return False
            got = self.wait(min(deadline, now + quiet))
            if got and os.WIFSTOPPED(got[1]):
                self.stopped(*got, decide)
            elif not got and not self.traced and done():
                return True

    def stopped(self, tid, status, decide):
        sig, event = os.WSTOPSIG(status), status >> 16
        self.traced.add(tid)
        if event == 128 and sig in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
            ptrace(LISTEN, tid)
            return
        if event:
            ptrace(SYSCALL, tid)
        elif sig == signal.SIGTRAP | 0x80:
            self.at_call(tid, decide)
            ptrace(SYSCALL, tid)
        else:
            ptrace(SYSCALL, tid, 0, sig)

    def at_call(self, tid, decide):
        info = ctypes.create_string_buffer(88)
        if ptrace(INFO, tid, 88, ctypes.addressof(info)) <= 0:
            return
        if info.raw[0] == 1:
            number, *args = struct.unpack_from('<7Q', info.raw, 24)
            call = self.read(tid, number, args)
            if call:
                self.last = time.monotonic()
                does = decide(call)
                if does is Short:
                    at = COUNTS.get(call.raw)
                    count = args[(3 if call.raw == 'sendfile' else 4 if call.raw == 'copy_file_range' else 2)]
                    ptrace(POKE, tid, at, max(count // 2, 1))
                elif does:
                    # A descriptor is given up whatever close says.
                    if call.name != 'close':
                        ptrace(POKE, tid, NUMBER, 2**64 - 1)
                    self.pending[tid] = does
        elif info.raw[0] == 2 and tid in self.pending:
            ptrace(POKE, tid, RESULT, 2**64 - self.pending.pop(tid))

    def read(self, tid, number, args):
        known = BY_NUMBER.get(number)
        if not known:
            return None
        name, at_fd, at_path = known
        if name == 'fcntl' and args[1] not in (0, 1030):
            return None
        fd, path = '', ''
        if at_fd is not None:
            at = ctypes.c_int32(args[at_fd] & 0xffffffff).value
            if at < 0 and name == 'mmap':
                return None
            if at >= 0:
                try:
                    fd = os.readlink(f'/proc/{tid}/fd/{at}')
                except OSError:
                    return None
                if not fd.startswith('/') or fd.startswith(('/dev/', '/memfd:')) or fd == self.skip:
                    return None
        if at_path is not None and args[at_path]:
            path = self.string(tid, args[at_path])
        call = Call(tid, SAME.get(name, name), args, fd, path)
        call.raw = name
        if not fd and not path and name not in ALWAYS:
            return None
        if path.startswith(('/dev/', '/lib', '/etc', '/usr', '/sys')):
            return None
        return call

    @staticmethod
    def string(tid, at):
        try:
            with open(f'/proc/{tid}/mem', 'rb', 0) as memory:
                memory.seek(at)
                return memory.read(512).split(b'\0')[0].decode(errors='replace')
        except (OSError, ValueError):
            try:
                with open(f'/proc/{tid}/mem', 'rb', 0) as memory:
                    memory.seek(at)
                    return memory.read(4096 - at % 4096).split(b'\0')[0].decode(errors='replace')
            except (OSError, ValueError):
                return ''
