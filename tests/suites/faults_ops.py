"""The operations that faults.py has fail, the store they begin with, and what each leaves."""
import errno
import json
import os
import subprocess
import time

LOSER, WINNER = '1-' + 'a' * 32, '1-' + 'b' * 32
REFUSED = b'[' + b'"refused", ' * 300
KEPT_DRAFT = b'{"no object'


def text(tag, size=3000):
    return b'{"is": "%s",\n "filler": "%s"}\n' % (tag.encode(), b'x' * size)


A = [text(f'a{n}') for n in range(3)]
B = [text(f'b{n}', 400) for n in range(2)]
D = [text(f'd{n}', 200) for n in range(2)]
G = [text(f'g{n}', 100) for n in range(4)]
K = {'0-' + '0' * 32: text('k0', 50), LOSER: text('k1', 50), WINNER: text('k2', 50)}
M = {'0-' + '0' * 32: b'{"x": 1, "y": 1}', LOSER: b'{"x": 2, "y": 1}', WINNER: b'{"x": 1, "y": 2}'}
C = {'0-' + '0' * 32: b'{"x": 1}', LOSER: b'{"x": 2}', WINNER: b'{"x": 2, "y": 2}'}
NEW, NOTE = text('new', 6000), b'a note\n' * 100


class Any:
    """What a file holds that was being written as on any disk."""

    def __eq__(self, other):
        return True


