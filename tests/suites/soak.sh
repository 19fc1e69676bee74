# Sixteen readers and writers on a mount and eight processes of the original library on its store, for half a minute; two hours with
# --long, when it makes a million operations and more. MINUTES sets the time, OBJECTS how many each writer has, DICE draws others.
need_seed
need python3:python3
: "${SOAK_SECONDS:=$([ -n "$long" ] && echo $((${MINUTES:-120} * 60)) || echo $((${MINUTES:-0} * 60 + 30 * (${MINUTES:-0} == 0))))}"
: "${OBJECTS:=$([ -n "$long" ] && echo 200 || echo 40)}"
try $((SOAK_SECONDS * 2 + 600)) soak python3 "$root/tests/suites/soak.py" "$place/revfs" "$seed" "$work" "$SOAK_SECONDS" "$OBJECTS"
tail -n 1 "$logs/soak"
