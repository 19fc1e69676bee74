# Random scripts of one user's ordinary commands, each in a plain directory and on a fresh mount of its own: after every
# command both hold the same files, and at the end nothing is in conflict, left as a draft or refused. sequence.py has what
# is compared, sequence_kinds.py the commands. SEQUENCE_SEED: which scripts (1). SEQUENCE_SCRIPTS: how many (60; --long 1000).
need python3:python3 jq:jq git:git vim:vim ed:ed emacs:emacs-nox perl:perl node:nodejs npm:npm sponge:moreutils rsync:rsync \
  patch:patch make:make diff:diffutils script:bsdutils setsid:util-linux runuser:util-linux flock:util-linux busybox:busybox \
  gawk:gawk nvim:neovim dash:dash curl:curl tar:tar zip:zip unzip:unzip cpio:cpio xz:xz-utils zstd:zstd bindfs:bindfs
: "${SEQUENCE_SEED:=1}" "${SEQUENCE_SCRIPTS:=$([ -n "$long" ] && echo 1000 || echo 60)}"
run=(python3 "$root/tests/suites/sequence.py" --place="$work")
# The scripts themselves: between two plain directories, and on another FUSE file system, there is no difference.
try 900 plain "${run[@]}" --control=plain "$place/revfs" "$SEQUENCE_SEED" 10 20
try 900 bindfs "${run[@]}" --control=bindfs "$place/revfs" "$SEQUENCE_SEED" 10 20
for ((from = 0; from < SEQUENCE_SCRIPTS; from += 20)); do
  try 1800 "scripts-$from" "${run[@]}" "$place/revfs" $((SEQUENCE_SEED * 10000 + from)) 20 20
done
