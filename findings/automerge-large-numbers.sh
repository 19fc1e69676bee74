#!/bin/bash
# Automerge 3.5.0: a JavaScript number of 2^63 and more becomes 2^63-1, and one from 2^53-1 on comes back as a BigInt.
#
# A document takes {"number": 1e21} without a complaint, and has 9223372036854775807n at once and after load. Of -1e21
# nothing is lost. A whole number between 2^53-1 (Number.MAX_SAFE_INTEGER) and 2^63 keeps its value and not its type:
# the document has a BigInt where a number was put, so that JSON.stringify and sums with it throw a TypeError, in
# whatever program reads the document. (Its issue 1222 tells of the first.) One would have sworn that what JSON.parse
# gives can be kept or else is refused, as undefined is, and that a safe integer is safe.
#
# Needs npm and Node 20.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cd "$t"
npm install --silent --no-audit --no-fund @automerge/automerge@3.5.0 > npm.log 2>&1
cat > run.mjs <<'JS'
import * as Automerge from '@automerge/automerge'

const show = value => `${typeof value} ${value}`
const texts = ['0.5', '1', '9007199254740990', '9007199254740991', '1e18', '1e19', '1e21', '-1e21', '1.5e300']
for (const text of texts) {
  const number = JSON.parse(text)
  const made = Automerge.from({ number })
  const loaded = Automerge.load(Automerge.save(made))
  let json
  try {
    json = JSON.stringify(loaded)
  } catch (error) {
    json = error.constructor.name
  }
  console.log(`${text}: ${show(made.number)}, loaded ${show(loaded.number)}, as JSON ${json}`)
}
JS
node run.mjs | tee out
diff - out <<'WANT'
0.5: number 0.5, loaded number 0.5, as JSON {"number":0.5}
1: number 1, loaded number 1, as JSON {"number":1}
9007199254740990: number 9007199254740990, loaded number 9007199254740990, as JSON {"number":9007199254740990}
9007199254740991: bigint 9007199254740991, loaded bigint 9007199254740991, as JSON TypeError
1e18: bigint 1000000000000000000, loaded bigint 1000000000000000000, as JSON TypeError
1e19: bigint 9223372036854775807, loaded bigint 9223372036854775807, as JSON TypeError
1e21: bigint 9223372036854775807, loaded bigint 9223372036854775807, as JSON TypeError
-1e21: number -1e+21, loaded number -1e+21, as JSON {"number":-1e+21}
1.5e300: bigint 9223372036854775807, loaded bigint 9223372036854775807, as JSON TypeError
WANT
