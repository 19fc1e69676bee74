# VS Code: code-server in Chromium, driven by vscode.mjs, each case in an editor of its own with the mount as its folder.
# --long: also on the disk, where all must hold that is not said of the views. VSCODE_CASES: only those.
need chromium:chromium node:nodejs npm:npm rg:ripgrep git:git setsid:util-linux
export TOOLS=$target/vscode REVFS=$place/revfs LOGS=$logs
case $(node --version) in v20.*) ;; *) skip "vscode: code-server wants node 20"; return ;; esac

# code-server's own installer compiles programs for a terminal, a log file and the password that are not used here, and
# takes ripgrep from where only a browser can go.
vscode() {
  local code=$TOOLS/node_modules/code-server/lib/vscode
  [ ! -e "$TOOLS/ready" ] || return 0
  rm -rf "$TOOLS"
  mkdir -p "$TOOLS"
  npm install --ignore-scripts --no-audit --no-fund --prefix "$TOOLS" code-server@4.100.3 playwright-core@1.65.1
  npm install --ignore-scripts --no-audit --no-fund --omit=dev --prefix "$code"
  echo 'module.exports = {}' >"$TOOLS/node_modules/argon2/argon2.js"
  ln -s node_modules "$code/node_modules.asar"
  mkdir -p "$code/node_modules/@vscode/ripgrep/bin"
  ln -s "$(command -v rg)" "$code/node_modules/@vscode/ripgrep/bin/rg"
  touch "$TOOLS/ready"
}

# edits DIRECTORY STORE CASE
edits() {
  local home
  home=$(mktemp -d "$work/vscode.XXXXXX")
  find "$1" -mindepth 1 -delete
  DIR=$1 STORE=$2 HOME=$home node "$root/tests/suites/vscode.mjs" "$3"
  rm -rf "$home"
}

must 900 install vscode || return
export root TOOLS work
begin
for case in ${VSCODE_CASES:-save refused overwrite-shell overwrite-put overwrite-read unasked revert reload-shell \
  reload-put reload-move checkout discard removed auto windows explorer replace}; do
  [ -z "$long" ] || try 300 "disk-$case" edits "$plain" '' "$case"
  try 300 "$case" edits "$mnt" "$store" "$case"
done
