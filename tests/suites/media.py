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


def texts(*places):
    """What the revisions below these say, live or gone, and which are torn."""
    said, torn = set(), []
    for place, dirs, files in (found for at in places for found in os.walk(at)):
        dirs[:] = [name for name in dirs if (not place.endswith('.revfs') or name == 'gone') and not name.endswith('~aside')]
        for name in filter(REVISION.match, files):
            try:
                text = open(f'{place}/{name}').read()
                # What was purged leaves an empty file.
                if text or '~' not in name:
                    said.add(json.loads(text).get('said'))
            except ValueError:
                torn.append(f'{place}/{name}')
    return said, torn


def check(store, logs):
    said, torn = texts(store)
    told = {line[:-1] for log in logs for line in open(log) if line.endswith('\n')}
    lost = sorted(told - said)
    print(f'{len(told)} acknowledged, {len(lost)} lost {lost[:3]}, {len(torn)} torn {torn[:3]}')
    return bool(lost or torn or not told)


if __name__ == '__main__':
    sys.exit(write(*sys.argv[2:]) if sys.argv[1] == 'write' else check(sys.argv[2], sys.argv[3:]))
