#!/bin/bash
# jsondiff 2.2.1, dictdiffer 0.10.0, json-merge-patch 0.3.0, DeepDiff 9.1.0: 1 and true are the same JSON, so a patch leaves 1 there.
#
# Python has 1 == True and 0 == False; JSON has two types. These libraries make a patch from two texts of JSON, and for
# the change of a flag from 0 to false or 1 to true the patch is empty: whoever applies or stores it keeps the old
# value. DeepDiff sees it as the value of a member, and not as an element of an array. dictdiffer also takes
# integers about 2^53 that differ by one for the same, as it allows a small relative error unless told otherwise.
# jsonpatch 1.48 sees each of these. One would have sworn that a library which makes patches of JSON compares JSON.
#
# Needs Python's venv.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
python3 -m venv "$t/venv"
"$t/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: jsondiff==2.2.1 dictdiffer==0.10.0 \
  json-merge-patch==0.3.0 deepdiff==9.1.0 jsonpatch==1.48
"$t/venv/bin/python" - > "$t/out" 2> "$t/log" <<'PY' || { cat "$t/log"; exit 1; }
import json
import deepdiff, dictdiffer, json_merge_patch, jsondiff, jsonpatch
ways = {
    "jsonpatch": lambda old, new: jsonpatch.make_patch(old, new).apply(old),
    "jsondiff": lambda old, new: jsondiff.patch(old, jsondiff.diff(old, new)),
    "dictdiffer": lambda old, new: dictdiffer.patch(list(dictdiffer.diff(old, new)), old),
    "json-merge-patch": lambda old, new: json_merge_patch.merge(old, json_merge_patch.create_patch(old, new)),
    "DeepDiff": lambda old, new: old + deepdiff.Delta(deepdiff.DeepDiff(old, new)),
}
changes = [
    ('{"on": 1}', '{"on": true}'),
    ('{"on": [0, 5]}', '{"on": [false, 5]}'),
    ('{"id": 9007199254740992}', '{"id": 9007199254740993}'),
]
for old, new in changes:
    for name, way in ways.items():
        got = json.dumps(way(json.loads(old), json.loads(new)))
        print(f"{old} to {new}: {name}: {'done' if got == new else 'left as ' + got if got == old else got}")
PY
cat "$t/out"
diff - "$t/out" <<'WANT'
{"on": 1} to {"on": true}: jsonpatch: done
{"on": 1} to {"on": true}: jsondiff: left as {"on": 1}
{"on": 1} to {"on": true}: dictdiffer: left as {"on": 1}
{"on": 1} to {"on": true}: json-merge-patch: left as {"on": 1}
{"on": 1} to {"on": true}: DeepDiff: done
{"on": [0, 5]} to {"on": [false, 5]}: jsonpatch: done
{"on": [0, 5]} to {"on": [false, 5]}: jsondiff: left as {"on": [0, 5]}
{"on": [0, 5]} to {"on": [false, 5]}: dictdiffer: left as {"on": [0, 5]}
{"on": [0, 5]} to {"on": [false, 5]}: json-merge-patch: left as {"on": [0, 5]}
{"on": [0, 5]} to {"on": [false, 5]}: DeepDiff: left as {"on": [0, 5]}
{"id": 9007199254740992} to {"id": 9007199254740993}: jsonpatch: done
{"id": 9007199254740992} to {"id": 9007199254740993}: jsondiff: done
{"id": 9007199254740992} to {"id": 9007199254740993}: dictdiffer: left as {"id": 9007199254740992}
{"id": 9007199254740992} to {"id": 9007199254740993}: json-merge-patch: done
{"id": 9007199254740992} to {"id": 9007199254740993}: DeepDiff: done
WANT
