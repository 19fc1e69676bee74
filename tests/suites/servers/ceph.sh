# A Ceph of one monitor and one store of objects in memory, on the loopback; what it writes is in $ceph. Sourced; root only.
need_ceph() {
  need ceph-mon:ceph-mon ceph-osd:ceph-osd ceph:ceph-common monmaptool:ceph-common uuidgen:uuid-runtime "$@"
}

# ceph_up DIRECTORY   starts it; ceph_down ends all that was started.
ceph_up() {
  local id
  export ceph=$1 CEPH_CONF=$1/conf
  mkdir -p "$ceph"/{mon,osd,mds,run}
  cat >"$CEPH_CONF" <<-conf
	[global]
	fsid = 6f1e2a30-0000-4000-8000-00000000cafe
	mon host = [v2:127.0.0.1:3300,v1:127.0.0.1:6789]
	public addr = 127.0.0.1
	cluster addr = 127.0.0.1
	auth cluster required = none
	auth service required = none
	auth client required = none
	osd pool default size = 1
	osd pool default min size = 1
	osd pool default pg num = 4
	osd crush chooseleaf type = 0
	mon allow pool size one = true
	mon max pg per osd = 1000
	mon data avail crit = 1
	mon data = $ceph/mon
	osd data = $ceph/osd
	mds data = $ceph/mds
	rgw data = $ceph/run
	osd objectstore = memstore
	memstore device bytes = 2147483648
	osd class load list = *
	rgw frontends = beast endpoint=127.0.0.1:7480 tcp_nodelay=1
	ms mon client mode = crc
	run dir = $ceph/run
	admin socket = $ceph/run/\$name.asok
	pid file = $ceph/run/\$name.pid
	log file = $ceph/\$name.log
	conf
  monmaptool --create --addv a '[v2:127.0.0.1:3300,v1:127.0.0.1:6789]' --fsid 6f1e2a30-0000-4000-8000-00000000cafe "$ceph/map"
  ceph-mon --mkfs -i a --monmap "$ceph/map" && ceph-mon -i a || return 1
  id=$(uuidgen)
  ceph-osd -i 0 --mkfs --osd-uuid "$id" && ceph osd new "$id" && ceph osd crush add osd.0 1.0 root=default host=here && ceph-osd -i 0
}
ceph_down() {
  local n pid pids=$(cat "$ceph"/run/*.pid 2>/dev/null)
  [ -z "$pids" ] || kill $pids 2>/dev/null
  # Whose parent has not looked yet has ended all the same.
  for pid in $pids; do for n in $(seq 100); do readlink "/proc/$pid/exe" >/dev/null && sleep 0.1 || break; done; ! readlink "/proc/$pid/exe" >/dev/null || kill -9 "$pid" 2>/dev/null; done
}

# A file system in it. ceph_mount DIRECTORY [NAME]: each is a client of its own, as on another host.
ceph_fs() {
  local n
  ceph-mds -i a && ceph osd pool create meta 4 && ceph osd pool create data 4 && ceph fs new cephfs meta data || return 1
  for n in $(seq 60); do ! ceph mds stat | grep -q up:active || return 0; sleep 0.5; done
  return 1
}
ceph_mount() {
  local run=$ceph/run/${2:-client}
  ceph-fuse --admin_socket="$run.asok" --pid_file="$run.pid" --log_file="$ceph/${2:-client}.log" \
    --client_die_on_failed_remount=false "$1"
}

# A server that speaks S3 at 127.0.0.1:7480, for `testkey` with `testsecret`.
ceph_gateway() {
  local n
  radosgw -n client.rgw || return 1
  for n in $(seq 60); do ! curl -sf http://127.0.0.1:7480/ >/dev/null || break; sleep 0.5; done
  radosgw-admin user create --uid=test --display-name=test --access-key=testkey --secret=testsecret >/dev/null
}
