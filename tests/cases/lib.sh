# Helpers for the cases; run.sh sources this before each of them.
#   BIN   command that mounts in the foreground:  $BIN STORE MOUNT [options]
#   SEED  the node_modules that hold multiprocess-store
#   M     the mount, S the store, W a plain directory outside both, DPID the daemon. `seed JS` runs code with the
#         original library on the same store: what it sees is the truth about compatibility.
#   B     scratch base. NOT below /tmp: vim's default 'backupskip' has /tmp/*, so a mount there never sees vim's real save path.
: "${SEED:?}" "${B:?}"; S=$B/S; M=$B/M; W=$B/W; RC=0; export B S M W SEED
mnt(){ ( cd /; exec $BIN "$S" "$M" "$@" >>"$B/daemon.log" 2>&1 ) & DPID=$!; for _ in $(seq 100); do mountpoint -q "$M" && return 0; sleep .05; done; echo "FAIL mount did not come up"; RC=1; return 1; }
umnt(){ mountpoint -q "$M" 2>/dev/null || grep -q " $M fuse" /proc/mounts || return 0; fusermount3 -u "$M" 2>/dev/null || umount "$M" 2>/dev/null || umount -l "$M"; wait $DPID 2>/dev/null; return 0; }
fresh(){ cd /; umnt; rm -rf "$B"; mkdir -p "$S" "$M" "$W"; mnt "$@"; }
hex(){ tr -d - </proc/sys/kernel/random/uuid; }
put(){ mkdir -p "$S/$1"; printf %s "$3" >"$S/$1/$2-${4:-$(hex)}"; }          # put ID N JSON [32hex]: what a foreign writer leaves
rev(){ ls -1 "$S/$1" 2>/dev/null | wc -l; }                                   # number of revision files of ID
sv(){ seed "const o=await store.getObject(process.argv[1]);delete o._id;delete o._rev;console.log(JSON.stringify(o))" "$1"; }
seed(){ local js=$1; shift; node -e "(async()=>{const store=await require('$SEED/multiprocess-store').createStore('$S');$js})().catch(e=>{console.log('ERR '+e.message);process.exit(1)})" "$@" 2>&1; }
mval(){ jq -c 'del(._id,._rev)' "$M/$1.json" 2>&1; }                          # what the mount shows, user fields only
is(){ if [ "$2" = "$3" ]; then echo "ok   $1"; else printf 'FAIL %s: got [%.160s] want [%.160s]\n' "$1" "$2" "$3"; RC=1; fi; }
yes_(){ local d=$1; shift; if "$@"; then echo "ok   $d"; else echo "FAIL $d"; RC=1; fi; }
no_(){ local d=$1; shift; if "$@"; then echo "FAIL $d"; RC=1; else echo "ok   $d"; fi; }
audit(){ local f b; for f in "$S"/*; do [ -e "$f" ] || [ -L "$f" ] || continue; [ -d "$f" ] || { echo "FAIL stray non-directory in store: $f"; RC=1; continue; }
  for b in "$f"/* "$f"/.[!.]*; do [ -e "$b" ] || continue; [[ ${b##*/} =~ ^[0-9]+-[0-9a-f]{32}$ ]] || { echo "FAIL stray name in object dir: $b"; RC=1; }; done; done
  local r; r=$(seed "const a=await store.getAllObjects();console.log('n='+a.length)"); case $r in n=*) echo "ok   store clean, seed reads $r objects";; *) echo "FAIL seed cannot read the store: ${r:0:120}"; RC=1;; esac; }
