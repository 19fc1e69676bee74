"""What one user does with another's files in a directory; a line per try. Root runs it, twice: on a disk and in a mount."""

import errno, os, sys, time

OWNER, OTHER = 2001, 2002
os.chdir(sys.argv[1])
os.umask(0)


def by(uid, act):
    """Runs it as that user; what it returned, or the name of the error."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            said = str(act())
        except OSError as e:
            said = errno.errorcode.get(e.errno, str(e.errno))
        except UnicodeDecodeError:
            said = "garbage"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def put(name, text, mode, uid=OWNER, gid=None):
    with open(name, "w") as f:
        f.write(text)
    os.chown(name, uid, uid if gid is None else gid)
    os.chmod(name, mode)


def opened(name, flags):
    fd = os.open(name, flags)
    os.close(fd)
    return "done"


def pinned(name, flags):
    pin = os.open(name, os.O_PATH)
    return opened(f"/proc/self/fd/{pin}", flags)


def done(result=None):
    return "done"


TEXT = '{"n": 1}'
FILES = {
    "public": 0o644, "private": 0o600, "group": 0o640, "open": 0o666, "run": 0o755, "none": 0o000,
}
names = []
for end in ".json", ".txt":
    for name, perm in FILES.items():
        if end == ".txt" and name != "private":
            continue
        put(name + end, TEXT, perm)
        names.append(name + end)
    put("own" + end, TEXT, 0o644, OTHER)
    names.append("own" + end)
os.mkdir("dir")
put("dir/f.json", TEXT, 0o644)
os.chown("dir", OWNER, OWNER)
os.chmod("dir", 0o700)
names += ["dir/f.json", "dir"]

for name in names:
    tries = {
        "read": lambda: opened(name, os.O_RDONLY),
        "write": lambda: opened(name, os.O_WRONLY),
        "create": lambda: opened(name, os.O_RDWR | os.O_CREAT),
        "read by /proc": lambda: pinned(name, os.O_RDONLY),
        "write by /proc": lambda: pinned(name, os.O_WRONLY),
        "access": lambda: [os.access(name, how) for how in (os.R_OK, os.W_OK, os.X_OK)],
        "chmod": lambda: done(os.chmod(name, FILES.get(name.split(".")[0], 0o644))),
        "chmod 6777": lambda: done(os.chmod(name, 0o6777)),
        "chmod by /proc": lambda: done(os.chmod(f"/proc/self/fd/{os.open(name, os.O_PATH)}", 0o777)),
        "chown": lambda: done(os.chown(name, OTHER, OTHER)),
        "chown by /proc": lambda: done(os.chown(f"/proc/self/fd/{os.open(name, os.O_PATH)}", OTHER, OTHER)),
        "chgrp": lambda: done(os.chown(name, -1, OWNER)),
        "times": lambda: done(os.utime(name, (1, 1))),
        "truncate": lambda: done(os.truncate(name, len(TEXT))),
        "execute": lambda: os.execv(name, [name]) if os.path.isdir(name) else "no",
        "link": lambda: done((os.link(name, "link"), os.unlink("link"))),
        "rename": lambda: done((os.rename(name, "moved"), os.rename("moved", name))),
    }
    for how, act in tries.items():
        print(f"{name}: {how}: {by(OTHER, act)}")
    if name == "own.json" or name == "own.txt":
        os.chmod(name, 0o644)

# New names.
for end in ".json", ".txt":
    new = "new" + end

    def make(perm):
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, perm)
        first = os.fstat(fd)
        os.write(fd, TEXT.encode())
        os.close(fd)
        last = os.stat(new)
        return f"{first.st_mode & 0o7777:o} {last.st_mode & 0o7777:o} {last.st_uid == OTHER} {last.st_gid == OTHER}"

    print(f"create set-user-id {new}: {by(OTHER, lambda: make(0o4755))}")
    print(f"remove it as another: {by(2003, lambda: done(os.unlink(new)))}")
    print(f"move over it as another: {by(2003, lambda: done((open('mine', 'w').close(), os.rename('mine', new))))}")
    print(f"remove it: {by(OTHER, lambda: done(os.unlink(new)))}")
    for left in new, "mine":
        if os.path.lexists(left):
            os.unlink(left)

    # What has set-id bits loses them when another writes it.
    suid = "suid" + end
    put(suid, TEXT, 0o6777)

    def rewrite():
        with open(suid, "r+") as f:
            f.write('{"m": 2}')
        return f"{os.stat(suid).st_mode & 0o7777:o}"

    print(f"write {suid}: {by(OTHER, rewrite)}")
    # An object that is cut to nothing stays what it was.
    put(suid, TEXT, 0o6777)
    if end != ".json":
        print(f"truncate {suid}: {by(OTHER, lambda: (os.truncate(suid, 0), oct(os.stat(suid).st_mode & 0o7777))[1])}")
    os.chmod(suid, 0o6755)
    os.chown(suid, OTHER, OTHER)
    print(f"give {suid} away: {os.stat(suid).st_mode & 0o7777:o}")

    # What was open to all and is private by now.
    was = "was" + end
    put(was, TEXT, 0o644)
    ready, go = os.pipe(), os.pipe()

    def late():
        pin, held = os.open(was, os.O_PATH), os.open(was, os.O_RDONLY)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        said = []
        for path in was, f"/proc/self/fd/{pin}", f"/proc/self/fd/{held}":
            try:
                said.append(open(path).read())
            except OSError as e:
                said.append(errno.errorcode[e.errno])
        return said

    pid = os.fork()
    if pid == 0:
        os.read(ready[0], 1)
        os.chmod(was, 0o600)
        with open(was, "w") as f:
            f.write('{"secret": 1}')
        os.write(go[1], b"x")
        os._exit(0)
    print(f"{was} was open to all: {by(OTHER, late)}")
    os.waitpid(pid, 0)

    # Private and public texts are moved over one name in turns.
    race = "race" + end
    put(race, TEXT, 0o644)
    stop = time.monotonic() + (0.3 if end == ".json" else 0.05)

    def watch():
        seen = 0
        while time.monotonic() < stop:
            try:
                with open(race) as f:
                    seen += "secret" in f.read()
            except OSError:
                pass
        return seen

    pid = os.fork()
    if pid == 0:
        while time.monotonic() < stop:
            for text, mode in ('{"secret": 1}', 0o600), (TEXT, 0o644):
                put("part", text, mode)
                os.rename("part", race)
        os._exit(0)
    print(f"{race} is replaced by a private text and a public one in turns: secrets seen: {by(OTHER, watch)}")
    os.waitpid(pid, 0)

# Links of one's own.
for target in "private.json", "dir/f.json", "nothing.json":
    by(OTHER, lambda: os.symlink(target, "lead"))
    print(f"own link to {target}: {by(OTHER, lambda: opened('lead', os.O_RDONLY))}")
    print(f"another's link to {target}: {by(OWNER, lambda: opened('lead', os.O_WRONLY | os.O_CREAT))}")
    for left in "lead", "nothing.json":
        if os.path.lexists(left):
            os.unlink(left)
