# Random operations on one file, each read compared with what was written. FSX_OPS: operations of each of two runs at
# the same time (20,000; --long 5,000,000), and a twentieth on a draft. FSX_SEED: the first seed.
#
# A run is many short ones: fsx 0.3.2 never unmaps what it has read through a mapping, which slows down each truncation
# and ends at 65,530 mappings.
need cc:gcc mountpoint:util-linux
crate fsx 0.3.2
begin
: "${FSX_OPS:=$([ -n "$long" ] && echo 5000000 || echo 20000)}" "${FSX_SEED:=$RANDOM}"
each=10000

# run CONFIG FILE OPERATIONS   prints a line for each seed that failed.
run() {
  local left=$3 seed=$FSX_SEED ops
  while [ "$left" -gt 0 ]; do
    ops=$((left < each ? left : each))
    if timeout 600 fsx -f "$root/tests/suites/fsx-$1.toml" -N $ops -S "$seed" -P "$work" "$mnt/$2" >"$logs/$1-$seed" 2>&1; then
      rm "$logs/$1-$seed"
    else
      echo "$1, seed $seed of $ops operations: see $logs/$1-$seed"
      cp "$mnt/$2" "$logs/$1-$seed.bytes"
    fi
    rm -f "$mnt/$2"
    left=$((left - ops)) seed=$((seed + 1))
  done
}

run plain plain "$FSX_OPS" >"$logs/plain" & plain_run=$!
run all all "$FSX_OPS" >"$logs/all"
wait $plain_run
run draft draft.json $((FSX_OPS / 20)) >"$logs/draft"
while read -r line; do fail "$line"; done < <(cat "$logs/plain" "$logs/all" "$logs/draft")
pass fsx $((2 * ((FSX_OPS + each - 1) / each) + (FSX_OPS / 20 + each - 1) / each - failed))
[ -z "$(ls "$store")" ] || fail "there are objects: $(ls "$store")"
echo "2.05 × $FSX_OPS operations from seed $FSX_SEED in $((SECONDS - started)) s"
