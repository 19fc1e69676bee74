#!/usr/bin/env python3
"""Servers, layers and watchers between a program and its file: one session, on a plain directory and on a mount.

clients.py REVFS PLACE TOOLS CLIENT   as root; TOOLS has a Python with the libraries (python/) and node_modules/
clients.py --list                     the clients

The session creates, reads, overwrites, edits by renaming, appends, removes and creates anew, saves ten times, is overtaken by
others and saves again. After each step: what the client reads and its size, what a local program reads and its size, and
whether a watch of the directory (a watcher: itself) heard of it. Both sides have to say the same, but for what DIFFERS names,
and on the mount there are no conflicts and one revision for each save. Prints what differs, then
`CLIENT: plain N saves E errors; mount N saves R revisions C conflicts E errors`; exits with 0 if all is well.
"""
import contextlib
import concurrent.futures
import ctypes
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def until(what, check, seconds=30):
    end = time.time() + seconds
    while time.time() < end:
        try:
            if check():
                return
        except OSError:
            pass
        time.sleep(.05)
    raise RuntimeError(f'{what} does not come up')


def listens(port):
    def check():
        socket.create_connection(('127.0.0.1', port), 1).close()
        return True
    return check


def run(*args, given=None, **more):
    done = subprocess.run(args, input=given, capture_output=True, timeout=60, **({} if given is not None else {'stdin': subprocess.DEVNULL}), **more)
    if done.returncode:
        raise OSError((done.stderr or done.stdout).decode(errors='replace').strip().splitlines()[-1:] or f'exit {done.returncode}')
    return done.stdout


# What both sides use, ended after them.
AFTER = contextlib.ExitStack()


