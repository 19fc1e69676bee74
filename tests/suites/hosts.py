#!/usr/bin/env python3
"""What two hosts do with one store, each through a mount of its own, and what must hold then.

hosts.py write MOUNT LOG WORD SAVES   saves: over what is there (`echo >`), by renaming, and new objects; of its own, and of those
                                      that all have. Each text it was told is saved goes to LOG, with its object's id
hosts.py check STORE LOG…             each of these is one revision, whole, of that object, and there are no others
hosts.py agree ONE TWO                the mounts show the same objects, texts and conflicts
hosts.py open ONE TWO ROUNDS          what is done on one is seen by the next open on the other
hosts.py hear ONE TWO ROUNDS          what is done on one is told by inotify on the other
"""
import ctypes
import json
import os
import re
import select
import statistics
import struct
import sys
import time

REVISION = re.compile(r'\d+-[0-9a-f]{32}(~.*)?$')
SHARED = [f'all-{n}' for n in range(7)]


def in_place(path, text):
    with open(path, 'w') as file:
        file.write(text)


def by_rename(path, text):
    beside = f'{os.path.dirname(path)}/.{os.getpid()}-{os.path.basename(path)}.tmp'
    in_place(beside, text)
    os.rename(beside, path)


def write(mount, log, word, saves):
    with open(log, 'a') as told:
        for n in range(int(saves)):
            kind = n % 10
            id = f'{word}-{n}' if kind < 2 else f'{word}-own-{n % 25}' if kind < 8 else SHARED[n // 10 % len(SHARED)]
            save = by_rename if kind % 2 else in_place
            save(f'{mount}/{id}.json', json.dumps({'said': f'{word}:{n}', 'pad': 'x' * (n % 700)}))
            print(id, f'{word}:{n}', file=told, flush=True)
            if n % 40 == 0:
                for shared in SHARED:
                    json.load(open(f'{mount}/{shared}.json'))


def check(store, *logs):
    there, torn = {}, []
    for place, dirs, files in os.walk(store):
        dirs[:] = [name for name in dirs if not place.endswith('.revfs') or name == 'gone']
        for name in filter(REVISION.match, files):
            try:
                said = json.load(open(f'{place}/{name}'))['said']
            except ValueError:
                torn.append(f'{place}/{name}')
                continue
            there.setdefault(said, []).append(os.path.basename(place))
    told = {said: id for log in logs for id, said in map(str.split, open(log))}
    lost = sorted(said for said, id in told.items() if there.get(said) != [id])
    more = sorted(said for said in there if said not in told)
    print(f'{len(told)} saved, {len(lost)} of them not one revision {lost[:3]}, {len(more)} more {more[:3]}, '
          f'{len(torn)} torn {torn[:3]}')
    assert told and not (lost or more or torn)


def agree(one, two):
    def shown(mount):
        texts = {name: open(f'{mount}/{name}', 'rb').read() for name in os.listdir(mount)}
        conflicts = {id: sorted(os.listdir(f'{mount}/.conflicts/{id}')) for id in os.listdir(f'{mount}/.conflicts')}
        return texts, conflicts
    shown_by_one, shown_by_two = shown(one), shown(two)
    differ = [name for name, text in shown_by_one[0].items() if shown_by_two[0].get(name) != text]
    print(f'{len(shown_by_one[0])} objects, {len(shown_by_one[1])} of them in conflict; {len(differ)} differ {differ[:3]}')
    assert shown_by_one == shown_by_two and shown_by_one[0]


def rounds(one, two, count):
    """Where something is done, where it is looked for, what and to what; `None` for a removal."""
    for n in range(int(count)):
        here, there = (one, two) if n // 5 % 2 else (two, one)
        name = f'seen-{n // 10}.json'
        if n % 5 == 0:
            name, do = f'new-{n // 10}-{n // 5 % 2}.json', in_place
        elif n % 5 == 4:
            name, do = f'new-{n // 10}-{n // 5 % 2}.json', None
        else:
            do = by_rename if n % 2 else in_place
        yield here, there, name, do, json.dumps({'said': f'round:{n}', 'pad': 'x' * (n * 37 % 500)})


def told(what, times):
    late = sum(time > 1 for time in times)
    print(f'{what}: median {statistics.median(times) * 1000:.0f} ms, longest {max(times) * 1000:.0f}; {late} of {len(times)} over a second')


def open_next(one, two, count):
    times = []
    for here, there, name, do, text in rounds(one, two, count):
        do(f'{here}/{name}', text) if do else os.unlink(f'{here}/{name}')
        since = time.monotonic()
        try:
            seen = open(f'{there}/{name}').read()
        except FileNotFoundError:
            seen = None
        times.append(time.monotonic() - since)
        assert seen == (text if do else None), f'{name}: {seen}, not {text if do else None}'
    told('the next open', times)


class Watch:
    MODIFY, CLOSE_WRITE, MOVED_TO, CREATE, DELETE = 0x2, 0x8, 0x80, 0x100, 0x200

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.queue = libc.inotify_init1(os.O_NONBLOCK)
        mask = self.MODIFY | self.CLOSE_WRITE | self.MOVED_TO | self.CREATE | self.DELETE
        assert libc.inotify_add_watch(self.queue, os.fsencode(path), mask) >= 0

    def take(self, seconds):
        """Each event's mask and name."""
        select.select([self.queue], [], [], seconds)
        try:
            data = os.read(self.queue, 65536)
        except BlockingIOError:
            return
        while data:
            _, mask, _, size = struct.unpack_from('iIII', data)
            yield mask, os.fsdecode(data[16:16 + size].rstrip(b'\0'))
            data = data[16 + size:]

    def wait_for(self, mask, name, limit=120):
        until = time.monotonic() + limit
        while time.monotonic() < until:
            if any(said & mask and what == name for said, what in list(self.take(1))):
                return
        raise AssertionError(f'nobody told of {name}')


def hear(one, two, count):
    watches, times = {one: Watch(one), two: Watch(two)}, []
    for here, there, name, do, text in rounds(one, two, count):
        while list(watches[there].take(0.1)):
            pass
        since = time.monotonic()
        do(f'{here}/{name}', text) if do else os.unlink(f'{here}/{name}')
        watches[there].wait_for(Watch.CLOSE_WRITE | Watch.CREATE if do else Watch.DELETE, name)
        times.append(time.monotonic() - since)
    told('inotify, from before the save', times)


{'write': write, 'check': check, 'agree': agree, 'open': open_next, 'hear': hear}[sys.argv[1]](*sys.argv[2:])
