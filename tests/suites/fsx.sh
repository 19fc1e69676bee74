# Random operations on one file, each read compared with what was written. FSX_OPS: operations of each of two runs at
# the same time (20,000; --long 5,000,000). FSX_SEED: the first seed.
#
# A run is many short ones: fsx 0.3.2 never unmaps what it has read through a mapping, which slows down each truncation
# and ends at 65,530 mappings.
need cc:gcc mountpoint:util-linux
crate fsx 0.3.2
begin
: "${FSX_OPS:=$([ -n "$long" ] && echo 5000000 || echo 20000)}" "${FSX_SEED:=$RANDOM}"

# run CONFIG   prints a line for each seed that failed.
run() {
  local config=$1 left=$FSX_OPS seed=$FSX_SEED ops
  while [ "$left" -gt 0 ]; do
    ops=$((left < 10000 ? left : 10000))
    if ! timeout 600 fsx -f "$root/tests/suites/fsx-$config.toml" -N $ops -S "$seed" -P "$work" "$mnt/$config" \
      >"$logs/$config-$seed" 2>&1; then
      echo "$config, seed $seed of $ops operations: see $logs/$config-$seed"
      cp "$mnt/$config" "$logs/$config-$seed.bytes"
    else
      rm "$logs/$config-$seed"
    fi
    rm -f "$mnt/$config"
    left=$((left - ops)) seed=$((seed + 1))
  done
}

run plain >"$logs/plain" &
run all >"$logs/all"
wait %%
while read -r line; do fail "$line"; done < <(cat "$logs/plain" "$logs/all")
pass fsx $((2 * ((FSX_OPS + 9999) / 10000) - failed))
echo "2 × $FSX_OPS operations from seed $FSX_SEED, $((2 * FSX_OPS / (SECONDS - started + 1))) a second"
