"""An ssh to this very machine, with faults: link.py [--delay S] [--kill BYTES] [--log FILE] HOST LINE

--delay: every byte arrives so many seconds late, either way. --kill: after so many bytes, both ways counted, whatever runs
there is killed. --log: how many messages went each way, and how many were sent when none was unanswered.
"""
import os, signal, subprocess, sys, threading, time
from queue import Queue

given, args = {}, sys.argv[1:]
while args[0].startswith("--"):
    given[args[0]] = args[1]
    args = args[2:]
delay, kill, log = float(given.get("--delay", 0)), int(given.get("--kill", 0)), given.get("--log")

there = subprocess.Popen(["sh", "-c", args[-1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
lock, passed, counts = threading.Lock(), 0, {"requests": 0, "answers": 0, "trips": 0}


class Frames:
    def __init__(self, name):
        self.name, self.length, self.left = name, b"", 0

    def see(self, data):
        while data:
            if len(self.length) < 4:
                self.length, data = self.length + data[:1], data[1:]
                if len(self.length) < 4:
                    continue
                self.left = int.from_bytes(self.length, "big") & 0x7FFFFFFF
            take = min(self.left, len(data))
            working = data[:1] == b"\x09" and self.length == b"\0\0\0\1"
            self.left, data = self.left - take, data[take:]
            if self.left == 0 and working:
                self.length = b""
            elif self.left == 0:
                with lock:
                    if self.name == "requests" and counts["requests"] == counts["answers"]:
                        counts["trips"] += 1
                    counts[self.name] += 1
                self.length = b""


def carry(source, sink, frames, early):
    global passed
    late = Queue()

    def deliver():
        while True:
            at, data = late.get()
            time.sleep(max(0, at - time.monotonic()))
            if not data:
                break
            if not early:
                frames.see(data)
            try:
                while data:
                    data = data[os.write(sink, data):]
            except OSError:
                break
        try:
            os.close(sink)
        except OSError:
            pass

    end = threading.Thread(target=deliver)
    end.start()
    while True:
        data = os.read(source, 1 << 16)
        if early:
            frames.see(data)
        with lock:
            passed += len(data)
            if kill and passed > kill and there.returncode is None:
                try:
                    os.killpg(there.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        late.put((time.monotonic() + delay, data))
        if not data:
            break
    end.join()


ways = [
    threading.Thread(target=carry, args=(0, os.dup(there.stdin.fileno()), Frames("requests"), True), daemon=True),
    threading.Thread(target=carry, args=(there.stdout.fileno(), os.dup(1), Frames("answers"), False)),
]
there.stdin.close()
for way in ways:
    way.start()
os.close(1)
ways[1].join()
code = there.wait()
if log:
    with open(log, "a") as file:
        file.write("%(requests)d %(answers)d %(trips)d\n" % counts)
os._exit(code if code >= 0 else 255)
