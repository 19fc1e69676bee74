#!/usr/bin/env python3
"""Stores that meet in a bucket, and what must hold then. AWS_* say where it is.

servers.py bucket NAME              makes one
servers.py meet REVFS DIR HUB SEED  three stores: saves, conflicts, deletes, settlements and gc, synchronised in any order, and in
                                    the end until nothing is new: then all show the same
servers.py odd REVFS DIR HUB        ids of 250 bytes in several scripts and of odd characters, beside keys of other programs
servers.py many REVFS DIR HUB HOSTS as many hosts as that save one object
"""
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ODD = rb'\{^%~#|*?}`]">[<'
LONG = [(text * 250)[:250 // len(text.encode())].encode() for text in ('\u65e5', '\u05d0', '\u0444', '\U0001f980', 'e\u0301', 'z')]
LONG = [id + b'x' * (250 - len(id)) for id in LONG]
IDS = LONG + [ODD, b'a b\n\t\x01\x7f', b'~41', b'A', b'a', b'a%2Fb+c&d=e;f:g@h!', b'\xff\xfe not text', b'.'.join([b'x'] * 9), b'-n', b'~' * 250]


def s3():
    import boto3
    from botocore.config import Config
    # JuiceFS takes no checksums behind the body.
    config = Config(request_checksum_calculation='when_required', response_checksum_validation='when_required')
    return boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT_URL'], config=config)


def bucket(name):
    s3().create_bucket(Bucket=name)


class Host:
    def __init__(self, revfs, dir, hub):
        self.revfs, self.store, self.hub, self.state = revfs, f'{dir}/store', hub, f'{dir}/state'
        os.makedirs(self.store)

    def run(self, *args, text=b'', may_fail=False):
        env = {**os.environ, 'XDG_STATE_HOME': self.state}
        ran = subprocess.run([self.revfs, '--store', self.store, *args], input=text, env=env, capture_output=True)
        if ran.returncode and not may_fail:
            raise SystemExit(f'{self.store}: {args}: {ran.returncode}: {ran.stderr.decode(errors="replace")}')
        return ran.stdout

    def sync(self, *args):
        return self.run('sync', *args, self.hub)

    def ids(self):
        return self.run('ls', '-0').split(b'\0')[:-1]

    def shown(self):
        """All that is to be the same everywhere."""
        tree = {}
        for place, dirs, files in os.walk(os.fsencode(self.store)):
            if place == os.fsencode(self.store):
                dirs.remove(b'.revfs')
            tree.update((os.path.join(place, name)[len(self.store):], open(os.path.join(place, name), 'rb').read()) for name in files)
        # When it came here is each host's own.
        logs = {id: re.sub(rb'"time":"[^"]*"', b'', self.run('log', '--json', '--', id)) for id in self.ids()}
        return {'tree': tree, 'ls': sorted(self.ids()), 'log': logs, 'conflicts': self.run('conflicts', '--names', may_fail=True)}


def settle(hosts):
    quiet = 0
    for _ in range(30):
        said = [host.sync() for host in hosts]
        quiet = quiet + 1 if all(line == b'nothing new\n' for line in said) else 0
        if quiet == 2:
            return
    raise SystemExit(f'no rest: {said}')


def same(hosts):
    shown = [host.shown() for host in hosts]
    for what, first in shown[0].items():
        for host, other in zip(hosts[1:], shown[1:]):
            if other[what] != first:
                keys = [key for key in first if first[key] != other[what].get(key)] if isinstance(first, dict) else []
                raise SystemExit(f'{what}: {hosts[0].store} and {host.store} differ: {keys[:3]} {first if not keys else first[keys[0]]} '
                                 f'{other[what] if not keys else other[what].get(keys[0])}')
    return shown[0]


def meet(revfs, dir, hub, seed):
    dice = random.Random(int(seed))
    hosts = [Host(revfs, f'{dir}/{name}', hub) for name in 'abc']
    hosts[0].run('put', '--', 'first', text=b'{"n": 0}')
    for host in hosts:
        host.sync()
    ids, saves = [b'o%d' % n for n in range(8)] + [ODD, LONG[0]], 0
    for turn in range(60):
        host = dice.choice(hosts)
        for _ in range(dice.randint(1, 6)):
            id, there = dice.choice(ids), host.ids()
            what = dice.random()
            if what < 0.7 or not there:
                saves += 1
                host.run('put', '--', id, text=b'{"n": %d, "by": "%d"}' % (dice.randint(0, 9), saves))
            elif what < 0.8:
                host.run('rm', '--', dice.choice(there))
            elif what < 0.85:
                host.run('undelete', '--', id, may_fail=True)
            elif what < 0.92:
                host.run('resolve', dice.choice(['--ours', '--merge', '--auto']), '--all', may_fail=True)
            else:
                host.run('gc', '--keep', str(dice.randint(1, 3)), *dice.choice([[], ['--purge', '0d']]))
        if dice.random() < 0.6:
            host.sync(*dice.choice([[], [], ['--pull'], ['--push']]))
    # Nobody has heard of these.
    for at, host in enumerate(hosts):
        host.run('put', '--', 'last', text=b'{"by": %d}' % at)
    settle(hosts)
    shown = same(hosts)
    assert len(shown['ls']) > 2 and shown['conflicts']
    print(f'{saves} saves: {len(shown["ls"])} objects, {len(shown["tree"])} revisions, {shown["conflicts"].count(10)} in conflict; the same on three hosts')


def odd(revfs, dir, hub):
    a, b = (Host(revfs, f'{dir}/{name}', hub) for name in ('d', 'e'))
    for n, id in enumerate(IDS):
        a.run('put', '--', id, text=b'{"n": %d}' % n)
    a.sync()
    # What other programs may leave.
    name, _, prefix = hub.removeprefix('s3://').partition('/')
    refused = []
    for key in 'a//b', 'head/a//b', 'head/readme.txt', 'head/\u00fc \u2603', 'rev/.DS_Store', 'rev/x//y', 'log/x', 'head/../x', 'head/./x':
        try:
            s3().put_object(Bucket=name, Key=f'{prefix}/{key}'.lstrip('/'), Body=b'theirs')
        except Exception as why:
            refused.append(f'{key} ({type(why).__name__}: {str(why)[:60]})')
    b.sync()
    for n, id in enumerate(IDS):
        b.run('put', '--', id, text=b'{"n": %d}' % -n)
    settle([a, b])
    shown = same([a, b])
    assert shown['ls'] == sorted(IDS)
    print(f'{len(IDS)} ids, the same on two hosts; keys that the server refused: {", ".join(refused) or "none"}')


def many(revfs, dir, hub, count):
    def save(n):
        host = Host(revfs, f'{dir}/many/{n}', hub)
        host.run('put', '--', 'all', text=b'{"by": %d}' % n)
        host.sync('--join', '--push')
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(int(count))))
    hosts = [Host(revfs, f'{dir}/{name}', hub) for name in 'fg']
    settle(hosts)
    shown = same(hosts)
    assert len(shown['tree']) == int(count), len(shown['tree'])
    print(f'{count} hosts, {len(shown["tree"])} revisions of one object, the same on two more')


{'bucket': bucket, 'meet': meet, 'odd': odd, 'many': many}[sys.argv[1]](*sys.argv[2:])
