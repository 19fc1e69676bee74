#!/usr/bin/env python3
"""One user's commands, one after the other, in a plain directory and in a mount: after each, both hold the same.

sequence.py [OPTIONS] REVFS SEED COUNT LENGTH   COUNT scripts of LENGTH commands each; the same ones for the same SEED.
  --place=DIR     make the directories below DIR (/var/tmp)
  --control=WHAT  instead of the mount: plain, another plain directory; bindfs, a mirror of one
  --only=KIND,…   commands of these kinds only       --without=KIND,…  none of these kinds
  --frame=NAME    how the shell runs, see FRAMES     --mount=OPTIONS   of `revfs mount -o`
  --pause=SECONDS sleeps between commands            --survey          goes on behind a difference, shows each sort once
  --show=N        shrinks and shows N differences (3) --commands=FILE   one script: a command of each line of FILE
  --replay=SEED/N only this script                   --verbose         all scripts, command by command

Nobody else writes, all texts are whole objects and no object is empty after a command, so nothing can be in conflict or
refused, except where no tree of processes shows the order of two commands (two terminals, a worker at a fifo): names, contents, sizes, modes, links, set times, output and exit status have to be equal after every command, and
at the end there are no conflicts, drafts or refusals. sequence_kinds.py has the commands.
Prints `N of M scripts equal`; exits with 0 if all are.
"""
import argparse
import collections
import json
import os
import random
import re
import select
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import sequence_kinds
from sequence_kinds import Command, Writer

LIMIT = 30  # seconds that a command may take
# How commands are run, and when files are looked at: by the shell itself, by the process that started it, at the end.
FRAMES = {
    'text': ('one', 'inside'), 'text, watched': ('one', 'outside'), 'text, unwatched': ('one', 'end'),
    'file': ('file', 'outside'), 'input': ('input', 'inside'), 'monitor': ('monitor', 'outside'),
    'session': ('session', 'inside'), 'spawned': ('spawned', 'outside'), 'spawned, unwatched': ('spawned', 'end'),
    'terminals': ('terminals', 'outside'),
}
CHANCES = {'text': 4, 'spawned': 3, 'text, watched': 2}
# Files as a shell sees them; a name that a command has left is one of few.
LOOK = r'''look() {
  ls -A | sort
  find . -path ./.git -prune -o ! -type d -printf '%P %y %s %n %m\n' -o -printf '%P %y %m\n' | sort
  for f in * .[!.]* d/* d/.[!.]*; do [ -f "$f" ] && set -- "$@" "$f"; done
  [ $# = 0 ] || tail -v -c +1 -- "$@"
}
'''


