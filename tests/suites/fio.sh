# fio writes blocks that say where they belong, and reads them back. FIO_SIZE: bytes of a job (8m; --long 64m).
need fio:fio mountpoint:util-linux
begin
: "${FIO_SIZE:=$([ -n "$long" ] && echo 64m || echo 8m)}"
# verify DIRECTORY OPTION…
verify() {
  mkdir "$1"
  cd "$1"
  fio --rw=randrw --verify=crc32c --verify_fatal=1 --do_verify=1 --group_reporting "${@:2}"
  rm -r "$1"
}
job() { try 900 "$1" verify "$mnt/$1" --name="$1" --size="$FIO_SIZE" "${@:2}"; }
job psync --ioengine=psync --bs=4k --nrfiles=16 --fsync=64
job mmap --ioengine=mmap --bs=4k --numjobs=4 --fsync=256
job odd-sizes --ioengine=sync --bs=4099 --numjobs=2
job direct --ioengine=psync --direct=1 --bs=16k --numjobs=2
job libaio --ioengine=libaio --iodepth=8 --bs=8k --numjobs=2
job vectors --ioengine=pvsync2 --bs=12k --overwrite=1 --fdatasync=128
job append --ioengine=psync --rw=write --file_append=1 --bs=3k --numjobs=4
