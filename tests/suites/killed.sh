# The daemon is killed at any moment, while it starts too, under eight writers and with OBJECTS in the store: nothing that a writer was
# told is saved is lost, no revision is torn, and mounting again needs no hand. Only with --long. KILLS sets the size, FIRST is the
# number of the first round, DICE draws other moments.
[ -n "$long" ] || { skip 'killed: only with --long'; return 0; }
: "${KILLS:=2000}" "${OBJECTS:=10000}"
need_seed
need python3:python3
try $((KILLS * 10 + 300)) kills unshare --mount python3 "$root/tests/suites/crash.py" kill "$place/revfs" "$seed" "$work" "$KILLS" "$OBJECTS"
tail -n 1 "$logs/kills"
