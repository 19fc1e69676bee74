# Shared by the scripts: where things are, and what is missing gets installed. Sourced, not run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
revfs=$target/release/revfs
seed=$target/seed/node_modules
moto=$target/tools/moto/bin/python

die() { echo "${0##*/}: $*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# need COMMAND:PACKAGE…   installs the Debian packages of those commands, or of those paths, that are not there.
need() {
  local pair missing=()
  for pair in "$@"; do
    [ -e "${pair%%:*}" ] || command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "installing ${missing[*]}"
  command -v apt-get >/dev/null || die "please install ${missing[*]}"
  as_root apt-get update -qq || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
    || die "please install ${missing[*]}"
}

# The original library, for the programs that share stores with us.
need_seed() {
  need node:nodejs
  [ -d "$seed/multiprocess-store" ] && return
  need npm:npm
  mkdir -p "$target/seed"
  npm install --silent --no-audit --no-fund --prefix "$target/seed" multiprocess-store@1.25.0 >/dev/null \
    || die "npm cannot install multiprocess-store@1.25.0"
}

# A server that speaks S3, for the tests of buckets.
need_moto() {
  need python3:python3
  "$moto" -c 'import moto.server' 2>/dev/null && return
  python3 -c 'import ensurepip' 2>/dev/null || need ensurepip:python3-venv
  python3 -m venv "${moto%/bin/python}" && "$moto" -m pip install --quiet --disable-pip-version-check 'moto[server,s3]==5.2.1' \
    || die "pip cannot install moto"
}

need_fuse() {
  need fusermount3:fuse3
  [ -c /dev/fuse ] || as_root modprobe fuse 2>/dev/null || true
  [ -c /dev/fuse ] || die "there is no /dev/fuse here: in a container, run it with --device /dev/fuse --cap-add SYS_ADMIN"
  # fusermount3 looks there whose a mount is; a bare chroot has none.
  [ -e /etc/mtab ] || as_root ln -s /proc/self/mounts /etc/mtab || true
  # It opens the device as the user. Where udev runs, a rule of the package has made it everybody's.
  [ -e /run/udev/control ] || [ "$(stat -c %a /dev/fuse)" = 666 ] || as_root chmod 666 /dev/fuse || true
}

need_rust() {
  command -v cargo >/dev/null || die "please install Rust: https://rustup.rs"
  local component
  for component in "$@"; do
    cargo "$component" --version >/dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}" >/dev/null \
      || die "please install cargo $component"
  done
}