class Side:
    """A directory that a script runs in, and its shells."""

    def __init__(self, base, name):
        self.name, self.point, self.work = name, f'{base}/{name}', f'{base}/{name}-w'
        for d in (self.point, self.work, *(f'{self.work}/{d}' for d in ('user', 'tmp', 'npm', 'frame'))):
            os.mkdir(d)
        with open(f'{self.work}/npm/package.json', 'w') as f:
            json.dump({'name': 'do', 'version': '1.0.0', 'scripts': {'do': 'cd "$0" && bash -c "$DO"'}}, f)
        with open(f'{self.work}/user/.gitconfig', 'w') as f:
            f.write('[user]\nname = u\nemail = u@localhost\n[gc]\nauto = 0\n[maintenance]\nauto = false\n'
                    '[core]\npager = cat\neditor = true\n[advice]\ndetachedHead = false\n[safe]\ndirectory = *\n')
        self.shells, self.began = [], time.time()

    def environment(self):
        kept = {k: os.environ[k] for k in ('PATH',) if k in os.environ}
        kept['PATH'] = os.path.dirname(os.path.realpath(sys.executable)) + ':' + kept.get('PATH', '/usr/bin:/bin')
        # A directory without .git is in no repository, whatever is above it.
        return dict(kept, W=self.work, HOME=f'{self.work}/user', TMPDIR=f'{self.work}/tmp', LC_ALL='C.UTF-8', TZ='UTC', TERM='dumb',
                    GIT_CEILING_DIRECTORIES=os.path.dirname(self.point), GIT_CONFIG_NOSYSTEM='1',
                    GIT_AUTHOR_DATE='@1500000000 +0000', GIT_COMMITTER_DATE='@1500000000 +0000',
                    npm_config_update_notifier='false', npm_config_loglevel='silent', npm_config_offline='true')

    def path(self, name):
        return f'{self.work}/frame/{name}'

    def frame(self, commands, inside):
        """Script text that runs each command when it is told to, and tells of its end."""
        lines = [f'cd {shlex.quote(self.point)} || exit 99', 'umask 022', LOOK]
        for i, c in commands:
            lines += ['read -r _ <&8 || exit 98',
                      '{ %s\n} > "$W/frame/out" 2>> "$W/frame/err" < /dev/null 8<&- 9>&-' % c, 'rc=$?',
                      *(['( look ) > "$W/frame/look" 2>&1 < /dev/null'] if inside else []), 'echo "$rc" >&9']
        return '\n'.join(lines) + '\n'

    def start(self, form, commands, inside):
        self.form, self.inside = form, inside
        self.turns = 2 if form == 'terminals' else 1
        if form == 'spawned':
            return
        for turn in range(self.turns):
            text = self.frame([(i, c) for i, c in enumerate(commands) if i % self.turns == turn], inside)
            go, told = os.pipe(), os.pipe()
            script = self.path(f'script{turn}')
            with open(script, 'w') as f:
                f.write(text)
            args, stdin = {'file': (['bash', script], None), 'input': (['bash'], script),
                           'monitor': (['bash', '-mc', text], None)}.get(form, (['bash', '-c', text], None))

            def ends(go=go[0], told=told[1]):
                # Above all others first: one may stand where the other has to go.
                a, b = os.dup2(go, 200), os.dup2(told, 201)
                os.dup2(a, 8)
                os.dup2(b, 9)
                os.setsid() if form in ('session', 'terminals') else os.setpgid(0, 0)

            with open(stdin or os.devnull) as given:
                shell = subprocess.Popen(args, stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                         env=self.environment(), preexec_fn=ends, pass_fds=(8, 9))
            os.close(go[0])
            os.close(told[1])
            self.shells.append((shell, go[1], told[0]))

    def send(self, i, command):
        for name in ('out', 'look'):
            open(self.path(name), 'w').close()
        if self.form == 'spawned':
            with open(self.path('out'), 'w') as out, open(self.path('err'), 'a') as err:
                self.running = subprocess.Popen(['bash', '-c', 'umask 022\n' + command], cwd=self.point, stdin=subprocess.DEVNULL, stdout=out,
                                                stderr=err, env=self.environment(), preexec_fn=lambda: os.setpgid(0, 0))
        else:
            try:
                os.write(self.shells[i % self.turns][1], b'\n')
            except BrokenPipeError:
                pass

    def wait(self, i):
        """The command's exit status."""
        if self.form == 'spawned':
            try:
                return str(self.running.wait(LIMIT))
            except subprocess.TimeoutExpired:
                self.kill(self.running)
                return 'it hangs'
        shell, _, told = self.shells[i % self.turns]
        ready, _, _ = select.select([told], [], [], LIMIT)
        said = os.read(told, 100).decode().strip() if ready else 'it hangs'
        if not ready:
            self.kill(shell)
        return said or 'the shell ended'

    def kill(self, child):
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()

    def stop(self):
        for shell, go, told in self.shells:
            os.close(go)
            try:
                shell.wait(5)
            except subprocess.TimeoutExpired:
                self.kill(shell)
            os.close(told)
        if self.form == 'spawned' and self.running and self.running.poll() is None:
            self.kill(self.running)
        self.shells = []

    running, form = None, None

    def same(self, text):
        """Text without what differs between two places."""
        return text.replace(self.work, 'WORK').replace(self.point, 'PLACE')

    def output(self, name):
        with open(self.path(name), errors='surrogateescape') as f:
            return self.same(f.read())

    def look(self):
        """All files as lines of text; with what the shell saw of them."""
        lines = ['as the shell saw it: ' + line for line in self.output('look').splitlines()]
        if self.inside:
            return lines
        for path, dirs, names in os.walk(self.point):
            if path == self.point and '.git' in dirs:
                dirs.remove('.git')
            for name in names + [d for d in dirs if os.path.islink(f'{path}/{d}')] + dirs:
                lines.append(self.entry(f'{path}/{name}'))
        return sorted(set(lines))

    def entry(self, path):
        name = os.path.relpath(path, self.point)
        try:
            st = os.lstat(path)
            kind = {stat.S_IFREG: 'file', stat.S_IFDIR: 'directory', stat.S_IFLNK: 'link'}.get(stat.S_IFMT(st.st_mode), 'special')
            line = f'{name} {kind} {st.st_mode & 0o7777:o}'
            if kind == 'link':
                return f'{line} to {os.readlink(path)}'
            if kind != 'file':
                return line
            # Only a time that somebody has set is the same on both sides.
            when = int(st.st_mtime) if st.st_mtime < self.began - 86400 else 'now' if st.st_mtime < self.began + 86400 else 'later'
            with open(path, 'rb') as f:
                text = f.read().decode(errors='surrogateescape')
            return f'{line} {st.st_size} bytes, {st.st_nlink} name, {when}: {text}'
        except OSError as e:
            return f'{name}: {e.strerror}'