class Side:
    """A directory to serve, and what must be ended when its session is over."""

    def __init__(self, name, point, work, revfs, store=None):
        self.name, self.point, self.work, self.revfs, self.store = name, point, work, revfs, store
        self.ends = contextlib.ExitStack()
        os.makedirs(work, exist_ok=True)

    def start(self, *args, log=None, **more):
        log = log or f'{self.work}/log'
        with open(log, 'ab') as out:
            child = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=more.pop('stdout', out), stderr=out, start_new_session=True, **more)

        def end():
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.ends.callback(end)
        return child

    def mount(self, point, *args, **more):
        """A mount that `args` make, gone at the end."""
        os.makedirs(point, exist_ok=True)
        self.ends.callback(lambda: subprocess.run(['umount', '-l', point], stderr=subprocess.DEVNULL))
        run(*args, **more)
        until(point, lambda: os.path.ismount(point))

    def others(self, name, text):
        """Another program saves, in the store where there is one: none that the client, or who started it, knows of."""
        if not self.other:
            self.other = subprocess.Popen(['sh'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            self.ends.callback(lambda: (self.other.stdin.close(), self.other.wait()))
        save = f'{self.revfs} put {self.store} {name[:-5]}' if self.store else f'cat > {self.point}/{name}'
        self.other.stdin.write(f"printf '%s' '{text}' | {{ {save}; }} > /dev/null; echo done $?\n")
        if self.other.stdout.readline() != 'done 0\n':
            raise OSError('others cannot save')

    def tally(self):
        """Conflicts, drafts and revisions."""
        self.found = [0, 0, 0]
        if self.store:
            revs = 'cd "$0" && find a c .revfs/gone/a .revfs/gone/c -type f 2>/dev/null | sed "s,.*/,," | grep -E "^[0-9]+-[0-9a-f]{32}$" | sort -u | wc -l'
            self.found = [*(len(os.listdir(f'{self.point}/{view}')) for view in ('.conflicts', '.drafts')), int(run('sh', '-c', revs, self.store))]
        return [f'conflicts, drafts: {self.found[:2]}']

    other, found = None, [0, 0, 0]

    def local(self, name):
        """What a program beside the client sees."""
        done = subprocess.run(['sh', '-c', 'stat -c %s "$1" && cat "$1"', 'sh', f'{self.point}/{name}'], capture_output=True, stdin=subprocess.DEVNULL)
        size, _, text = done.stdout.decode().partition('\n')
        return (text, int(size)) if done.returncode == 0 else ('none',)


class Files:
    """A client that names files below a directory of the system: mounted layers, and watchers."""
    pause = 0  # seconds that it takes at least until what was saved is there

    def __init__(self, side):
        self.side, self.base = side, side.point

    def path(self, name):
        return f'{self.base}/{name}'

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read()

    def write(self, name, text):
        with open(self.path(name), 'w') as f:
            f.write(text)

    def append(self, name, text):
        with open(self.path(name), 'a') as f:
            f.write(text)

    def replace(self, name, text):
        self.write(f'.{name}.tmp', text)
        os.replace(self.path(f'.{name}.tmp'), self.path(name))

    def rename(self, old, new):
        os.rename(self.path(old), self.path(new))

    def remove(self, name):
        os.remove(self.path(name))

    def size(self, name):
        return os.stat(self.path(name)).st_size

    def names(self):
        return sorted(n for n in os.listdir(self.base) if n.endswith('.json'))

    def heard(self):
        with open(f'{self.side.work}/heard') as f:
            f.seek(getattr(self, 'at', 0))
            text = f.read()
            self.at = f.tell()
        return any('a.json' in line for line in text.splitlines() if not line.split()[-1].startswith('.'))

    def listen(self):
        with open(f'{self.side.work}/heard', 'w') as out:
            self.side.start('inotifywait', '-m', '-q', '-e', 'modify,close_write,create,delete,move', '--format', '%e %f', self.side.point, stdout=out)
        time.sleep(.3)
        return True

    def ready(self):
        pass


# --- layers

class Bindfs(Files):
    def __init__(self, side):
        super().__init__(side)
        self.base = f'{side.work}/layer'
        self.up()

    def up(self):
        self.side.mount(self.base, 'bindfs', self.side.point, self.base)


class Mergerfs(Bindfs):
    def up(self):
        run('mkdir', '-p', f'{self.side.work}/branch')
        self.side.mount(self.base, 'mergerfs', '-o', 'category.create=ff,minfreespace=0', f'{self.side.point}:{self.side.work}/branch', self.base)


class Mergerfs_cached(Bindfs):
    def up(self):
        run('mkdir', '-p', f'{self.side.work}/branch')
        self.side.mount(self.base, 'mergerfs', '-o', 'category.create=ff,minfreespace=0,cache.files=auto-full,cache.attr=30', f'{self.side.point}:{self.side.work}/branch', self.base)


class Sshfs(Bindfs):
    extra = ()

    def up(self):
        port = sshd(self.side)
        self.side.mount(self.base, 'sshfs', '-p', str(port), '-o', f'IdentityFile={self.side.work}/key,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null',
                        *self.extra, f'root@127.0.0.1:{self.side.point}', self.base)


class Sshfs_nocache(Sshfs):
    extra = ('-o', 'dir_cache=no,auto_cache')


class Rclone_mount(Bindfs):
    mode, pause = 'full', 1.2

    def up(self):
        os.makedirs(self.base, exist_ok=True)
        self.side.ends.callback(lambda: subprocess.run(['umount', '-l', self.base], stderr=subprocess.DEVNULL))
        self.side.start(f'{TOOLS}/python/bin/rclone', 'mount', '--config', '', '--vfs-cache-mode', self.mode, '--vfs-write-back', '0s', '--dir-cache-time', '0s',
                        '--attr-timeout', '0s', '--cache-dir', f'{self.side.work}/cache', self.side.point, self.base)
        until(self.base, lambda: os.path.ismount(self.base))


class Overlay_lower(Bindfs):
    """Reads and others' saves come through; what is saved goes to the upper layer."""

    def up(self):
        tmp = f'{self.side.work}/tmp'
        self.side.mount(tmp, 'mount', '-t', 'tmpfs', 'tmpfs', tmp)
        for d in ('upper', 'work'):
            os.mkdir(f'{tmp}/{d}')
        self.command(tmp)

    def command(self, tmp):
        self.side.mount(self.base, 'mount', '-t', 'overlay', 'overlay', '-o', f'lowerdir={self.side.point},upperdir={tmp}/upper,workdir={tmp}/work', self.base)


class Fuse_overlayfs_lower(Overlay_lower):
    def command(self, tmp):
        self.side.mount(self.base, 'fuse-overlayfs', '-o', f'lowerdir={self.side.point},upperdir={tmp}/upper,workdir={tmp}/work', self.base)


class Fuse_overlayfs_upper(Bindfs):
    def up(self):
        for d in ('lower',):
            os.makedirs(f'{self.side.work}/{d}', exist_ok=True)
        work = f'{self.side.point}/.work'
        os.makedirs(work, exist_ok=True)
        self.side.ends.callback(lambda: shutil.rmtree(work, ignore_errors=True))
        self.side.mount(self.base, 'fuse-overlayfs', '-o', f'lowerdir={self.side.work}/lower,upperdir={self.side.point},workdir={work}', self.base)


# --- containers: each call in one

class Shell(Files):
    """Each call is a command in a place of its own."""

    def sh(self, script, *args, given=b''):
        return run(*self.inside(), 'sh', '-c', script, 'sh', *args, given=given).decode()

    def read(self, name):
        return self.sh('cat "$1"', self.path(name))

    def write(self, name, text):
        self.sh('cat > "$1"', self.path(name), given=text.encode())

    def append(self, name, text):
        self.sh('cat >> "$1"', self.path(name), given=text.encode())

    def replace(self, name, text):
        self.sh('cat > "$1.tmp" && mv "$1.tmp" "$1"', self.path(name), given=text.encode())

    def rename(self, old, new):
        self.sh('mv "$1" "$2"', self.path(old), self.path(new))

    def remove(self, name):
        self.sh('rm "$1"', self.path(name))

    def size(self, name):
        return int(self.sh('stat -c %s "$1"', self.path(name)))

    def names(self):
        return sorted(self.sh('cd "$1" && ls', self.base).split())


class Bubblewrap(Shell):
    def inside(self):
        return ('bwrap', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc', '--unshare-all', '--bind', self.side.point, '/mnt')

    def path(self, name):
        self.base = '/mnt'
        return f'/mnt/{name}'

    def names(self):
        return sorted(self.sh('cd /mnt && ls').split())


class Bound_object(Shell):
    """One object's file, bound to a file of a container that goes on: its removal and renaming are not the container's."""
    outside = ('replace', 'remove', 'rename', 'names')

    def __init__(self, side):
        super().__init__(side)
        for name in Bound_object.outside:
            setattr(self, name, getattr(Files(side), name))
        self.holder = None

    def ready(self):
        """The container starts when there is a file to bind."""
        one = f'{self.side.work}/one'
        open(one, 'w').close()
        self.holder = self.side.start('unshare', '--mount', '--pid', '--fork', '--kill-child', '--propagation', 'private', 'sh', '-c', f'mount --bind {self.side.point}/a.json {one}; echo up > {one}.up; exec sleep 1000')
        until('the container', lambda: os.path.exists(one + '.up'))
        self.child = run('pgrep', '-P', str(self.holder.pid)).decode().split()[0]
        self.side.ends.callback(lambda: subprocess.run(['kill', '-9', self.child]))

    def inside(self):
        return ('nsenter', '-t', self.child, '-m')

    def path(self, name):
        return f'{self.side.work}/one' if name == 'a.json' else super().path(name)

    def write(self, name, text):
        if self.holder and name == 'a.json':
            return super().write(name, text)
        Files(self.side).write(name, text)

    def read(self, name):
        return super().read(name) if self.holder and name == 'a.json' else Files(self.side).read(name)

    def size(self, name):
        return super().size(name) if self.holder and name == 'a.json' else Files(self.side).size(name)


# --- servers

def sshd(side):
    port = free_port()
    if not os.path.exists(f'{side.work}/key'):
        for key in ('key', 'host'):
            run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', f'{side.work}/{key}')
        shutil.copy(f'{side.work}/key.pub', f'{side.work}/authorized')
    os.makedirs('/run/sshd', exist_ok=True)
    with open(f'{side.work}/sshd.conf', 'w') as f:
        f.write(f'Port {port}\nListenAddress 127.0.0.1\nHostKey {side.work}/host\nAuthorizedKeysFile {side.work}/authorized\nStrictModes no\n'
                f'PidFile none\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n')
    side.start('/usr/sbin/sshd', '-D', '-e', '-f', f'{side.work}/sshd.conf')
    until('sshd', listens(port))
    return port


class Client(Files):
    """Files by a protocol; texts go through files of the client's own."""

    def own(self, text=None):
        path = f'{self.side.work}/own'
        if text is not None:
            with open(path, 'w') as f:
                f.write(text)
        return path


class Sftp(Client):
    def __init__(self, side):
        super().__init__(side)
        self.port = sshd(side)

    def batch(self, *lines):
        given = ''.join(f'{line}\n' for line in lines)
        return run('sftp', '-b', '-', '-P', str(self.port), '-i', f'{self.side.work}/key', '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR',
                   f'root@127.0.0.1:{self.base}', given=given.encode()).decode()

    def read(self, name):
        own = self.own()
        if os.path.exists(own):
            os.remove(own)
        self.batch(f'get {name} {own}')
        with open(own) as f:
            return f.read()

    def write(self, name, text):
        self.batch(f'put {self.own(text)} {name}')

    def append(self, name, text):
        # What there is has to be a prefix of what is put.
        self.batch(f'reput {self.own(self.read(name) + text)} {name}')

    def replace(self, name, text):
        self.batch(f'put {self.own(text)} .{name}.tmp', f'rename .{name}.tmp {name}')

    def rename(self, old, new):
        self.batch(f'rename {old} {new}')

    def remove(self, name):
        self.batch(f'rm {name}')

    def size(self, name):
        return int(self.batch(f'ls -ln {name}').splitlines()[-1].split()[4])

    def names(self):
        return sorted(line.strip() for line in self.batch('ls -1').splitlines() if line.strip().endswith('.json'))


class Paramiko(Client):
    """One session for all."""

    def __init__(self, side):
        super().__init__(side)
        import paramiko
        port = sshd(side)
        ssh = paramiko.SSHClient()
        ssh.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        ssh.connect('127.0.0.1', port, 'root', key_filename=f'{side.work}/key')
        side.ends.callback(ssh.close)
        self.sftp = ssh.open_sftp()

    def read(self, name):
        with self.sftp.open(self.path(name)) as f:
            return f.read().decode()

    def write(self, name, text, mode='w'):
        with self.sftp.open(self.path(name), mode) as f:
            f.write(text)

    def append(self, name, text):
        self.write(name, text, 'a')

    def replace(self, name, text):
        self.write(f'.{name}.tmp', text)
        self.sftp.posix_rename(self.path(f'.{name}.tmp'), self.path(name))

    def rename(self, old, new):
        self.sftp.rename(self.path(old), self.path(new))

    def remove(self, name):
        self.sftp.remove(self.path(name))

    def size(self, name):
        return self.sftp.stat(self.path(name)).st_size

    def names(self):
        return sorted(n for n in self.sftp.listdir(self.base) if n.endswith('.json'))


def smbd(side, extra=''):
    port = free_port()
    for d in ('private', 'state', 'cache', 'lock', 'pid', 'ncalrpc'):
        os.makedirs(f'{side.work}/{d}', exist_ok=True)
    with open(f'{side.work}/smb.conf', 'w') as f:
        f.write(f'''[global]
server role = standalone server
bind interfaces only = yes
interfaces = 127.0.0.1
private dir = {side.work}/private
state directory = {side.work}/state
cache directory = {side.work}/cache
lock directory = {side.work}/lock
pid directory = {side.work}/pid
ncalrpc dir = {side.work}/ncalrpc
passdb backend = tdbsam:{side.work}/private/passdb.tdb
log file = {side.work}/smbd.log
load printers = no
disable spoolss = yes
[s]
path = {side.point}
read only = no
{extra}
''')
    run('smbpasswd', '-c', f'{side.work}/smb.conf', '-L', '-a', '-s', 'root', given=b'pw\npw\n')
    side.start('smbd', '--foreground', '--no-process-group', '-s', f'{side.work}/smb.conf', '-p', str(port))
    until('smbd', listens(port))
    return port


class Smbclient(Client):
    conf = 'store dos attributes = no'

    def __init__(self, side):
        super().__init__(side)
        self.port = smbd(side, self.conf)

    def do(self, *commands):
        done = subprocess.run(['smbclient', '-s', f'{self.side.work}/smb.conf', '-p', str(self.port), '-U', 'root%pw', '//127.0.0.1/s', '-c', '; '.join(commands)], capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
        said = done.stdout.decode() + done.stderr.decode()
        failed = [line for line in said.splitlines() if 'NT_STATUS' in line]
        if done.returncode or failed:
            raise OSError(failed[:1] or said)
        return said

    def read(self, name):
        own = self.own()
        if os.path.exists(own):
            os.remove(own)
        self.do(f'get {name} {own}')
        with open(own) as f:
            return f.read()

    def write(self, name, text):
        self.do(f'put {self.own(text)} {name}')

    def append(self, name, text):
        # Its reput writes the rest at the beginning.
        self.write(name, self.read(name) + text)

    def replace(self, name, text):
        self.do(f'put {self.own(text)} .{name}.tmp', f'rename .{name}.tmp {name} -f')

    def rename(self, old, new):
        self.do(f'rename {old} {new}')

    def remove(self, name):
        self.do(f'rm {name}')

    def size(self, name):
        return int([line for line in self.do(f'ls {name}').splitlines() if name in line][0].split()[2])

    def names(self):
        return sorted(line.split()[0] for line in self.do('ls').splitlines() if '.json ' in line)


class Smbclient_dos(Smbclient):
    """As Samba is by default."""
    conf = ''


class Smbprotocol(Client):
    """One session for all."""

    def __init__(self, side):
        super().__init__(side)
        import smbclient
        self.port = smbd(side, 'store dos attributes = no')
        self.smb, self.base = smbclient, '//127.0.0.1/s'
        smbclient.register_session('127.0.0.1', username='root', password='pw', port=self.port)
        self.more = {'port': self.port}
        side.ends.callback(lambda: smbclient.delete_session('127.0.0.1', port=self.port))

    def read(self, name):
        with self.smb.open_file(self.path(name), **self.more) as f:
            return f.read()

    def write(self, name, text, mode='w'):
        with self.smb.open_file(self.path(name), mode=mode, newline='', **self.more) as f:
            f.write(text)

    def append(self, name, text):
        self.write(name, text, 'a')

    def replace(self, name, text):
        self.write(f'.{name}.tmp', text)
        self.smb.replace(self.path(f'.{name}.tmp'), self.path(name), **self.more)

    def rename(self, old, new):
        self.smb.rename(self.path(old), self.path(new), **self.more)

    def remove(self, name):
        self.smb.remove(self.path(name), **self.more)

    def size(self, name):
        return self.smb.stat(self.path(name), **self.more).st_size

    def names(self):
        return sorted(n for n in self.smb.listdir(self.base, **self.more) if n.endswith('.json'))


class Pysmb(Client):
    def __init__(self, side):
        super().__init__(side)
        from smb.SMBConnection import SMBConnection
        port = smbd(side, 'store dos attributes = no')
        self.c = SMBConnection('root', 'pw', 'client', 'server', use_ntlm_v2=True, is_direct_tcp=True)
        assert self.c.connect('127.0.0.1', port)
        side.ends.callback(self.c.close)

    def read(self, name):
        f = io.BytesIO()
        self.c.retrieveFile('s', '/' + name, f)
        return f.getvalue().decode()

    def write(self, name, text):
        self.c.storeFile('s', '/' + name, io.BytesIO(text.encode()))

    def append(self, name, text):
        self.c.storeFileFromOffset('s', '/' + name, io.BytesIO(text.encode()), self.size(name))

    def replace(self, name, text):
        # It has no way to replace one.
        self.write(f'{name}.tmp', text)
        self.remove(name)
        self.rename(f'{name}.tmp', name)

    def rename(self, old, new):
        self.c.rename('s', '/' + old, '/' + new)

    def remove(self, name):
        self.c.deleteFiles('s', '/' + name)

    def size(self, name):
        return self.c.getAttributes('s', '/' + name).file_size

    def names(self):
        return sorted(f.filename for f in self.c.listPath('s', '/') if f.filename.endswith('.json'))


def registrar():
    """Where NFS 3 servers register, or do not start and wait long before they end: there until both sides have ended."""
    try:
        listens(111)()
    except OSError:
        child = subprocess.Popen(['rpcbind', '-f'], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        AFTER.callback(lambda: (child.terminate(), child.wait()))
        until('rpcbind', listens(111))


class Nfs4(Client):
    """libnfs' tools, and the library itself for what they cannot do. Ganesha keeps no attributes, and files open no longer
    than it has to: who has a file open keeps what it opened."""
    pause = 2.5
    # One after the other: a second that starts takes the first one's registration as its own to renew, or ends.
    starting = threading.Lock()
    version, attributes, cache = 4, 'Attr_Expiration_Time = 0;', 'MDCACHE { FD_LWMark_Percent = 0; FD_HWMark_Percent = 1; LRU_Run_Interval = 1; }'

    def __init__(self, side):
        super().__init__(side)
        port, mount = free_port(), free_port()
        os.makedirs(f'{side.work}/recovery', exist_ok=True)
        with open(f'{side.work}/ganesha.conf', 'w') as f:
            f.write(f'''NFS_CORE_PARAM {{ NFS_Port = {port}; MNT_Port = {mount}; Bind_addr = 127.0.0.1; Protocols = {self.version}; Enable_NLM = false; Enable_RQUOTA = false; }}
NFSV4 {{ Graceless = true; RecoveryRoot = "{side.work}/recovery"; Only_Numeric_Owners = true; }}
EXPORT {{ Export_Id = 1; Path = "{side.point}"; Pseudo = "/s"; Access_Type = RW; Squash = No_Root_Squash; {self.attributes} SecType = sys; Filesystem_Id = 7.{1 if side.store else 2}; FSAL {{ Name = VFS; }} }}
{self.cache}
LOG {{ Default_Log_Level = EVENT; }}
''')
        with Nfs4.starting:
            if self.version == 3:
                registrar()
            side.start('ganesha.nfsd', '-F', '-f', f'{side.work}/ganesha.conf', '-L', f'{side.work}/ganesha.log', '-p', f'{side.work}/ganesha.pid')
            until('ganesha', listens(port), 60)
        export = '/s' if self.version == 4 else side.point
        more = f'version={self.version}&nfsport={port}&mountport={mount}'
        self.url = lambda name: f'nfs://127.0.0.1{export}/{name}?{more}'
        self.n = n = ctypes.CDLL('libnfs.so.13')
        for f in ('nfs_init_context', 'nfs_parse_url_dir'):
            getattr(n, f).restype = ctypes.c_void_p
        n.nfs_get_error.restype = ctypes.c_char_p
        n.nfs_lseek.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_void_p]
        n.nfs_read.argtypes = n.nfs_write.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p]
        self.ctx = ctypes.c_void_p(n.nfs_init_context())
        url = n.nfs_parse_url_dir(self.ctx, self.url('')[:].encode())
        server, path = ctypes.cast(url, ctypes.POINTER(ctypes.c_char_p))[0:2]
        until('the export', lambda: n.nfs_mount(self.ctx, server, path) == 0)

    def ok(self, result):
        if result < 0:
            raise OSError(f'{result} {self.n.nfs_get_error(self.ctx).decode()}')
        return result

    def read(self, name):
        return run('nfs-cat', self.url(name)).decode()

    def write(self, name, text):
        # nfs-cp opens with O_CREAT, which libnfs 4.0.0 refuses by NFS 4 for a file that exists; so it does writes of 4000 bytes.
        try:
            self.size(name)
        except OSError:
            run('nfs-cp', self.own(text), self.url(name))
        else:
            self.put(name, text, os.O_WRONLY | os.O_TRUNC)

    def put(self, name, text, flags):
        fh, text, at = ctypes.c_void_p(), text.encode(), 0
        self.ok(self.n.nfs_open(self.ctx, b'/' + name.encode(), flags, ctypes.byref(fh)))
        while at < len(text):
            at += self.ok(self.n.nfs_write(self.ctx, fh, len(text[at:at + 2000]), text[at:at + 2000]))
        self.ok(self.n.nfs_close(self.ctx, fh))

    def append(self, name, text):
        self.put(name, text, os.O_WRONLY | os.O_APPEND)

    def replace(self, name, text):
        self.write(f'.{name}.tmp', text)
        self.rename(f'.{name}.tmp', name)

    def rename(self, old, new):
        self.ok(self.n.nfs_rename(self.ctx, b'/' + old.encode(), b'/' + new.encode()))

    def remove(self, name):
        self.ok(self.n.nfs_unlink(self.ctx, b'/' + name.encode()))

    def size(self, name):
        st = (ctypes.c_uint64 * 32)()
        self.ok(self.n.nfs_stat64(self.ctx, b'/' + name.encode(), st))
        return st[7]

    def names(self):
        return sorted(line.split()[-1] for line in run('nfs-ls', self.url('')).decode().splitlines() if line.endswith('.json'))


class Nfs3(Nfs4):
    version = 3


class Nfs4_session(Nfs4):
    """One mount of libnfs for all: no tools."""

    def read(self, name):
        fh, b = ctypes.c_void_p(), ctypes.create_string_buffer(200000)
        self.ok(self.n.nfs_open(self.ctx, b'/' + name.encode(), os.O_RDONLY, ctypes.byref(fh)))
        text = b''
        while (got := self.ok(self.n.nfs_read(self.ctx, fh, 8000, b))) > 0:
            text += b.raw[:got]
        self.ok(self.n.nfs_close(self.ctx, fh))
        return text.decode()

    def write(self, name, text):
        try:
            self.size(name)
        except OSError:
            self.put(name, text, os.O_WRONLY | os.O_CREAT)
        else:
            self.put(name, text, os.O_WRONLY | os.O_TRUNC)


class Nfs4_session_cached(Nfs4_session):
    """As Ganesha is by default."""
    attributes, cache, pause = '', '', 0


class Webdav(Client):
    prefix = ''

    def __init__(self, side):
        super().__init__(side)
        self.port = free_port()
        self.up()
        until(type(self).__name__, listens(self.port))

    def do(self, method, name, body=None, **headers):
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
        c.request(method, f'{self.prefix}/{name}', body, headers)
        r = c.getresponse()
        text = r.read().decode()
        c.close()
        if r.status >= 300:
            raise OSError(f'{method} {r.status}')
        self.length = r.getheader('Content-Length')
        return text

    def read(self, name):
        return self.do('GET', name)

    def write(self, name, text):
        self.do('PUT', name, text.encode())

    def append(self, name, text):
        self.write(name, self.read(name) + text)

    def replace(self, name, text):
        self.write(f'{name}.tmp', text)
        self.do('MOVE', f'{name}.tmp', Destination=f'http://127.0.0.1:{self.port}{self.prefix}/{name}', Overwrite='T')

    def rename(self, old, new):
        self.do('MOVE', old, Destination=f'http://127.0.0.1:{self.port}{self.prefix}/{new}', Overwrite='F')

    def remove(self, name):
        self.do('DELETE', name)

    def size(self, name):
        self.do('HEAD', name)
        return int(self.length)

    def names(self):
        text = self.do('PROPFIND', '', Depth='1')
        return sorted({m.rsplit('/', 1)[-1] for m in re.findall(r'<[^<>]*href[^<>]*>([^<]*\.json)<', text)})


class Rclone_webdav(Webdav):
    def up(self):
        self.side.start(f'{TOOLS}/python/bin/rclone', 'serve', 'webdav', '--config', '', '--addr', f'127.0.0.1:{self.port}', self.side.point)


class Rclone_webdav_nodir(Webdav):
    def up(self):
        self.side.start(f'{TOOLS}/python/bin/rclone', 'serve', 'webdav', '--config', '', '--dir-cache-time', '0s', '--addr', f'127.0.0.1:{self.port}', self.side.point)


class Wsgidav(Webdav):
    def up(self):
        self.side.start(f'{TOOLS}/python/bin/wsgidav', '--host=127.0.0.1', f'--port={self.port}', f'--root={self.side.point}', '--auth=anonymous')


class Apache(Webdav):
    def up(self):
        w = self.side.work
        with open(f'{w}/apache.conf', 'w') as f:
            f.write(''.join(f'LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n' for m in ('mpm_event', 'authz_core', 'dav', 'dav_fs', 'dav_lock', 'mime'))
                    + f'ServerRoot {w}\nServerName localhost\nListen 127.0.0.1:{self.port}\nPidFile {w}/apache.pid\nErrorLog {w}/apache.log\nDAVLockDB {w}/locks\nTypesConfig /etc/mime.types\n'
                    f'DocumentRoot {self.side.point}\nUser www-data\nGroup www-data\n<Directory {self.side.point}>\nDav On\nRequire all granted\n</Directory>\n')
        os.chmod(w, 0o777)
        self.side.start('apache2', '-X', '-f', f'{w}/apache.conf')


class Nginx(Webdav):
    def up(self):
        w = self.side.work
        with open(f'{w}/nginx.conf', 'w') as f:
            f.write(f'load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;\nuser root;\ndaemon off;\npid {w}/nginx.pid;\nerror_log {w}/nginx.log;\nevents {{}}\n'
                    f'http {{ access_log off; client_body_temp_path {w}/body; server {{ listen 127.0.0.1:{self.port}; root {self.side.point}; '
                    f'dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS; }} }}\n')
        self.side.start('nginx', '-p', w, '-c', f'{w}/nginx.conf')


class Rclone(Client):
    """Each call a command of its own."""

    def do(self, *args, given=None):
        return run(f'{TOOLS}/python/bin/rclone', '--config', '', '-q', *args, given=given).decode()

    def read(self, name):
        return self.do('cat', self.path(name))

    def write(self, name, text):
        self.do('copyto', '--ignore-times', self.own(text), self.path(name))

    def append(self, name, text):
        self.write(name, self.read(name) + text)

    def replace(self, name, text):
        self.do('rcat', self.path(f'.{name}.tmp'), given=text.encode())
        self.do('moveto', '--ignore-times', self.path(f'.{name}.tmp'), self.path(name))

    def rename(self, old, new):
        self.do('moveto', self.path(old), self.path(new))

    def remove(self, name):
        self.do('deletefile', self.path(name))

    def size(self, name):
        return json.loads(self.do('size', '--json', self.path(name)))['bytes']

    def names(self):
        return sorted(n for n in self.do('lsf', self.base).split() if n.endswith('.json'))


# --- watchers: local calls, their ears

class Watcher(Files):
    def listen(self):
        with open(f'{self.side.work}/heard', 'w') as out:
            self.side.start(*self.command(), stdout=out)
        time.sleep(2)
        return True

    def command(self):
        return ('node', os.path.join(os.path.dirname(os.path.abspath(__file__)), 'clients.mjs'), TOOLS, type(self).__name__.lower(), self.side.point)


class Chokidar3(Watcher):
    pass


class Chokidar4(Watcher):
    pass


class Chokidar3_file(Watcher):
    """One file is watched, not the directory."""

    def listen(self):
        pass

    def ready(self):
        return super().listen()


class Chokidar4_file(Chokidar3_file):
    pass


class Fs_watch_file(Chokidar3_file):
    pass


class Watchdog(Watcher):
    def command(self):
        return (sys.executable, '-u', '-c', '''
import sys, time
from watchdog.observers import Observer
from watchdog.events import FileSystemEventHandler
class H(FileSystemEventHandler):
    def on_any_event(self, e):
        if e.event_type not in ('opened', 'closed_no_write'):
            print(e.event_type, e.src_path.rsplit('/', 1)[1] if not e.is_directory else '-', flush=True)
            if getattr(e, 'dest_path', ''): print('to', e.dest_path.rsplit('/', 1)[1], flush=True)
o = Observer(); o.schedule(H(), sys.argv[1]); o.start()
while True: time.sleep(1)
''', self.side.point)


class Vite(Watcher):
    """What its server gives for an import, after it has heard."""

    def __init__(self, side):
        super().__init__(side)
        self.port = free_port()
        os.makedirs(f'{side.work}/cache', exist_ok=True)

    def command(self):
        return (*super().command(), str(self.port), f'{self.side.work}/cache')

    def read(self, name):
        until('vite', listens(self.port))
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
        c.request('GET', f'/{name}?import')
        r = c.getresponse()
        text = r.read().decode()
        if r.status != 200:
            raise OSError(f'GET {r.status}')
        return ' '.join(text.split('//# sourceMappingURL')[0].split())


class Tail(Chokidar3_file):
    """tail -F: what it prints."""

    def command(self):
        return ('tail', '-n', '+1', '-F', f'{self.side.point}/a.json')

    def heard(self):
        with open(f'{self.side.work}/heard') as f:
            f.seek(getattr(self, 'at', 0))
            text = f.read()
            self.at = f.tell()
        return text if len(text) < 200 else f'{len(text)} characters'


CLIENTS = {name.lower().replace('_', '-'): c for name, c in list(globals().items())
           if isinstance(c, type) and issubclass(c, Files) and c not in (Files, Client, Shell, Webdav, Watcher)}
CLIENTS['local'] = Files


def short(text):
    return f'{len(text)} characters' if isinstance(text, str) and len(text) > 150 else text


def session(client, side):
    """Lines of what was seen; how many saves and errors."""
    seen, saves, errors = [], [], []

    def step(what, call=None, *args, save=None, look='a.json', pause=.35):
        try:
            said = call(*args) if call else None
            if save:
                saves.append(what)
        except Exception as e:
            said = f'{type(e).__name__} {e}'.replace(side.point, 'PLACE').replace(side.work, 'WORK')[:200]
            errors.append(what)
        time.sleep(pause and max(pause, client.pause))
        line = [f'{what}:', short(said) if said is not None else 'done']
        if look:
            for which, f in (('reads', client.read), ('size', client.size)) if pause != .05 else ():
                try:
                    got = short(f(look))
                except Exception as e:
                    got = type(e).__name__
                line.append(f'{which} {got!r}')
            line.append(f'there {tuple(map(short, side.local(look)))!r}')
        if look and pause != .05 and listening:
            line.append(f'heard {client.heard()!r}')
        seen.append(' '.join(map(str, line)))

    count = 0

    def text(pad=0):
        """The next text, none of whose members has the value of one before."""
        nonlocal count
        count += 1
        return f'{{"n": {count}, "pad": "{chr(97 + count % 26) * pad}{count}"}}\n'

    listening = client.listen()
    step('create', client.write, 'a.json', text(), save=1)
    listening = client.ready() or listening
    step('overwrite, longer', client.write, 'a.json', text(20), save=1)
    step('overwrite, shorter', client.write, 'a.json', text(), save=1)
    step('by renaming', client.replace, 'a.json', text(20), save=1)
    step('by renaming, again', client.replace, 'a.json', text(), save=1)
    step('append', client.append, 'a.json', '\n', save=1)
    step('others', side.others, 'a.json', text(20))
    step('overwrite what others saved', client.write, 'a.json', text(), save=1)
    step('others, same length', side.others, 'a.json', text())
    step('by renaming over what others saved', client.replace, 'a.json', text(8), save=1)
    step('others, twice', side.others, 'a.json', text(), look=None, pause=0)
    step('others, twice', side.others, 'a.json', text(3))
    step('append to what others saved', client.append, 'a.json', ' ', save=1)
    step('long', client.write, 'a.json', text(100000), save=1)
    step('short', client.write, 'a.json', text(), save=1)
    step('rename', client.rename, 'a.json', 'b.json', look='b.json')
    step('rename back', client.rename, 'b.json', 'a.json')
    step('remove', client.remove, 'a.json')
    step('create anew', client.write, 'a.json', text(), save=1)
    step('others, after that', side.others, 'a.json', text())
    for n in range(10):
        step(f'ten: {n}', client.write, 'a.json', text(n * 7 % 5), save=1, pause=.05)
    step('ten of them')
    step('others, after ten', side.others, 'a.json', text())
    for n in range(10):
        step(f'ten by renaming: {n}', client.replace, 'a.json', text(n * 7 % 5), save=1, pause=.05)
    step('ten of them', pause=1)
    step('a second one', client.write, 'c.json', text(), save=1, look='c.json')
    step('names', client.names)
    seen += side.tally()
    step('remove both', lambda: (client.remove('a.json'), client.remove('c.json')))
    step('names', client.names)
    return seen, saves, errors


# Where the mount may differ, and why. `there`: the client reads what is there, whatever a disk shows. `more`: it may hear
# more than on a disk. `any`: only what is saved counts.
DIFFERS = {
    'bound-object': ('there', 'an object is one file, also where it was replaced'),
    'fs-watch-file': ('more', 'a watch lasts where the file is replaced'),
    'rclone-mount': ('any', 'it uploads when it comes to it, and loses what is renamed while it does'),
    'nfs4-session-cached': ('any', 'Ganesha serves what it has open, and remembers sizes'),
    'tail': ('any', 'GNU tail looks at the inode number, which does not change'),
}


def same(rule, plain, mount):
    """Whether two lines of what was seen may stand beside one another."""
    if rule == 'there':
        seen = re.search(r"reads (.*) size (\d+) there \((.*), (\d+)\)", mount)
        return not seen or seen.group(1, 2) == seen.group(3, 4)
    if rule == 'more':
        mount = mount if 'heard False' not in plain else mount.replace('heard True', 'heard False')
    return plain == mount or rule == 'any'


def play(kind, side):
    with side.ends:
        client = CLIENTS[kind](side)
        done = session(client, side)
    return done


def main():
    global TOOLS
    if sys.argv[1:] == ['--list']:
        print(' '.join(CLIENTS))
        return 0
    revfs, place, TOOLS, kind = sys.argv[1:5]
    place = tempfile.mkdtemp(prefix=kind + '.', dir=place)
    os.chmod(place, 0o755)
    plain, mount, store = f'{place}/plain', f'{place}/mnt', f'{place}/store'
    for d in (plain, mount, store):
        os.mkdir(d)
        os.chmod(d, 0o777)
    daemon = subprocess.Popen([revfs, 'mount', '--foreground', '-o', 'allow_other', store, mount], stdin=subprocess.DEVNULL, stderr=open(f'{place}/daemon', 'w'))
    sides = Side('plain', plain, f'{place}/plain.work', revfs), Side('mount', mount, f'{place}/mount.work', revfs, store)
    try:
        until(mount, lambda: os.path.ismount(mount))
        with AFTER, concurrent.futures.ThreadPoolExecutor() as pool:
            (p, psaves, perrors), (m, msaves, merrors) = pool.map(lambda side: play(kind, side), sides)
    finally:
        until('umount', lambda: subprocess.run(['umount', mount], stderr=subprocess.DEVNULL).returncode == 0, 10)
        daemon.wait()
    rule, why = DIFFERS.get(kind, ('', ''))
    wrong = 0
    for a, b in zip(p, m):
        if a != b:
            print(f'- {a}\n+ {b}')
        elif os.environ.get('VERBOSE'):
            print(f'  {a}')
        wrong += not same(rule, a, b)
    conflicts, drafts, revs = sides[1].found
    with open(f'{place}/daemon') as log:
        print(log.read(), end='')
    print(f'{kind}: plain {len(psaves)} saves {len(perrors)} errors; mount {len(msaves)} saves {revs} revisions {conflicts} conflicts {drafts} drafts {len(merrors)} errors' + (why and ': ' + why))
    shutil.rmtree(place, ignore_errors=True)
    return 1 if wrong or (conflicts and rule != 'any') or len(merrors) > len(perrors) + (rule == 'there') else 0


if __name__ == '__main__':
    sys.exit(main())
