# A process that reads, saves and begets as it is told: worker.py CALLS ANSWERS [own], two fifos, `own` for a session of its own.
import json, os, subprocess, sys, threading

held = {}


def load(path):
    with open(path) as f:
        return f.read()


def whole(path, text, mode='w'):
    with open(path, mode) as f:
        f.write(text)


def truncated(path, text):
    with open(path, 'r+') as f:
        # Who does not, and writes over all of it, has not seen what it replaces.
        f.read()
        f.seek(0)
        f.write(text)
        f.truncate()


def renamed(path, text, scratch):
    whole(scratch, text)
    os.replace(scratch, path)


def appended(path, text):
    if os.path.exists(path):
        os.truncate(path, 0)
    whole(path, text, 'a')


def backed_up(path, text, scratch):
    if os.path.exists(path):
        whole(scratch, load(path))
    whole(path, text)
    if os.path.exists(scratch):
        os.unlink(scratch)


def hold(path, mode):
    held[path] = open(path, mode)
    return held[path].read() if '+' in mode else None


def finish(path, text):
    f = held.pop(path)
    f.seek(0)
    f.write(text)
    f.truncate()
    f.close()


def abandon(path):
    held.pop(path).close()


def unlink(path):
    os.unlink(path)


def rename(old, new):
    os.replace(old, new)


def run(script):
    subprocess.run(['bash', '-c', script], check=True, stdin=subprocess.DEVNULL)


def in_thread(call, *args):
    said = []
    thread = threading.Thread(target=lambda: said.append(globals()[call](*args)))
    thread.start()
    thread.join()
    return said[0]


def spawn(calls, answers, own):
    pid = os.fork()
    if pid == 0:
        ins.close()
        outs.close()
        held.clear()
        try:
            serve(calls, answers, own)
        finally:
            os._exit(0)


def spawn_shell(script, calls, answers, own):
    pid = os.fork()
    if pid == 0:
        if own:
            os.setsid()
        os.execvp('bash', ['bash', script, calls, answers])


def reap(pid):
    os.waitpid(pid, 0)


def answer(said):
    outs.write(json.dumps(said) + '\n')
    outs.flush()


def serve(calls, answers, own):
    global ins, outs
    if own:
        os.setsid()
    ins, outs = open(calls), open(answers, 'w')
    answer({'ok': os.getpid()})
    for line in ins:
        call, *args = json.loads(line)
        if call == 'end':
            break
        try:
            answer({'ok': globals()[call](*args)})
        except Exception as e:
            answer({'err': repr(e)})


serve(sys.argv[1], sys.argv[2], sys.argv[3:] == ['own'])
