#!/bin/bash
# pycrdt 0.14.13 and Yjs 13.6.33: one integer of a shared map is three different values at three peers that have all updates.
#
# Peers of a CRDT that have the same updates have the same document. Put 2^63-1 into a Map of pycrdt: there it reads as
# that integer, at another pycrdt as the float 9.223372036854776e+18, which is another number. 2^53, 2^62 and -2^63
# are an int here and a float there. A small 1 is the float 1.0 at both. 2^53+1 is kept by both, and in Yjs it is a
# BigInt, so that JSON.stringify of the browser's document throws. One would have sworn that a peer shows what it sent,
# and that an int which the library takes stays an int.
#
# Needs Python's venv, npm and Node 20.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cd "$t"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check --only-binary :all: pycrdt==0.14.13
npm install --silent --no-audit --no-fund yjs@13.6.33 > npm.log 2>&1
cat > one.py <<'PY'
import pathlib
import pycrdt
doc, peer = pycrdt.Doc(), pycrdt.Doc()
values, seen = doc.get("values", type=pycrdt.Map), peer.get("values", type=pycrdt.Map)
given = {"1": 1, "2^53": 2**53, "2^53+1": 2**53 + 1, "2^62": 2**62, "2^63-1": 2**63 - 1, "-2^63": -(2**63)}
for name, value in given.items():
    values[name] = value
update = doc.get_update()
peer.apply_update(update)
pathlib.Path("update").write_bytes(update)
for name in given:
    same = "the same" if values[name] == seen[name] else "another"
    print(f"{name}: {values[name]!r}, at the peer {seen[name]!r}, {same} number")
PY
cat > two.cjs <<'JS'
const fs = require('fs')
const Y = require('yjs')
const doc = new Y.Doc()
Y.applyUpdate(doc, fs.readFileSync('update'))
const values = doc.getMap('values')
for (const name of ['1', '2^53', '2^53+1', '2^62', '2^63-1', '-2^63']) {
  console.log(`${name}: in Yjs ${typeof values.get(name)} ${values.get(name)}`)
}
try {
  JSON.stringify(doc.getMap('values'))
} catch (error) {
  console.log(`JSON.stringify: ${error.constructor.name}`)
}
JS
{ venv/bin/python one.py; node two.cjs; } | tee out
diff - out <<'WANT'
1: 1.0, at the peer 1.0, the same number
2^53: 9007199254740992, at the peer 9007199254740992.0, the same number
2^53+1: 9007199254740993, at the peer 9007199254740993, the same number
2^62: 4611686018427387904, at the peer 4.611686018427388e+18, the same number
2^63-1: 9223372036854775807, at the peer 9.223372036854776e+18, another number
-2^63: -9223372036854775808, at the peer -9.223372036854776e+18, the same number
1: in Yjs number 1
2^53: in Yjs number 9007199254740992
2^53+1: in Yjs bigint 9007199254740993
2^62: in Yjs number 4611686018427388000
2^63-1: in Yjs number 9223372036854776000
-2^63: in Yjs number -9223372036854776000
JSON.stringify: TypeError
WANT
