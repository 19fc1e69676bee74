#!/bin/bash
# write-file-atomic 7.0.1, atomically 2.1.1, write-json-file 7.0.0, conf 15.1.0: a link is written through if its target exists, and replaced if not.
#
# These npm packages write beside the file and rename, and follow a symbolic link first, so that the link stays and its
# target is new. If the target is not there yet (a settings file that a dotfile manager has linked and no program has
# saved so far, or a volume that is mounted later), the link is replaced by a plain file, without an error, and all
# later saves stay out of the place that the link was made for. fs.writeFile makes the target in both cases, as the
# shell does. One would have sworn that a writer which keeps links keeps each of them.
#
# Needs npm and Node 20.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cd "$t"
npm install --silent --no-audit --no-fund write-file-atomic@7.0.1 atomically@2.1.1 write-json-file@7.0.0 conf@15.1.0 > npm.log 2>&1
cat > run.mjs <<'JS'
import fs from 'node:fs'
import * as atomically from 'atomically'
import Conf from 'conf'
import writeFileAtomic from 'write-file-atomic'
import { writeJsonFile } from 'write-json-file'

const ways = {
  'fs.writeFile': path => fs.promises.writeFile(path, '{"a": 1}'),
  'write-file-atomic': path => writeFileAtomic(path, '{"a": 1}'),
  atomically: path => atomically.writeFile(path, '{"a": 1}'),
  'write-json-file': path => writeJsonFile(path, { a: 1 }),
  conf: path => new Conf({ cwd: '.', configName: path.slice(0, -'.json'.length) }).set('a', 1),
}
fs.mkdirSync('real')
for (const [name, write] of Object.entries(ways)) {
  for (const target of ['there', 'missing']) {
    const file = `${name}.${target}.json`
    if (target === 'there') fs.writeFileSync(`real/${file}`, '{}')
    fs.symlinkSync(`real/${file}`, file)
    await write(file)
    const link = fs.lstatSync(file).isSymbolicLink() ? 'still a link' : 'a plain file'
    const real = fs.existsSync(`real/${file}`) ? fs.readFileSync(`real/${file}`, 'utf8').replaceAll(/\s/g, '') : 'missing'
    console.log(`${name}: target ${target}: ${link}, target ${real}`)
  }
}
JS
node run.mjs | tee out
diff - out <<'WANT'
fs.writeFile: target there: still a link, target {"a":1}
fs.writeFile: target missing: still a link, target {"a":1}
write-file-atomic: target there: still a link, target {"a":1}
write-file-atomic: target missing: a plain file, target missing
atomically: target there: still a link, target {"a":1}
atomically: target missing: a plain file, target missing
write-json-file: target there: still a link, target {"a":1}
write-json-file: target missing: a plain file, target missing
conf: target there: still a link, target {"a":1}
conf: target missing: a plain file, target missing
WANT
