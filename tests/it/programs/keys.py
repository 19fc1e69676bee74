"""keys.py PROGRAM [ARG…] -- [TEXT KEYS]…   runs a program on a terminal, waits for each text, types the keys after it."""
import os, pty, re, select, struct, sys, termios, fcntl, time

at = sys.argv.index("--")
program, steps = sys.argv[1:at], sys.argv[at + 1:]
pid, tty = pty.fork()
if pid == 0:
    # Here: a program that learns of the size later draws anew, and keys get lost.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execvp(program[0], program)
seen, deadline = b"", time.monotonic() + 40


def read():
    """What has come; None at the end."""
    if not select.select([tty], [], [], max(0, deadline - time.monotonic()))[0]:
        os.kill(pid, 9)
        sys.exit(f"{program[0]}: waited in vain for {steps[:1]}, saw {seen!r}")
    try:
        return os.read(tty, 65536) or None
    except OSError:
        return None


def plain(text):
    """Without what moves the cursor."""
    return re.sub(rb"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])", b"", text)


def settle():
    """Waits until it sleeps with all drawn: it may draw before it is ready for keys, and lose those that come before."""
    calm = 0
    while calm < 5 and time.monotonic() < deadline:
        if select.select([tty], [], [], 0.06)[0]:
            if read() is None:
                return
            calm = 0
        else:
            with open(f"/proc/{pid}/stat") as stat:
                calm = calm + 1 if stat.read().rsplit(") ", 1)[1][0] == "S" else 0


while steps:
    more = read()
    if more is None:
        sys.exit(f"{program[0]}: ended before {steps[0]!r}, saw {seen!r}")
    seen += more
    if steps[0].encode() in plain(seen):
        settle()
        seen = b""
        os.write(tty, steps[1].encode())
        steps = steps[2:]
while (more := read()) is not None:
    seen += more
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
