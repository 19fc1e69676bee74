#!/bin/bash
# object_store (in obstore 0.8.2): a web page that is answered with status 200 is an empty bucket.
#
# A network that wants a log-in first, or a proxy in trouble, answers every request with a page of its own and status 200.
# One would have sworn that listing a bucket through it fails, for the answer is no ListBucketResult. It does not: HTML that
# happens to be well-formed lists no objects, with and without a delimiter, and no error is raised. A program that takes
# "not listed" for "deleted" then deletes its copy.
#
# Needs Python 3 with venv.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
python3 -m venv "$t/venv"
"$t/venv/bin/pip" -q install obstore==0.8.2
"$t/venv/bin/python" - <<'PY' | tee "$t/out"
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import obstore
from obstore.store import S3Store

PAGE = b"<html><head><title>Welcome</title></head><body><p>Please log in.</p></body></html>"


class Login(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Login)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = S3Store(
    "bucket",
    endpoint=f"http://127.0.0.1:{server.server_port}",
    access_key_id="key",
    secret_access_key="secret",
    region="us-east-1",
    client_options={"allow_http": True},
)
print("list:", [found for page in obstore.list(store) for found in page])
print("with a delimiter:", obstore.list_with_delimiter(store))
PY
diff - "$t/out" <<'WANT'
list: []
with a delimiter: {'common_prefixes': [], 'objects': []}
WANT
