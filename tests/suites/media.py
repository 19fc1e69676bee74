#!/usr/bin/env python3
"""A writer, and the check of what it was told.

media.py write DIRECTORY LOG WORD SHARED   saves until the first failure: in place and by rename, of objects of its own and, one
                                           of SHARED saves, of those that all have; each text it was told is saved goes to LOG
media.py check STORE LOG…                  exits with 1 unless each of these is a revision in the store, live or gone, and whole
"""
import json
import os
import re
import sys

REVISION = re.compile(r'\d+-[0-9a-f]{32}(~.*)?$')


def write(directory, log, word, shared):
    with open(log, 'a') as told:
        for n in range(1 << 30):
            id = f'all-{n % 7}' if n % int(shared) == 1 else f'{word.split("-")[0]}-{n % 40}'
            path, text = f'{directory}/{id}.json', json.dumps({'said': f'{word}-{n}', 'pad': 'x' * 500})
            try:
                # Two who make one new file in place have one file, as on a disk.
                renamed = n % 3 == 0 or not os.path.exists(path)
                first = f'{directory}/.{word}-{n}' if renamed else path
                file = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.write(file, text.encode())
                os.close(file)
                if first != path:
                    os.rename(first, path)
            except OSError as e:
                sys.exit(f'{word}-{n}: {e}')
            told.write(f'{word}-{n}\n')
            told.flush()


def check(store, logs):
    said, torn = set(), []
    for place, dirs, files in os.walk(store):
        dirs[:] = [name for name in dirs if not place.endswith('.revfs') or name == 'gone']
        for name in filter(REVISION.match, files):
            try:
                text = open(f'{place}/{name}').read()
                said.add(json.loads(text).get('said')) if text else None
            except ValueError:
                torn.append(f'{place}/{name}')
    told = {line[:-1] for log in logs for line in open(log) if line.endswith('\n')}
    lost = sorted(told - said)
    print(f'{len(told)} acknowledged, {len(lost)} lost {lost[:3]}, {len(torn)} torn {torn[:3]}')
    return bool(lost or torn or not told)


if sys.argv[1] == 'write':
    write(*sys.argv[2:])
else:
    sys.exit(check(sys.argv[2], sys.argv[3:]))