class Json:
    """A text that the program has put together."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        try:
            # Commands that put texts together write these as the original does.
            return other is not None and {k: v for k, v in json.loads(other).items() if k not in ('_id', '_rev')} == self.value
        except ValueError:
            return False

    __hash__ = None


BASE = {'a.json': A[2], 'b.json': B[1], 'c.json': C[WINNER], 'g.json': G[3], 'k.json': K[WINNER], 'm.json': M[WINNER], 'd.json': None,
        'n.json': None, 'z.json': None, 'note.txt': NOTE, 't': None, 'a.json~': None, 'u': None,
        f'.conflicts/k/{LOSER}': K[LOSER]}


def build(revfs, place, store):
    """The store that every run begins with a copy of."""
    def do(*args, data=b''):
        subprocess.run([revfs, *args], input=data, check=True, stdout=subprocess.DEVNULL)

    os.makedirs(store)
    for id, texts in (('a', A), ('b', B), ('d', D), ('g', G)):
        for one in texts:
            do('put', '-s', store, id, data=one)
    do('rm', '-s', store, 'd')
    do('gc', '--keep', '1', '-s', store, 'g')
    for id, revs in (('k', K), ('m', M), ('c', C)):
        os.mkdir(f'{store}/{id}')
        for rev, one in revs.items():
            with open(f'{store}/{id}/{rev}', 'wb') as file:
                file.write(one)
    mnt = place + '/mnt'
    os.makedirs(mnt, exist_ok=True)
    daemon = subprocess.Popen([revfs, 'mount', '--foreground', store, mnt], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not os.path.ismount(mnt):
        time.sleep(.01)
    with open(mnt + '/note.txt', 'wb') as file:
        file.write(NOTE)
    fd = os.open(mnt + '/b.json', os.O_WRONLY | os.O_TRUNC)
    os.write(fd, KEPT_DRAFT)
    try:
        os.close(fd)
    except OSError:
        pass
    subprocess.run(['umount', mnt], check=True)
    daemon.wait()
    os.rmdir(mnt)


def tell(out, doing):
    """Does it, and writes to a file what came of it."""
    try:
        said = doing()
    except Exception as e:
        said = {'broken': f'{type(e).__name__}: {e}'}
    with open(out + '.part', 'w') as file:
        json.dump(said, file)
    os.rename(out + '.part', out)


class Setting:
    """A store, where it is mounted, and what a program that runs there has open."""

    def __init__(self, revfs, base):
        self.revfs, self.base, self.store, self.mnt = revfs, base, base + '/store', base + '/mnt'
        self.fd = self.read = None
        # Who does something again takes what is there.
        self.again = False

    def path(self, name):
        return f'{self.mnt}/{name}'

    def draft(self):
        return '.drafts/b/' + (os.listdir(self.path('.drafts/b')) or ['gone'])[0]

    def show(self, names):
        shown = {}
        for name in names:
            try:
                with open(self.path(name), 'rb') as file:
                    shown[name] = file.read().decode('latin1')
                # A new name that holds nothing yet.
                if not shown[name] and name.endswith('.json'):
                    shown[name] = None
            except FileNotFoundError:
                shown[name] = None
        return shown

    def texts(self):
        """All that the store holds, whatever it is called."""
        found = set()
        for place, _, names in os.walk(self.store):
            for name in names:
                path = f'{place}/{name}'
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, 'rb') as file:
                        found.add(file.read())
        return found


# Steps: each is one call of a program, or a loop of one.
def opened(name, flags=0):
    def step(at):
        keep = ~os.O_EXCL if at.again else -1
        at.fd = os.open(at.path(name), (os.O_WRONLY | os.O_CREAT | flags) & keep, 0o644)
    return step


def wrote(data=None):
    def step(at):
        rest = data or at.read
        while rest:
            rest = rest[os.write(at.fd, rest):]
    return step


def synced(at):
    os.fsync(at.fd)


def closed(at):
    fd, at.fd = at.fd, None
    os.close(fd)


def renamed(name, to):
    return lambda at: os.rename(at.path(name), at.path(to))


def unlinked(name):
    return lambda at: os.unlink(at.path(name))


def patched(at):
    at.fd = os.open(at.path('a.json'), os.O_RDWR)
    got = os.pread(at.fd, 1 << 16, 0)
    # A program that is told nothing goes on with what it has read.
    assert at.again or got == A[2], f'read {got[:40]}'
    at.read = got.replace(b'a2', b'a3')


def put_back(at):
    at_ = 0
    while at_ < len(at.read):
        at_ += os.pwrite(at.fd, at.read[at_:], at_)


def read_gone(at):
    revs = sorted(os.listdir(at.path('.deleted/d')))
    assert len(revs) == 2, f'.deleted/d has {revs}'
    with open(at.path('.deleted/d/' + revs[-1]), 'rb') as file:
        at.read = file.read()
    assert at.read == D[1], f'read {at.read[:40]}'


def looked(at):
    """Reads everything; what is told to be whole is."""
    names = set(os.listdir(at.mnt))
    there = {name for name, is_ in BASE.items() if is_ is not None and '/' not in name}
    assert there <= names, f'not listed: {there - names}'
    for name, is_ in BASE.items():
        if is_ is not None:
            assert os.stat(at.path(name)).st_size == len(is_), f'size of {name}'
            with open(at.path(name), 'rb') as file:
                got = file.read()
            assert got == is_, f'{name}: read {got[:40]}'
    views = {'.conflicts': {'k', 'm', 'c'}, '.deleted': {'d'}, '.drafts': {'b'}, '.conflicts/k': set(K)}
    for view, has in views.items():
        names = set(os.listdir(at.path(view)))
        assert has <= names, f'{view} has {names}'
    with open(at.path('.status'), 'rb') as file:
        json.load(file)


def names_changed(at):
    os.mkdir(at.path('dir'))
    os.symlink('dir', at.path('sym'))
    os.rename(at.path('note.txt'), at.path('dir/x'))
    os.link(at.path('dir/x'), at.path('u'))
    os.unlink(at.path('dir/x'))
    os.unlink(at.path('sym'))
    os.rmdir(at.path('dir'))


class Op:
    """An operation: its steps and what there is before, between and after these."""

    def __init__(self, name, steps, *changes, kind='mount', expects=None, before=None, keeps=(), drops=(), others=()):
        self.name, self.steps, self.kind, self.expects, self.before = name, steps, kind, expects, before
        self.states = [dict(BASE)]
        for step in range(len(steps)):
            self.states.append({**self.states[-1], **(changes[step] if step < len(changes) and changes[step] else {})})
        # What there may be besides when it failed.
        self.others = [{**BASE, **other} for other in others]
        every = [*A, *B, *D, *G, *K.values(), *M.values(), *C.values(), NOTE, KEPT_DRAFT]
        self.kept = [one for one in [*every, *keeps] if one not in drops]

    def names(self):
        return list(BASE)

    def run(self, at, steps=None):
        """What a program does: what fails ends it, and it tells what that was."""
        at.again = steps == 'again'
        tolerated = []
        for n, step in enumerate(steps if isinstance(steps, list) else self.steps):
            try:
                step(at)
            except OSError as e:
                if at.again and e.errno in (errno.ENOENT, errno.EEXIST):
                    tolerated.append(n)
                    continue
                if at.again and at.fd is None and e.errno == errno.EBADF:
                    continue
                return {'at': n, 'error': errno.errorcode.get(e.errno, e.errno)}
            except TypeError:
                if not tolerated:
                    raise
        return {'done': True}

    def judge(self, told):
        if self.expects and told.get('error') == self.expects:
            return 'held', self.states[-1:]
        if 'done' in told:
            if self.expects:
                # A text that is no object was accepted.
                return 'held', []
            return 'held', self.states[-1:]
        return 'told', self.states[told['at']:told['at'] + 2]


class Cli:
    """A command: its arguments and what there is after it."""
    kind, expects = 'cli', None

    def __init__(self, name, *args, stdin=b'', change=None, drops=(), check=None):
        self.name, self.args, self.stdin, self.check = name, args, stdin, check
        self.states = [dict(BASE)]
        self.states = [{name: is_ for name, is_ in state.items() if name.endswith('.json')} for state in [BASE, {**BASE, **(change or {})}]]
        every = [*A, *B, *D, *G, *K.values(), *M.values(), *C.values(), NOTE, KEPT_DRAFT]
        self.kept = [one for one in every if one not in drops]

    def names(self):
        return [name for name in BASE if name.endswith('.json')]

    def argv(self, at):
        return [arg.format(S=at.store) for arg in self.args]

    def done(self):
        return self.states[-1]

    def verify(self, lab):
        pass


T = os.O_TRUNC
X = os.O_EXCL
ANY = Any()
SAVED = {'a.json': NEW}
OPS = [
    Op('create', [opened('n.json', X), wrote(NEW), closed], None, None, {'n.json': NEW}),
    Op('create-fsync', [opened('n.json', X), wrote(NEW), synced, closed], None, None, {'n.json': NEW}),
    Op('save', [opened('a.json', T), wrote(NEW), closed], None, None, SAVED),
    Op('save-fsync', [opened('a.json', T), wrote(NEW), synced, closed], None, None, SAVED),
    Op('save-in-place', [patched, put_back, closed], None, None, {'a.json': A[2].replace(b'a2', b'a3')}),
    Op('rename-save', [opened('t', T), wrote(NEW), synced, closed, renamed('t', 'a.json')],
       {'t': ANY}, None, {'t': NEW}, None, {'t': None, **SAVED},
       others=[{'t': NEW, **SAVED}]),
    Op('backup-save', [renamed('a.json', 'a.json~'), opened('a.json', X), wrote(NEW), closed, unlinked('a.json~')],
       {'a.json': None, 'a.json~': A[2]}, None, None, SAVED, {'a.json~': None}),
    Op('delete', [unlinked('a.json')], {'a.json': None}),
    Op('rename', [renamed('a.json', 'z.json')], {'a.json': None, 'z.json': A[2]}),
    Op('replace', [renamed('a.json', 'b.json')], {'a.json': None, 'b.json': A[2]}, others=[{'b.json': A[2]}]),
    Op('undelete', [renamed('.deleted/d', 'd.json')], {'d.json': D[1]}),
    Op('undelete-copy', [read_gone, opened('d.json'), wrote(), closed], None, None, None, {'d.json': D[1]}),
    Op('discard', [unlinked(f'.conflicts/k/{LOSER}')], {f'.conflicts/k/{LOSER}': None}),
    Op('promote', [renamed(f'.conflicts/k/{LOSER}', 'k.json')], {f'.conflicts/k/{LOSER}': ANY, 'k.json': K[LOSER]}),
    Op('refuse', [opened('a.json', T), wrote(REFUSED), closed], expects='EBADMSG', keeps=[REFUSED]),
    Op('refuse-move', [opened('t', T), wrote(REFUSED), closed, renamed('t', 'a.json')],
       {'t': ANY}, None, {'t': REFUSED}, expects='EBADMSG', keeps=[REFUSED]),
    Op('remove-draft', [lambda at: os.unlink(at.path(at.draft()))], drops=[KEPT_DRAFT]),
    Op('scratch', [opened('t', T), wrote(NEW), synced, closed], {'t': ANY}, None, {'t': NEW}),
    Op('names', [names_changed], {'note.txt': ANY, 'u': ANY}),
    Op('link', [lambda at: os.link(at.path('a.json'), at.path('u'))], {'u': A[2]}),
    Op('attributes', [lambda at: os.chmod(at.path('a.json'), 0o600), lambda at: os.utime(at.path('a.json'), (5, 5))]),
    Op('read', [looked]),
    Op('mount', [opened('a.json', T), wrote(NEW), closed], None, None, SAVED, kind='start'),
    Op('unmount', [renamed('a.json', 'a.json~')], {'a.json': None, 'a.json~': A[2]}, kind='end',
       others=[{'a.json~': A[2]}]),
    Cli('cli-put', 'put', '-s', '{S}', 'a', stdin=NEW, change=SAVED),
    Cli('cli-put-durable', 'put', '--durable', '-s', '{S}', 'a', stdin=NEW, change=SAVED),
    Cli('cli-create', 'create', '-s', '{S}', 'n', stdin=NEW, change={'n.json': Json(json.loads(NEW))}),
    Cli('cli-upsert', 'upsert', '-s', '{S}', 'a', stdin=b'{"more": 1}', change={'a.json': Json({**json.loads(A[2]), 'more': 1})}),
    Cli('cli-rm', 'rm', '-s', '{S}', 'a', change={'a.json': None}),
    Cli('cli-undelete', 'undelete', '-s', '{S}', 'd', change={'d.json': D[1]}),
    Cli('cli-restore', 'restore', '-s', '{S}', 'a', '0', change={'a.json': A[0]}),
    Cli('cli-ours', 'resolve', '--ours', '-s', '{S}', 'k'),
    Cli('cli-theirs', 'resolve', '--theirs', LOSER, '-s', '{S}', 'k', change={'k.json': K[LOSER]}),
    Cli('cli-merge', 'resolve', '--merge', '-s', '{S}', 'm', change={'m.json': Json({'x': 2, 'y': 2})}),
    Cli('cli-auto', 'resolve', '--auto', '-s', '{S}', 'c'),
    Cli('cli-gc', 'gc', '--keep', '1', '-s', '{S}'),
    Cli('cli-purge', 'gc', '--purge', '0s', '-s', '{S}', drops=[*G[:3], D[0]]),
    Cli('cli-purge-deleted', 'gc', '--purge', '0s', '--purge-deleted', '0s', '-s', '{S}', drops=[*G[:3], *D]),
    Cli('cli-check', 'check', '--repair', '-s', '{S}'),
]
