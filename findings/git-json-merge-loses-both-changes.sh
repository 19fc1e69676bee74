#!/bin/bash
# git-json-merge 1.0.0: a merge of two changes to different objects of one array can keep neither, and says that it succeeded.
#
# The npm package is a merge driver for git that knows JSON. Ours changes the first object of an array, theirs the
# second: git merge is clean, and the file has the first object as theirs had it and the second as ours had it, thus
# both as they were before either change. If theirs adds or removes an element somewhere, our change of another one is
# dropped. Changes to different members of an object and added elements are merged well. One would have sworn that what
# is no conflict is never lost, that a merge driver which gives up says so, and that at least one of two sides wins.
#
# Needs npm and git.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cd "$t"
export HOME=$t GIT_CONFIG_NOSYSTEM=1
npm install --silent --no-audit --no-fund --prefix npm git-json-merge@1.0.0 xdiff@0.2.11 > npm.log 2>&1
git config --global user.name someone
git config --global user.email someone@example.com
git config --global merge.json.driver "node $t/npm/node_modules/git-json-merge/bin/git-json-merge %A %O %B"
merge() {
  rm -rf repository
  git init -q -b ours repository
  (
    cd repository
    echo "*.json merge=json" > .gitattributes
    commit() {
      echo "$1" > file.json
      git add .
      git commit -q -m "$1"
    }
    commit "$1"
    git branch theirs
    commit "$2"
    git checkout -q theirs
    commit "$3"
    git checkout -q ours
    status=0
    git merge -q theirs > ../merge.log 2>&1 || status=$?
    echo "$1 ours $2 theirs $3: merge returns $status: $(tr -d " \n" < file.json)"
  )
}
{
  merge '{"a":1,"b":1}' '{"a":2,"b":1}' '{"a":1,"b":2}'
  merge '[1,2,3]' '[1,2,3,4]' '[0,1,2,3]'
  merge '[{"id":1,"v":1},{"id":2,"v":1}]' '[{"id":1,"v":2},{"id":2,"v":1}]' '[{"id":1,"v":1},{"id":2,"v":2}]'
  merge '[{"id":1,"v":1},{"id":2,"v":1}]' '[{"id":1,"v":2},{"id":2,"v":1}]' '[{"id":3,"v":1},{"id":1,"v":1},{"id":2,"v":1}]'
  merge '[{"id":1,"v":1},{"id":2,"v":1}]' '[{"id":1,"v":1},{"id":2,"v":2}]' '[{"id":2,"v":1}]'
} | tee out
diff - out <<'WANT'
{"a":1,"b":1} ours {"a":2,"b":1} theirs {"a":1,"b":2}: merge returns 0: {"a":2,"b":2}
[1,2,3] ours [1,2,3,4] theirs [0,1,2,3]: merge returns 0: [0,1,2,3,4]
[{"id":1,"v":1},{"id":2,"v":1}] ours [{"id":1,"v":2},{"id":2,"v":1}] theirs [{"id":1,"v":1},{"id":2,"v":2}]: merge returns 0: [{"id":1,"v":1},{"id":2,"v":1}]
[{"id":1,"v":1},{"id":2,"v":1}] ours [{"id":1,"v":2},{"id":2,"v":1}] theirs [{"id":3,"v":1},{"id":1,"v":1},{"id":2,"v":1}]: merge returns 0: [{"id":3,"v":1},{"id":1,"v":1},{"id":2,"v":1}]
[{"id":1,"v":1},{"id":2,"v":1}] ours [{"id":1,"v":1},{"id":2,"v":2}] theirs [{"id":2,"v":1}]: merge returns 0: [{"id":2,"v":1}]
WANT
