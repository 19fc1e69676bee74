# The mount as git's work tree. Two repositories, this checkout and the 500 JSON objects of an npm package, each with
# .git outside of the mount and in it: commits, branches, merges, stashes, gc, fsck; after each step the work tree is
# clean, and each change of an object's text was one revision. GIT_COMMITS: commits each (12; --long 50).
need git:git npm:npm python3:python3 jq:jq mountpoint:util-linux
begin
: "${GIT_COMMITS:=$([ -n "$long" ] && echo 50 || echo 12)}"
export GIT_CONFIG_NOSYSTEM=1 HOME=$work GIT_PAGER=cat
git config --global user.name suites
git config --global user.email suites@localhost
git config --global init.defaultBranch main
git config --global gc.auto 0
git config --global safe.directory '*'

# A repository that has nothing but objects, a tenth of them with a history.
features() {
  mkdir "$1" "$1/files"
  cd "$1"
  npm pack --silent caniuse-db@1.0.30001700 >/dev/null
  tar -xf caniuse-db-*.tgz
  cp package/features-json/*.json files/
  rm -r package caniuse-db-*.tgz
  mv files/* .
  rmdir files
  git init -q
  git add -A
  git commit -qm 'All'
}

# work REPOSITORY COMMITS STORE WORKTREE GITDIR   GITDIR is "inside", or a directory to be made.
work() {
  local repo=$1 commits=$2 store=$3 mnt=$4 gitdir=$5
  if [ "$gitdir" = inside ]; then
    git clone -q --no-hardlinks "$repo" "$mnt"
    [ -d "$mnt/.git" ]
  else
    git clone -q --no-hardlinks --separate-git-dir "$gitdir" "$repo" "$mnt"
    [ -f "$mnt/.git" ]
  fi
  cd "$mnt"
  git checkout -q -B main
  local objects made
  revisions() { find "$store" -mindepth 2 -maxdepth 2 -not -path '*/.revfs/*' | wc -l; }
  clean() {
    local said
    said=$(git status --porcelain)
    [ -z "$said" ] || { echo "after $1: $said"; exit 1; }
    git diff --quiet HEAD || { echo "after $1: the work tree differs"; exit 1; }
  }
  # What the step before has cost: one revision for each object whose text changed or came.
  cost() {
    local now=$(revisions) changed
    changed=$(git diff --no-renames --name-only --diff-filter=AM "$2" "$3" | grep -cE '^[^/.][^/]*\.json$' || true)
    [ $((now - made)) = "$changed" ] || { echo "$1 made $((now - made)) revisions of $changed objects"; exit 1; }
    made=$now
  }
  clean clone
  # This checkout may have no objects of its own.
  for n in 1 2 3 4 5 6; do [ -e "o$n.json" ] || printf '{\n  "n": %d,\n  "at": 0,\n  "tail": true\n}\n' "$n" >"o$n.json"; done
  git add -A
  git commit -qm Objects --allow-empty
  clean objects
  mapfile -t objects < <(git ls-files -- ':(glob)*.json')
  made=$(revisions)
  [ "$made" -ge "${#objects[@]}" ] && [ "$(find "$store" -mindepth 1 -maxdepth 1 -not -name .revfs | wc -l)" = "${#objects[@]}" ]

  for n in $(seq "$commits"); do
    # Three objects by three ways of saving.
    local a=${objects[n * 7 % ${#objects[@]}]} b=${objects[(n * 7 + 1) % ${#objects[@]}]} c=${objects[(n * 7 + 2) % ${#objects[@]}]}
    sed -i "\$s/\$/ /" "$a"
    jq -c ".at_commit = $n" "$b" >"$b.new" && mv "$b.new" "$b"
    python3 -c 'import json, sys
text = json.load(open(sys.argv[1])); text["from_python"] = sys.argv[2]
with open(sys.argv[1], "w") as f: json.dump(text, f, indent=1)' "$c" "$n"
    echo "$n" >>notes.txt
    git add -A
    git commit -qm "Commit $n"
    clean "commit $n"
    cost "commit $n" HEAD~1 HEAD
    echo "$n: ${#objects[@]} objects, $made revisions, $(git rev-parse --short HEAD)"
    case $((n % 6)) in
      1)
        git checkout -q -b "side$n" HEAD~1
        cost "checkout -b" "main" HEAD
        for object in "${objects[@]:0:20}"; do jq ". + {side: $n}" "$object" >tmp && mv tmp "$object"; done
        git commit -qam "Side $n"
        clean "side $n"
        cost "side $n" HEAD~1 HEAD
        git checkout -q main
        clean "switch back"
        cost "switch back" "side$n" main
        git merge -q -X theirs --no-edit "side$n" >/dev/null
        clean "merge $n"
        cost "merge $n" HEAD~1 HEAD
        ;;
      2)
        echo '{"stashed": true}' >"$a"
        sed -i 's/^/ /' "$b"
        git stash -q
        clean stash
        git stash pop -q
        [ "$(cat "$a")" = '{"stashed": true}' ]
        git checkout -q -- .
        clean "checkout -- ."
        made=$(revisions)
        ;;
      3)
        git rm -q "$a"
        git mv "$b" "moved$n.json"
        git commit -qm "Away $n"
        clean "rm and mv"
        [ ! -e "$a" ] && [ ! -e "$b" ]
        git revert --no-edit HEAD >/dev/null
        clean revert
        made=$(revisions)
        ;;
      4)
        git gc -q --prune=now
        git fsck --full --strict
        clean gc
        ;;
      5)
        git reset -q --hard HEAD~2
        clean "reset --hard"
        git merge -q --ff-only "ORIG_HEAD"
        clean "fast-forward"
        git worktree add -q "$mnt/tree$n" HEAD~1
        [ -z "$(git -C "$mnt/tree$n" status --porcelain)" ]
        git worktree remove "$mnt/tree$n"
        git rebase -q --exec true HEAD~3
        clean rebase
        made=$(revisions)
        ;;
    esac
  done
  git gc -q --prune=now
  git fsck --full --strict
  clean end
  # What is on the mount, in the store and in the repository is the same.
  git clone -q "$(git rev-parse --git-dir)" "$HOME/copy"
  diff -r --exclude=.git . "$HOME/copy"
  rm -rf "$HOME/copy"
  cd /
  find "$mnt" -mindepth 1 -delete
}

must 120 features features "$work/features"
git clone -q --no-hardlinks "$root" "$work/checkout" 2>"$logs/checkout" || fail "this is no checkout: $(cat "$logs/checkout")"
for repo in features checkout; do
  [ -d "$work/$repo/.git" ] || continue
  try 900 "$repo-outside" work "$work/$repo" "$GIT_COMMITS" "$store" "$mnt" "$work/$repo.git"
  try 900 "$repo-inside" work "$work/$repo" "$GIT_COMMITS" "$store" "$mnt" inside
done
