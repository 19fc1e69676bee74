#!/bin/bash
# run.sh "MOUNT COMMAND" [case numbers…]   runs the cases beside this file, each in its own shell.
#   e.g. tests/cases/run.sh "target/release/revfs mount --foreground"     all of them
#        V=1 TMO=300 CASES=other/dir tests/cases/run.sh "…" 3 7           verbose, another time limit, other cases
#        N=20000 tests/cases/run.sh "…" 18                                fewer objects than 100,000
# Each case is one thing that bit people who mount object stores and edit them with ordinary programs; its head names
# where. A case passes when no line begins with FAIL. scripts/test installs what they need and runs them. Run as root.
here=$(dirname "$(readlink -f "$0")"); dir=$(readlink -f "${CASES:-$here}")
export BIN=${1:?mount command}; shift; L=$here/lib.sh; T=$(mktemp -d); P=0; X=0
case ${BIN%% *} in /*) ;; */*) BIN=$PWD/$BIN;; esac
# mount -t fuse.revfs (case 23) looks for the program in the usual places only: it is there while the cases run.
export NAME=${NAME-revfs}; link=/usr/local/bin/$NAME
[ -z "$NAME" ] || [ -e "$link" ] || { ln -sf "${BIN%% *}" "$link" && trap 'rm -f "$link"' EXIT; }
export SEED=${SEED:-$here/../../target/seed/node_modules} B=${B:-$(mktemp -d -p /var/tmp revfs-cases.XXXXXX)}
[ -d "$SEED/multiprocess-store" ] || { echo "no multiprocess-store in SEED=$SEED; scripts/test installs it"; exit 2; }
SEED=$(readlink -f "$SEED")
for f in "$dir"/[0-9][0-9]-*.sh; do n=$((10#$(basename "$f" | cut -c1-2))); [ $# -gt 0 ] && ! [[ " $* " == *" $n "* ]] && continue
  o=$(timeout ${TMO:-120} bash -c ". $L; fresh; . $f; cd /; umnt; exit \$RC" 2>$T/err </dev/null); r=$?
  t=$(head -1 "$f" | cut -c3-90)
  if [ $r = 0 ] && ! grep -q '^FAIL' <<<"$o"; then P=$((P+1)); echo "PASS $n  $t"; else X=$((X+1)); echo "FAIL $n ($r)  $t"; grep -E '^FAIL|^not readable' <<<"$o" | sed 's/^/      /'; [ -n "$V" ] && tail -5 $T/err; fi
  [ -n "$V" ] && grep -E '^(info|skip)' <<<"$o" | sed 's/^/      /'; for k in 1 2 3; do umount -l $B/M 2>/dev/null; umount -l $B/S 2>/dev/null; done; done
echo "$P passed, $X failed"; rm -rf "$T" "$B"; [ $X = 0 ]