class Mount:
    """The second directory: a mount, or what stands in for it."""

    def __init__(self, binary, base, options):
        self.point, self.store, self.base, self.daemon = f'{base}/mount', f'{base}/store', base, None
        self.binary, self.control, self.options = binary, options.control, options.mount
        if self.control == 'plain':
            return
        os.mkdir(self.store)
        command = [binary, 'mount', '--foreground', *(['-o', self.options] if self.options else []), self.store, self.point]
        if self.control == 'bindfs':
            command = ['bindfs', '-f', '-o', 'attr_timeout=0,entry_timeout=0', self.store, self.point]
        self.log = open(f'{base}/log', 'w+')
        self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                       env=dict(os.environ, RUST_LOG=os.environ.get('RUST_LOG', 'info,fuser=error')))
        end = time.time() + 20
        while not os.path.ismount(self.point):
            if self.daemon.poll() is not None or time.time() > end:
                self.end()
                sys.exit(f'no mount: {self.said()}')
            time.sleep(0.002)

    def said(self):
        self.log.seek(0)
        return self.log.read().strip()

    def left(self, conflicts):
        """What should not be there after a script; and what is only worth a note."""
        if self.control:
            return '', ''
        found = [f'{view}: {" ".join(sorted(names))}' for view in ('.conflicts', '.drafts')[not conflicts:]
                 if (names := os.listdir(f'{self.point}/{view}'))]
        with open(f'{self.point}/.status') as f:
            refusals = json.load(f)['refusals']
        gone = [n for n in os.listdir(f'{self.point}/.deleted') if re.match(r'tmp', n)]
        if refusals:
            found.append('refusals: ' + '; '.join(refusals))
        return ', '.join(found), ' '.join(sorted(gone))

    def end(self):
        """Unmounts; what went wrong with that."""
        if not self.daemon:
            return ''
        trouble = ''
        unmount = ['umount', self.point] if self.control else [self.binary, 'umount', self.point]
        for _ in range(50):
            if not os.path.ismount(self.point) or subprocess.run(unmount, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        else:
            trouble = 'the mount stays busy'
            subprocess.run(['umount', '-l', self.point], capture_output=True)
        try:
            code = self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            code = self.daemon.wait()
        if code != 0:
            trouble = trouble or f'the daemon ended with {code}'
        self.daemon = None
        panics = [line for line in self.said().splitlines() if 'panic' in line]
        return panics[0] if panics else trouble


class Unfair(Exception):
    """A command has left what no object can be: the table of kinds is wrong."""


def fair(side, command):
    for name in os.listdir(side.point):
        path = f'{side.point}/{name}'
        if sequence_kinds.whole(name) and os.path.isfile(path):
            with open(path, 'rb') as f:
                text = f.read()
            try:
                if not isinstance(json.loads(text), dict):
                    raise ValueError
            except ValueError:
                raise Unfair(f'{name} is {text[:80]!r} after: {command}') from None


def play(options, commands, frame):
    """Runs a script on both sides. The first difference: the command's number, both sides; and a note."""
    base = tempfile.mkdtemp(dir=options.place, prefix='sequence-')
    form, watch = FRAMES[frame]
    sides, mount, found, note, trouble = [], None, None, '', ''
    texts = [c.text for c in commands]
    try:
        sides = [Side(base, name) for name in ('plain', 'mount')]
        mount = Mount(options.binary, base, options)
        for side in sides:
            side.start(form, texts, watch == 'inside')
        for i, text in enumerate(texts):
            for side in sides:
                side.send(i, text)
            codes = [side.wait(i) for side in sides]
            seen = [[f'exit status {code}'] + ['output: ' + line for line in side.output('out').splitlines()]
                    for code, side in zip(codes, sides)]
            if watch != 'end' or i == len(texts) - 1:
                seen = [lines + side.look() for lines, side in zip(seen, sides)]
                fair(sides[0], text)
            if options.verbose:
                print(f'  {i}: {text}\n' + ''.join(f'      {line}\n' for line in seen[0]), end='')
            if seen[0] != seen[1]:
                counts = [collections.Counter(lines) for lines in seen]
                found = (i, list((counts[0] - counts[1]).elements()), list((counts[1] - counts[0]).elements()))
                break
            if options.pause:
                time.sleep(options.pause)
        if not found:
            seen_order = form != 'terminals' and not set(sequence_kinds.UNSEEN) & {k for c in commands for k in c.kinds()}
            left, note = mount.left(seen_order)
            if left:
                found = (len(texts) - 1, ['nothing is left'], [left])
        if found:
            found[2].extend('said: ' + line for line in sides[1].output('err').splitlines()[-3:])
    finally:
        # The shells end first: theirs is the mount's working directory.
        for side in sides:
            side.stop()
        if mount:
            trouble = mount.end()
        shutil.rmtree(base, ignore_errors=True)
    if trouble and not found:
        found = (len(texts) - 1, ['no trouble'], [trouble])
    return found, note


def shrink(options, commands, frame, found):
    """The fewest and simplest commands that still differ."""
    def differs(fewer, frame=frame):
        try:
            return play(options, fewer, frame)[0]
        except Unfair:
            return None

    commands = commands[:found[0] + 1]
    for simple in ('text', 'spawned'):
        if frame not in ('text', 'spawned') and (less := differs(commands, simple)):
            frame, found, commands = simple, less, commands[:less[0] + 1]
            break
    size = len(commands) // 2
    while size:
        at = len(commands) - 1 - size
        while at >= 0:
            fewer = commands[:at] + commands[at + size:]
            if less := differs(fewer, frame):
                commands, found = fewer[:less[0] + 1], less
            at -= size
        size //= 2
    at = len(commands) - 1
    while at >= 0:
        for simpler in commands[at].simpler() if at < len(commands) else ():
            fewer = commands[:at] + [simpler] + commands[at + 1:]
            if less := differs(fewer, frame):
                commands, found, at = fewer[:less[0] + 1], less, min(at, less[0]) + 1
                break
        at -= 1
    for at in range(len(commands) - 2, -1, -1):
        fewer = commands[:at] + commands[at + 1:]
        if at < len(commands) - 1 and (less := differs(fewer, frame)):
            commands, found = fewer[:less[0] + 1], less
    return commands, frame, found


def show(title, commands, frame, found):
    print(f'{title}; frame: {frame}')
    for c in commands:
        print('    ' + c.text.replace('\n', '\n    '))
    for name, lines in zip(('plain', 'mount'), found[1:]):
        print('  ' + '\n  '.join(f'{name}: {line[:300]}' for line in lines[:12]))
    sys.stdout.flush()


def script(options, seed, k):
    dice = random.Random(f'{seed}/{k}')
    names = list(FRAMES)
    frame = options.frame or dice.choices(names, [CHANCES.get(n, 1) for n in names])[0]
    writer = Writer(dice, dice.random() < 0.2, options.only, options.without)
    return writer.first() + [writer.command() for _ in range(options.length)], frame


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('binary')
    for name in ('seed', 'count', 'length'):
        parser.add_argument(name, type=int)
    parser.add_argument('--place', default='/var/tmp')
    parser.add_argument('--control', choices=['plain', 'bindfs'])
    for name in ('only', 'without'):
        parser.add_argument(f'--{name}', type=lambda s: s.split(','), default=[])
    parser.add_argument('--frame', choices=FRAMES)
    for name in ('mount', 'commands', 'replay'):
        parser.add_argument(f'--{name}')
    parser.add_argument('--pause', type=float)
    parser.add_argument('--show', type=int, default=3)
    for name in ('survey', 'verbose'):
        parser.add_argument(f'--{name}', action='store_true')
    options = parser.parse_args()
    options.place = os.path.realpath(options.place)
    options.binary = os.path.realpath(options.binary)
    # Ends like an exception, so that nothing stays mounted.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))

    if options.commands:
        with open(options.commands) as f:
            scripts = [('given', [Command(line, [line.rstrip('\n')], []) for line in f if line.strip()], options.frame or 'text')]
    else:
        scripts = ((f'{options.seed}/{k}', *script(options, options.seed, k)) for k in range(options.count))
        if options.replay:
            scripts = [(options.replay, *script(options, *options.replay.split('/')))]
    total = equal = shown = 0
    known, notes = set(), set()
    try:
        for name, commands, frame in scripts:
            total += 1
            if options.verbose:
                print(f'script {name}; frame: {frame}')
            clean = True
            while True:
                try:
                    found, note = play(options, commands, frame)
                except Unfair as e:
                    print(f'script {name} is unfair: {e}')
                    clean = False
                    break
                notes.update(note.split())
                if not found:
                    break
                clean = False
                if shown < options.show or options.survey:
                    small, in_frame, least = shrink(options, commands, frame, found)
                    sort = tuple(k for c in small for k in c.kinds() if k != 'first')
                    if sort not in known:
                        known.add(sort)
                        shown += 1
                        show(f'script {name} differs after command {found[0]}; shrunk', small, in_frame, least)
                if not options.survey:
                    break
                commands = commands[:found[0]] + commands[found[0] + 1:]
                if found[0] >= len(commands):
                    break
            equal += clean
    finally:
        if notes:
            print('note: in .deleted from temporary names: ' + ' '.join(sorted(notes)))
        print(f'{equal} of {total} scripts equal')
    sys.exit(equal != total)


if __name__ == '__main__':
    main()
