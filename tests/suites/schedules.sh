# Several threads at once in what they share, in 20,000 orders each that chance draws (tests/schedules); a million with --long.
# REVFS_SCHEDULES: another number, REVFS_DICE: others, REVFS_SCHEDULE: one that failed again, CHECKS: only those.
: "${REVFS_SCHEDULES:=$([ -n "$long" ] && echo 1000000 || echo 20000)}"
schedules() {
  cd tests/schedules
  RUSTFLAGS='--cfg fuzzing' CARGO_TARGET_DIR=$target/schedules cargo test --quiet --release "$1" -- --nocapture
}
export REVFS_SCHEDULES target
for check in ${CHECKS:-locks budget idle feed mount}; do
  try 36000 "$check" schedules "$check"
  grep -h ' schedules$' "$logs/$check" | sed "s/^/$check: /"
done
