# Programs that people have, in a directory of the mount: CPython's own tests of files, git, SQLite, vim, small tools, fio.
need git:git vim:vim jq:jq rsync:rsync fio:fio python3:python3 node:nodejs perl:perl tar:tar flock:util-linux dd:coreutils
python3 -c 'import test.test_os' 2>/dev/null ||
  apt-get install -y -qq --no-install-recommends libpython3-testsuite >/dev/null || die "please install CPython's tests"
begin
mkdir "$mnt/app" "$mnt/py"

python_test() {
  TMPDIR=$1 python3 -m test --tempdir "$1" -j1 "$2"
}
for module in os posix shutil pathlib tempfile glob fileio io json mmap largefile file zipfile tarfile dbm_dumb mailbox \
  fcntl genericpath posixpath filecmp fileinput bufio shelve lzma gzip; do
  try 900 "python-$module" python_test "$mnt/py" "test_$module"
done

git_works() {
  cd "$1"
  git init -q one
  cd one
  git config user.name suites
  git config user.email suites@localhost
  for n in $(seq 60); do
    for file in a b c; do printf '{"n": %d, "r": %d}\n' "$n" $RANDOM >$file.json; done
    git add -A
    git commit -qm "$n"
    [ -z "$(git status --porcelain)" ]
  done
  git gc --quiet
  git fsck --full --strict
  git clone -q . ../two
  cd ../two
  git fsck --strict
  git checkout -qb other
  git worktree add -q ../three HEAD~3
  [ -z "$(git -C ../three status --porcelain)" ]
  [ "$(git rev-list --count HEAD)" = 60 ]
  cd ..
  rm -r one two three
}

# Four processes insert at the same time: journal by JOURNAL, 4 × ROWS rows.
sqlite() {
  cd "$1"
  python3 - "$2" "$3" <<'P'
import multiprocessing, sqlite3, sys
mode, rows = sys.argv[1], int(sys.argv[2])
file = mode + ".db"
def writer(who):
    db = sqlite3.connect(file, timeout=120, isolation_level=None)
    for n in range(rows):
        db.execute("insert into t values (?, ?)", (who, n))
db = sqlite3.connect(file)
assert db.execute("pragma journal_mode=" + mode).fetchone() == (mode,)
db.execute("create table t (who, n)")
db.commit()
db.close()
writers = [multiprocessing.Process(target=writer, args=(who,)) for who in range(4)]
for w in writers: w.start()
for w in writers: w.join()
assert all(w.exitcode == 0 for w in writers)
db = sqlite3.connect(file)
assert db.execute("select count(*), count(distinct who || ' ' || n) from t").fetchone() == (4 * rows, 4 * rows)
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
db.close()
P
  rm "$2".db*
}

vim_saves() {
  cd "$1"
  for copy in auto yes no; do
    for backup in writebackup nowritebackup; do
      echo '{"a": 1}' >v.json
      vim -u NONE -i NONE -N -es -c "set backupcopy=$copy $backup" -c '%s/1/2/' -c wq v.json
      [ "$(cat v.json)" = '{"a": 2}' ]
    done
  done
  vim -u NONE -i NONE -N -es -c 'set undofile undodir=.' -c '%s/2/3/' -c wq v.json
  vim -u NONE -i NONE -N -es -c 'set undofile undodir=.' -c undo -c wq v.json
  [ "$(cat v.json)" = '{"a": 2}' ]
  rm v.json .v.json.un~
  [ -z "$(ls -A)" ]
}

tools() {
  cd "$1"
  is() { [ "$(cat "$1")" = "$2" ] || { echo "$1: $(cat "$1"), not $2"; exit 1; }; }
  echo '{"a":1}' >j.json
  sed -i s/1/2/ j.json && is j.json '{"a":2}'
  jq -c .a=3 j.json >j.tmp && mv j.tmp j.json && is j.json '{"a":3}'
  jq -c .a=4 j.json | dd of=j.json conv=notrunc status=none && is j.json '{"a":4}'
  cp -a j.json k.json && cp --reflink=auto k.json l.json && install -m 644 l.json m.json
  perl -pi -e s/4/5/ m.json && is m.json '{"a":5}'
  rsync -a --checksum ./m.json ./n.json && is n.json '{"a":5}'
  echo '{"a":6}' >m.json
  rsync -a --ignore-times --inplace ./m.json ./n.json && is n.json '{"a":6}'
  echo '{"b":7}' >>m.json
  rsync -a --append-verify ./m.json ./n.json && cmp m.json n.json
  tar -cf o.tar ./*.json && sha256sum ./*.json >sums && rm ./*.json && tar -xf o.tar && sha256sum -c --quiet sums
  ln n.json p.json && [ "$(stat -c %h p.json)" = 2 ]
  flock n.json true
  truncate -s 0 n.json && echo '{}' >>n.json && is p.json '{}'
  python3 -c '
import os, tempfile
with tempfile.NamedTemporaryFile(dir=".", delete=False) as f:
    f.write(b"{}"); f.flush(); os.fsync(f.fileno()); os.replace(f.name, "q.json")'
  is q.json '{}'
  node -e '
const fs = require("fs");
fs.writeFileSync("r.json", "{}"); fs.appendFileSync("r.json", " ");
fs.writeFileSync("r.tmp", "[]"); fs.renameSync("r.tmp", "r.json");'
  is r.json '[]'
  rm ./*
}

fio_verifies() {
  cd "$1"
  fio --name=v --directory=. --size=8m --nrfiles=16 --rw=randrw --bs=4k --ioengine=psync --verify=crc32c --verify_fatal=1 \
    --do_verify=1 --runtime=15 --fsync=64 --group_reporting
  rm ./*
}

try 300 git git_works "$mnt/app"
try 300 sqlite-wal sqlite "$mnt/app" wal 200
try 300 sqlite-delete sqlite "$mnt/app" delete 60
try 120 vim vim_saves "$mnt/app"
try 120 tools tools "$mnt/app"
try 300 fio fio_verifies "$mnt/app"
must 60 empty rmdir "$mnt/app" "$mnt/py"
