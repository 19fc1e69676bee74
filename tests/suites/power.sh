# Power cuts under eight writers: the file system under the store shuts down with all that was not flushed, and a machine that is
# emulated is killed. What was durable, as fsync, msync, O_SYNC, fsync of the directory or a close with -o durable said, is there;
# no revision is torn; the original library reads the store. Only with --long. CUTS for each of FILESYSTEMS and MACHINES for all
# set the sizes; FIRST is the number of the first round, DICE draws other moments, KERNEL holds a kernel's boot/ and lib/modules/.
[ -n "$long" ] || { skip 'power: only with --long'; return 0; }
: "${CUTS:=200}" "${MACHINES:=60}" "${FILESYSTEMS:=ext4 xfs}" "${KERNEL:=$tools/kernel}"
need_seed
need python3:python3 mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs
[ -e /dev/loop-control ] || { skip 'power: no loop devices'; return 0; }

# Debian's, only unpacked.
kernel() {
  [ ! -e "$KERNEL/boot" ] || return 0
  local package
  package=$(apt-cache depends --important "linux-image-$(dpkg --print-architecture)" | sed -n 's/.*Depends: \(linux-image-[0-9]\)/\1/p' | head -n 1)
  mkdir -p "$KERNEL" && cd "$KERNEL" && apt-get download "$package" && dpkg-deb -x ./*.deb . && rm ./*.deb
}

crash() {
  # No comma: QEMU's options have them.
  local kind=$1 base=$work/$1-${2//,/-}
  [ "${4:-}" != async ] || base+=-async
  mkdir -p "$base"
  shift
  unshare --mount python3 "$root/tests/suites/crash.py" "$kind" "$place/revfs" "$seed" "$base" "$@"
}
export root place seed work
for filesystem in $FILESYSTEMS; do
  grep -qw "$filesystem" /proc/filesystems || modprobe -q "$filesystem" 2>/dev/null || { skip "$filesystem: not in this kernel"; continue; }
  try $((CUTS * 20 + 60)) "$filesystem-cuts" crash cut "$filesystem" "$CUTS"
  tail -n 1 "$logs/$filesystem-cuts"
  # With -o async: what is torn is set aside by whoever looks first.
  try $((CUTS * 20 + 60)) "$filesystem-async-cuts" crash cut "$filesystem" "$CUTS" async
  tail -n 2 "$logs/$filesystem-async-cuts"
done
if ! [ "$(uname -m)" = x86_64 ]; then
  skip 'machines: only on x86_64'
elif ! (need qemu-system-x86_64:qemu-system-x86 busybox:busybox-static depmod:kmod cpio:cpio strip:binutils && kernel) >"$logs/kernel" 2>&1; then
  skip "machines: no emulator, or no kernel for one: $(tail -n 1 "$logs/kernel")"
else
  try $((MACHINES * 120 + 900)) machines crash machine "${FILESYSTEMS// /,}" "$MACHINES" "$KERNEL"
  tail -n 1 "$logs/machines"
fi
