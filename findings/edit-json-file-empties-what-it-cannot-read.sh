#!/bin/bash
# edit-json-file 1.8.1: a file that is not plain JSON counts as empty, and saving one value removes all others.
#
# The npm package is for changing a value in a JSON file. A tsconfig.json with a comment or a comma too many (valid to
# its owner), or a file with a byte order mark, is read as {} without an error, as a file that does not exist yet is;
# set() and save() then write the one value over it. One would have sworn that an editor which cannot parse a file
# refuses to save it, as conf 15.1.0 and lowdb 7.0.1 do.
#
# Needs npm and Node 20.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cd "$t"
npm install --silent --no-audit --no-fund edit-json-file@1.8.1 conf@15.1.0 lowdb@7.0.1 > npm.log 2>&1
cat > run.mjs <<'JS'
import fs from 'node:fs'
import editJsonFile from 'edit-json-file'
import Conf from 'conf'
import { JSONFilePreset } from 'lowdb/node'

const ways = {
  'edit-json-file': () => editJsonFile('file.json').set('version', 2).save(),
  conf: () => new Conf({ cwd: '.', configName: 'file' }).set('version', 2),
  lowdb: async () => {
    const db = await JSONFilePreset('file.json', {})
    db.data.version = 2
    await db.write()
  },
}
const plain = '{"name": "x", "version": 1}'
const texts = [plain, '// mine\n' + plain, plain.replace('}', ',}'), '\ufeff' + plain]
for (const text of texts) {
  for (const [name, change] of Object.entries(ways)) {
    fs.writeFileSync('file.json', text)
    let said = 'no error'
    try {
      await change()
    } catch {
      said = 'an error'
    }
    const now = fs.readFileSync('file.json', 'utf8')
    console.log(`${JSON.stringify(text).replace('\ufeff', '\\ufeff')}: ${name}: ${said}, ${now === text ? 'unchanged' : now.replaceAll(/\s/g, '')}`)
  }
}
JS
node run.mjs | tee out
diff - out <<'WANT'
"{\"name\": \"x\", \"version\": 1}": edit-json-file: no error, {"name":"x","version":2}
"{\"name\": \"x\", \"version\": 1}": conf: no error, {"name":"x","version":2}
"{\"name\": \"x\", \"version\": 1}": lowdb: no error, {"name":"x","version":2}
"// mine\n{\"name\": \"x\", \"version\": 1}": edit-json-file: no error, {"version":2}
"// mine\n{\"name\": \"x\", \"version\": 1}": conf: an error, unchanged
"// mine\n{\"name\": \"x\", \"version\": 1}": lowdb: an error, unchanged
"{\"name\": \"x\", \"version\": 1,}": edit-json-file: no error, {"version":2}
"{\"name\": \"x\", \"version\": 1,}": conf: an error, unchanged
"{\"name\": \"x\", \"version\": 1,}": lowdb: an error, unchanged
"\ufeff{\"name\": \"x\", \"version\": 1}": edit-json-file: no error, {"version":2}
"\ufeff{\"name\": \"x\", \"version\": 1}": conf: an error, unchanged
"\ufeff{\"name\": \"x\", \"version\": 1}": lowdb: an error, unchanged
WANT
