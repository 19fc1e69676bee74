# A shell that does as it is told: worker.sh CALLS ANSWERS, two fifos. A call is one line of script, an answer its status.
serve() {
  echo "$BASHPID"
  while IFS= read -r call; do
    eval "$call" < /dev/null > /dev/null 2>> "$LOG"
    echo $?
  done
}

# A loop in the background of this shell.
spawn() { (exec < "$1" > "$2" && serve) & }

# A program in the background.
spawn_python() { "$PYTHON" -S "$WORKER" "$@" & }

exec < "$1" > "$2" && serve
