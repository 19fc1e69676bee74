# SGI's fsstress, of the Linux file systems' own tests. FSSTRESS_OPS: operations of a process (1,000; --long 5,000);
# FSSTRESS_SEEDS: how many seeds (3; --long 20).
#
# No Debian package has the program; the source package of btrfs-progs has its one file.
need cc:gcc mountpoint:util-linux python3:python3 tar:tar xz:xz-utils
begin
: "${FSSTRESS_OPS:=$([ -n "$long" ] && echo 5000 || echo 1000)}" "${FSSTRESS_SEEDS:=$([ -n "$long" ] && echo 20 || echo 3)}"

build() {
  local at=$1 list=(/etc/apt/sources.list /etc/apt/sources.list.d/*)
  mkdir -p "$at/parts" "$at/lists/partial"
  cd "$at"
  for list in "${list[@]}"; do
    [ -f "$list" ] || continue
    sed -E 's/^Types: *deb *$/Types: deb-src/; s/^deb /deb-src /' "$list" >"parts/${list##*/}"
  done
  local apt=(apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$at/parts"
    -o "Dir::State::lists=$at/lists" -o APT::Sandbox::User=root)
  "${apt[@]}" update || true
  "${apt[@]}" source --download-only btrfs-progs
  tar -xf btrfs-progs_*.orig.tar.* --strip-components=1 --wildcards '*/tests/fsstress.c' '*/common/internal.h'
  apt-get install -y -qq --no-install-recommends libaio-dev liburing-dev
  cc -O1 -w -D_GNU_SOURCE -DHAVE_LINUX_FIEMAP_H -DHAVE_SYS_PRCTL_H -DHAVE_RENAMEAT2 -I. tests/fsstress.c \
    -o "$2/fsstress" -luring -laio
}
if ! command -v fsstress >/dev/null; then
  mkdir -p "$tools/bin"
  echo "building fsstress"
  must 300 build build "$work/source" "$tools/bin"
fi

# Everything, from four processes at once. It does not look at results: the daemon has to survive, and rm to find it all.
storm() {
  mkdir "$1/storm"
  fsstress -d "$1/storm" -p 4 -n "$2" -s "$3"
  rm -r "$1/storm"
}

# What the mount and the file system below both can: the same calls in the same order must leave the same tree.
# Not here: extended attributes and file flags, which the mount does not have; btrfs's and XFS's own; reflinks; and what
# goes around the page cache, whose alignment depends on the medium.
without=(afsync aread attr_remove attr_set awrite clonerange collapse deduperange dread dwrite fiemap getattr getfattr
  insert listfattr removefattr rwhiteout setattr setfattr setxattr snapshot subvol_create subvol_delete uring_read
  uring_write zero)
same() {
  local at flags=() op
  for op in "${@:5}"; do flags+=(-f "$op=0"); done
  for at in "$1" "$2"; do
    mkdir "$at/same"
    fsstress -d "$at/same" -p 1 -n "$3" -s "$4" "${flags[@]}"
    tree "$at/same" >"$2/tree.${at##*/}"
  done
  diff "$2/tree.${1##*/}" "$2/tree.${2##*/}"
  [ "$(wc -l <"$2/tree.mnt")" -gt 20 ]
  rm -r "$1/same" "$2/same"
}
tree() {
  python3 - "$1" <<'P'
import hashlib, os, stat, sys
os.chdir(sys.argv[1])
first = {}
for at, dirs, files in os.walk("."):
    dirs.sort()
    for path in sorted(os.path.join(at, name) for name in dirs + files):
        s = os.lstat(path)
        line = [path, oct(s.st_mode), s.st_uid, s.st_gid]
        if stat.S_ISREG(s.st_mode):
            line += [s.st_size, hashlib.sha256(open(path, "rb").read()).hexdigest()]
        elif stat.S_ISLNK(s.st_mode):
            line += [os.readlink(path)]
        elif not stat.S_ISDIR(s.st_mode):
            line += [s.st_rdev]
        if not stat.S_ISDIR(s.st_mode):
            line += [s.st_nlink, first.setdefault(s.st_ino, path)]
        print(*line)
P
}
if command -v fsstress >/dev/null; then
  for seed in $(seq "$FSSTRESS_SEEDS"); do
    try 600 "storm-$seed" storm "$mnt" "$FSSTRESS_OPS" "$seed"
    try 600 "same-$seed" same "$mnt" "$plain" "$FSSTRESS_OPS" "$seed" "${without[@]}"
  done
fi
