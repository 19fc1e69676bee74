#!/bin/bash
# just-diff-apply 5.5.0, immutable-json-patch 6.0.3: a JSON Patch is applied in part, or though its `test` fails, without an error.
#
# RFC 6902 has `test` so that a patch is refused where the object has changed meanwhile, and wants a patch refused as a
# whole if one operation cannot be done. just-diff-apply, whose jsonPatchPathConverter is there for standard patches,
# skips `test` and `copy` without a word, so that what follows is done all the same. immutable-json-patch has `test`,
# but the order of members counts, so that equal objects differ; it passes over a `remove` or `replace` of what is not
# there, and over the `replace` of an object's member named "-". fast-json-patch 3.1.1 with validation does as the RFC
# says. One would have sworn that an operation which is not known is an error.
#
# Needs npm and Node 20.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cd "$t"
npm install --silent --no-audit --no-fund fast-json-patch@3.1.1 just-diff-apply@5.5.0 immutable-json-patch@6.0.3 > npm.log 2>&1
cat > run.mjs <<'JS'
import fastJsonPatch from 'fast-json-patch'
import { diffApply, jsonPatchPathConverter } from 'just-diff-apply'
import { immutableJSONPatch } from 'immutable-json-patch'

const ways = {
  'fast-json-patch': (value, patch) => fastJsonPatch.applyPatch(value, patch, true).newDocument,
  'just-diff-apply': (value, patch) => {
    diffApply(value, patch, jsonPatchPathConverter)
    return value
  },
  'immutable-json-patch': (value, patch) => immutableJSONPatch(value, patch),
}
const cases = [
  ['{"rev":2}', [{ op: 'test', path: '/rev', value: 1 }, { op: 'add', path: '/text', value: 'late' }]],
  ['{"a":{"x":1,"y":2}}', [{ op: 'test', path: '/a', value: { y: 2, x: 1 } }, { op: 'add', path: '/b', value: 1 }]],
  ['{"a":{"x":1}}', [{ op: 'copy', from: '/a', path: '/b' }, { op: 'add', path: '/b/y', value: 2 }]],
  ['{"a":1}', [{ op: 'replace', path: '/b', value: 2 }]],
  ['{"a":1}', [{ op: 'remove', path: '/b' }, { op: 'replace', path: '/a', value: 2 }]],
  ['{"-":1}', [{ op: 'replace', path: '/-', value: 2 }]],
]
for (const [text, patch] of cases) {
  console.log(text, JSON.stringify(patch))
  for (const [name, apply] of Object.entries(ways)) {
    let said
    try {
      said = JSON.stringify(apply(JSON.parse(text), structuredClone(patch)))
    } catch {
      said = 'an error'
    }
    console.log(`  ${name}: ${said}`)
  }
}
JS
node run.mjs | tee out
diff - out <<'WANT'
{"rev":2} [{"op":"test","path":"/rev","value":1},{"op":"add","path":"/text","value":"late"}]
  fast-json-patch: an error
  just-diff-apply: {"rev":2,"text":"late"}
  immutable-json-patch: an error
{"a":{"x":1,"y":2}} [{"op":"test","path":"/a","value":{"y":2,"x":1}},{"op":"add","path":"/b","value":1}]
  fast-json-patch: {"a":{"x":1,"y":2},"b":1}
  just-diff-apply: {"a":{"x":1,"y":2},"b":1}
  immutable-json-patch: an error
{"a":{"x":1}} [{"op":"copy","from":"/a","path":"/b"},{"op":"add","path":"/b/y","value":2}]
  fast-json-patch: {"a":{"x":1},"b":{"x":1,"y":2}}
  just-diff-apply: {"a":{"x":1},"b":{"y":2}}
  immutable-json-patch: {"a":{"x":1},"b":{"x":1,"y":2}}
{"a":1} [{"op":"replace","path":"/b","value":2}]
  fast-json-patch: an error
  just-diff-apply: an error
  immutable-json-patch: {"a":1}
{"a":1} [{"op":"remove","path":"/b"},{"op":"replace","path":"/a","value":2}]
  fast-json-patch: an error
  just-diff-apply: an error
  immutable-json-patch: {"a":2}
{"-":1} [{"op":"replace","path":"/-","value":2}]
  fast-json-patch: {"-":2}
  just-diff-apply: {"-":2}
  immutable-json-patch: {"-":1}
WANT
