# Every system call of every kind of change, by a mount and by the commands, fails in every way that it can: who asked is told
# or has it all, and nothing is lost. faults.py says what is looked at after each. FAULTS_SAMPLE: of each operation and error no
# more than so many calls (3; --long all of them).
need python3:python3
need_seed
: "${FAULTS_SAMPLE:=$([ -n "$long" ] && echo 0 || echo 3)}"
if [ "$(uname -m)" != x86_64 ]; then
  skip 'faults: only on x86_64'
  return 0
fi
try $((FAULTS_SAMPLE ? 3600 : 36000)) table python3 "$root/tests/suites/faults.py" --jobs="$(nproc)" --sample="$FAULTS_SAMPLE" --node="$seed" \
  "$place/revfs" "$work"
cat "$logs/table"
