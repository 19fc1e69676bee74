# Shared by the suites: a fresh mount of a fresh store, the tally, and what must hold at the end. Sourced by
# scripts/suites with $name, $place and $long set; a suite calls `begin`, then any number of `try`, `pass`, `fail`, `skip`.
work=$place/$name store=$place/$name/store mnt=$place/$name/mnt plain=$place/$name/plain
logs=$target/suites/$name tools=$target/tools
passed=0 failed=0 skipped=0 daemon='' started=$SECONDS
rm -rf "$logs"
mkdir -p "$logs" "$work" "$store" "$mnt" "$plain"
chmod 777 "$plain"
export PATH=$tools/bin:$PATH NO_COLOR=1 LC_ALL=C.UTF-8
trap 'end_mount; rm -rf --one-file-system "$work"' EXIT

pass() { passed=$((passed + ${2:-1})); }
fail() { failed=$((failed + 1)); printf 'FAILED %s\n' "$*"; }
skip() { skipped=$((skipped + 1)); printf 'skipped %s\n' "$*"; }

# Mounts the store at $mnt; arguments are further mount options.
begin() {
  local list=allow_other,suid,dev option
  for option in "$@"; do list+=,$option; done
  RUST_LOG=info "$place/revfs" mount --foreground -o "$list" "$store" "$mnt" </dev/null >"$logs/daemon" 2>&1 &
  daemon=$!
  for _ in $(seq 200); do
    ! timeout 5 mountpoint -q "$mnt" || return 0
    sleep 0.05
  done
  cat "$logs/daemon" >&2
  die "$name: no mount"
}

end_mount() {
  [ -n "$daemon" ] || return 0
  local pid=$daemon
  daemon=
  for _ in $(seq 50); do
    ! timeout 60 umount "$mnt" 2>>"$work/umount" || break
    sleep 0.1
  done
  ! mountpoint -q "$mnt" 2>/dev/null || { umount -l "$mnt"; echo "$mnt was busy" >>"$work/umount"; }
  for _ in $(seq 300); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  ! kill -9 "$pid" 2>/dev/null || echo "the daemon had to be killed" >>"$work/umount"
  ended=0
  wait "$pid" || ended=$?
}

# serve STORE MOUNTPOINT   mounts another one; its pid is $served and goes to $base/pids, what it says to $base/daemon.
serve() {
  mkdir -p "$2"
  RUST_LOG=info "$place/revfs" mount --foreground "$1" "$2" >>"$base/daemon" 2>&1 &
  served=$!
  echo $served >>"$base/pids"
  for _ in $(seq 400); do ! mountpoint -q "$2" || return 0; kill -0 $served || return 1; sleep 0.05; done
  return 1
}

# try SECONDS NAME COMMAND…   one case: it passes if the command does, in time. What it says goes to $logs/NAME. The
# command may be a function of the suite; it runs in a shell of its own that ends at the first failure.
try() { ! must "$@" || pass "$2"; }

# The same, for what is no case of the suite: only a failure counts.
must() {
  local seconds=$1 case=$2 code=0
  shift 2
  timeout --kill-after=20 "$seconds" bash -euo pipefail -c "$(declare -f); $(printf '%q ' "$@")" \
    </dev/null >"$logs/$case" 2>&1 || code=$?
  [ $code != 0 ] || return 0
  fail "$case: exit code $code; the end of $logs/$case:"
  tail -n 5 "$logs/$case" | sed 's/^/    /'
  return 1
}

# The daemon lives and answers, the mount ends without force, the daemon without an error, and the store holds
# revisions and nothing else.
finish() {
  if [ -n "$daemon" ]; then
    kill -0 "$daemon" 2>/dev/null && timeout 20 stat "$mnt" >/dev/null || fail "the daemon does not answer"
    end_mount
    [ "$ended" = 0 ] || fail "the daemon ended with $ended"
    [ ! -s "$work/umount" ] || fail "unmounting: $(tail -n 1 "$work/umount")"
    ! grep -i panic "$logs/daemon" || fail "the daemon panicked"
    clean
  fi
  printf '%s: passed %d failed %d skipped %d (%d s)\n' "$name" "$passed" "$failed" "$skipped" \
    $((SECONDS - started)) | tee "$logs/sum"
  [ "$failed" = 0 ]
}

clean() {
  local strays
  strays=$(cd "$store" && find . -mindepth 2 -not -path './.revfs/*' | grep -vE '/(0|[1-9][0-9]*)-[0-9a-f]{32}$' | head -n 3)
  [ -z "$strays" ] || fail "in the store: ${strays//$'\n'/, }"
  strays=$(find "$store/.revfs/stage" -mindepth 1 | head -n 3)
  [ -z "$strays" ] || fail "in stage: ${strays//$'\n'/, }"
  "$place/revfs" all "$store/" >/dev/null || fail "the store cannot be read"
}

# crate NAME VERSION   a program from crates.io.
crate() {
  command -v "$1" >/dev/null && return
  echo "installing $1 $2"
  cargo install --quiet --locked --root "$tools" "$1" --version "$2" >"$logs/install" 2>&1 || die "cannot install $1: see $logs/install"
}
