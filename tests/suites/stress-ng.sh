# stress-ng's file stressors, each with --verify. STRESS_SECONDS: how long each runs (2; --long 10); STRESS_WORKERS (2).
need stress-ng:stress-ng mountpoint:util-linux
begin xattr
: "${STRESS_SECONDS:=$([ -n "$long" ] && echo 10 || echo 2)}" "${STRESS_WORKERS:=2}"
stressors=(access chmod chown copy-file dentry dir dirdeep dirmany dup fallocate fcntl file-ioctl filename flock fpunch
  fsize hdd io link locka lockf lockofd mmap open readahead rename seek sendfile symlink sync-file touch utime xattr)

# The exit code does not tell of all that --verify finds; the log does.
stress() {
  stress-ng "--$1" "$2" --timeout "$3s" --verify --temp-path "$4"
  ! grep -n 'fail:' "$5"
  [ -z "$(ls -A "$4")" ]
}
for stressor in "${stressors[@]}"; do
  try $((STRESS_SECONDS * 6 + 60)) "$stressor" \
    stress "$stressor" "$STRESS_WORKERS" "$STRESS_SECONDS" "$mnt" "$logs/$stressor"
done
