//! Editors, on a terminal where they need one, and the save of those that are too large to be here.

use super::{row, session, table};

#[test]
fn editors() {
    table(&[
        row("ed", "printf '%s\\n' s/$O/$V/ w q | ed -s x.json"),
        session("ed, thrice", "printf '%s\\n' s/1/2/ w s/2/3/ w s/3/4/ w w q | ed -s x.json"),
        row("ex", "ex -u NONE -i NONE -s -c s/$O/$V/ -c wq x.json"),
        row("vim -es", "vim -u NONE -i NONE -es -c s/$O/$V/ -c wq x.json"),
        row("vim on a terminal", VIM).once(),
        session("vim on a terminal, thrice", VIM_THRICE),
        row(
            "vim, two files at once",
            "test -e y.json || echo '{\"v\":1}' > y.json; \
             vim -u NONE -i NONE -es -c \"argdo s/$O/$V/ | w\" -c qa x.json y.json",
        ),
        session(
            "vim, two windows, thrice",
            "echo '{\"v\":1}' > y.json; \
             vim -u NONE -i NONE -es -O x.json y.json -c 'for v in [2,3,4,4] | exe \"windo s/\\\\d/\".v.\"/\" | wall | endfor' -c qa",
        ),
        row("nvim", "nvim -u NONE -i NONE -es -c s/$O/$V/ -c wq x.json").once(),
        session(
            "nvim, thrice",
            "nvim -u NONE -i NONE -es -c 'for v in [2,3,4,4] | exe \"s/\\\\d/\".v.\"/\" | w | endfor' -c qa x.json",
        ),
        row("nvim, backupcopy=yes, backup, undofile", NVIM_BACKUP).names_only(),
        row(
            "nano",
            "keys nano -I x.json -- '\"v\"' $'\\x0b{\"v\":'$V$'}\\x0f' 'Write' $'\\r' 'Wrote' $'\\x18'",
        ),
        row(
            "nano -B",
            "keys nano -I -B x.json -- '\"v\"' $'\\x0b{\"v\":'$V$'}\\x0f' 'Write' $'\\r' 'Wrote' $'\\x18'",
        ),
        row(
            "nano -G",
            "keys nano -I -G x.json -- '\"v\"' $'\\x0b{\"v\":'$V$'}\\x0f' 'Write' $'\\r' 'Wrote' $'\\x18'",
        ),
        session("nano, thrice", NANO_THRICE),
        session("nano -B -G, thrice", NANO_B_THRICE),
        row("emacs", EMACS).once(),
        session("emacs, thrice", EMACS_THRICE),
        session("emacs, backup-by-copying", EMACS_COPYING),
        session("emacs, file-precious-flag", EMACS_PRECIOUS),
        session("emacs, no backups, no locks", EMACS_BARE),
        session("emacs, auto-save", EMACS_AUTO),
        session("emacs, numbered backups", EMACS_NUMBERED),
        session("emacs -nw", EMACS_NW),
        row(
            "busybox vi",
            "keys busybox vi x.json -- '\"v\"' \"cc{\\\"v\\\":$V}\"$'\\x1b' Modified $':wq\\r'",
        ),
        row("joe", "keys joe -nobackups x.json -- 'Ctrl-K H' $'\\x0bu\\x19{\"v\":'$V$'}\\r\\x0bx'"),
        row("joe with a backup", "keys joe x.json -- 'Ctrl-K H' $'\\x0bu\\x19{\"v\":'$V$'}\\r\\x0bx'"),
        row("kakoune", "keys kak -n x.json -- '\"v\"' \"xc{\\\"v\\\":$V}\"$'\\r\\x1b' 'sel' $':wq\\r'"),
        row("mg", "keys mg x.json -- '\"v\"' $'\\x0b{\"v\":'$V$'}\\x18\\x13' Wrote $'\\x18\\x03'"),
        row("nvi", "nex -s x.json <<< \"s/$O/$V/|wq\""),
        row(
            "mcedit",
            "rm -rf ~/.local; keys mcedit x.json -- '\"v\"' $'\\x1b[3~\\x1b[3~\\x1b[3~\\x1b[3~\\x1b[3~\\x1b[3~{\"v\":'$V$'\\x1bOQ' Confirm $'\\r' '' $'\\x1b[21~'",
        ),
        row("ne", "keys ne x.json -- '\"v\"' $'\\x19{\"v\":'$V$'}\\r\\x13' Saved $'\\x11'"),
        row("micro", "keys micro x.json -- '\"v\"' $'\\x0b{\"v\":'$V$'}\\r\\x13' 'Saved' $'\\x11'"),
    ]);
}

const VIM: &str = "keys vim -u NONE -i NONE x.json -- '\"v\"' \"cc{\\\"v\\\":$V}\"$'\\x1b:wq\\r'";
const VIM_THRICE: &str = "keys vim -u NONE -i NONE x.json -- '\"v\"' $'cc{\"v\":2}\\x1b:w\\r' written $'cc{\"v\":3}\\x1b:w\\r' \
     written $'cc{\"v\":4}\\x1b:w\\r' written $':w\\r' written $':q\\r'";
const NVIM_BACKUP: &str = "nvim -u NONE -i NONE -es -c 'set backupcopy=yes backup undofile backupdir=. undodir=. directory=.' \
     -c 'e x.json' -c s/$O/$V/ -c wq";

const NANO_THRICE: &str = "keys nano -I x.json -- '\"v\"' $'\\x0b{\"v\":2}\\x0f' Write $'\\r' Wrote $'\\x01\\x0b{\"v\":3}\\x0f' Write \
     $'\\r' Wrote $'\\x01\\x0b{\"v\":4}\\x0f' Write $'\\r' Wrote $'\\x0f' Write $'\\r' Wrote $'\\x18'";
const NANO_B_THRICE: &str = "keys nano -I -B -G x.json -- '\"v\"' $'\\x0b{\"v\":2}\\x0f' Write $'\\r' Wrote $'\\x01\\x0b{\"v\":3}\\x0f' \
     Write $'\\r' Wrote $'\\x01\\x0b{\"v\":4}\\x0f' Write $'\\r' Wrote $'\\x0f' Write $'\\r' Wrote $'\\x18'";

macro_rules! emacs {
    ($set:literal, $body:literal) => {
        concat!(
            "cat > $E/edit.el <<'E'\n(setq create-lockfiles t)\n(set-default 'auto-save-visited-mode nil)\n",
            $set,
            "\n(find-file \"x.json\")\n(defun put (v) (goto-char (point-min)) (re-search-forward \"[0-9]+\") ",
            "(replace-match v) (do-auto-save t) (save-buffer))\n",
            $body,
            "\n(kill-buffer)\nE\nemacs -Q --batch -l $E/edit.el 2>/dev/null"
        )
    };
}
const EMACS: &str = emacs!("", "(put (getenv \"V\"))");
const EMACS_THRICE: &str = emacs!("", "(put \"2\") (put \"3\") (put \"4\") (put \"4\")");
const EMACS_COPYING: &str =
    emacs!("(setq backup-by-copying t)", "(put \"2\") (put \"3\") (put \"4\") (put \"4\")");
const EMACS_PRECIOUS: &str =
    emacs!("(setq file-precious-flag t)", "(put \"2\") (put \"3\") (put \"4\") (put \"4\")");
const EMACS_BARE: &str = emacs!(
    "(setq make-backup-files nil create-lockfiles nil)",
    "(put \"2\") (put \"3\") (put \"4\") (put \"4\")"
);
const EMACS_AUTO: &str = emacs!(
    "(setq auto-save-default t delete-auto-save-files t)",
    "(auto-save-mode 1) (put \"2\") (put \"3\") (auto-save-mode 1) (insert \" \") (do-auto-save) (put \"4\") (put \"4\")"
);
const EMACS_NUMBERED: &str = emacs!(
    "(setq version-control t)",
    "(put \"2\") (setq buffer-backed-up nil) (put \"3\") (put \"4\") (put \"4\")"
);
const EMACS_NW: &str = "keys emacs -Q -nw x.json -- '\"v\"' $'\\x0b{\"v\":2}\\x18\\x13' Wrote $'\\x01\\x0b{\"v\":3}\\x18\\x13' Wrote \
     $'\\x01\\x0b{\"v\":4}\\x18\\x13' Wrote $' \\x7f\\x18\\x13' Wrote $'\\x18\\x03'";

#[test]
fn saves_of_editors_that_are_not_here() {
    table(&[
        row("VS Code", VS_CODE),
        session("VS Code, thrice", VS_CODE_THRICE),
        row("VS Code, files.saveAtomic", VS_CODE_ATOMIC),
        row("JetBrains, tmp and old", JETBRAINS),
        row("JetBrains, copy and overwrite", JETBRAINS_COPY),
        row("JetBrains, bak", JETBRAINS_BAK),
        row("gio save", "json | gio save x.json"),
        row("gio save --backup", "json | gio save -b x.json"),
        row("gio save --unlink", "json | gio save -u x.json"),
        row("gio save --private", "json | gio save -p x.json"),
        row(
            "gio save with the right etag, then a wrong one",
            "e=$(stat -c %Y x.json):; json | gio save x.json; ! gio save -e 1:1 x.json </dev/null 2>/dev/null",
        ),
        row(
            "GLib's g_file_set_contents",
            "json > .x.json.A1B2C3; sync .x.json.A1B2C3; mv .x.json.A1B2C3 x.json",
        ),
        row(
            "Qt's QSaveFile (Kate)",
            "touch .x.json.kate-swp; json > x.json.QsAvEf; chmod 644 x.json.QsAvEf; \
             sync x.json.QsAvEf; mv x.json.QsAvEf x.json; rm .x.json.kate-swp",
        ),
        row(
            "Sublime Text, atomic_save",
            "json > .subl1a2.tmp; chmod 644 .subl1a2.tmp; mv .subl1a2.tmp x.json",
        ),
        row(
            "Helix",
            "mv x.json x.jsonQx81.bck; json > x.json; sync x.json; chmod 644 x.json; rm x.jsonQx81.bck",
        ),
        row(
            "LibreOffice",
            "echo ,t,h > .~lock.x.json#; cp -p x.json lu1.tmp; json > lu2.tmp; cat lu2.tmp > x.json; \
             rm lu1.tmp lu2.tmp .~lock.x.json#",
        ),
        row(
            "Kakoune",
            "json > .x.json.kak.Ab12Cd; chmod 644 .x.json.kak.Ab12Cd; mv .x.json.kak.Ab12Cd x.json",
        ),
        row(
            "Eclipse, Notepad, Gedit of old",
            "mv x.json x.json~; cp -p x.json~ x.json; json > x.json; rm x.json~",
        ),
    ]);
}

/// `stat`, open with truncation, write, fdatasync, close, `stat`.
const VS_CODE: &str = "cat > $E/s.js <<'E'
const fs = require('fs').promises;
(async () => {
  await fs.stat('x.json');
  const h = await fs.open('x.json', 'w');
  await h.write(Buffer.from(`{\"v\":${process.env.V}}\n`), 0);
  await h.datasync();
  const open = await h.stat();
  await h.close();
  const s = await fs.stat('x.json');
  if (s.mtimeMs != open.mtimeMs || s.ino != open.ino || s.size != open.size) throw new Error('another file after close');
})();
E
node $E/s.js";

/// What it saw at its last save must be what it sees before the next, or it asks whether to overwrite.
const VS_CODE_THRICE: &str = "cat > $E/s.js <<'E'
const fs = require('fs').promises;
(async () => {
  let last = await fs.stat('x.json');
  for (const v of [2, 3, 4, 4]) {
    const now = await fs.stat('x.json');
    if (now.mtimeMs != last.mtimeMs || now.size != last.size) throw new Error('it seems newer');
    const h = await fs.open('x.json', 'w');
    const text = `{\"v\":${v}}\n`;
    for (const part of [text.slice(0, 3), text.slice(3)]) await h.write(part);
    await h.datasync();
    await h.close();
    last = await fs.stat('x.json');
    await new Promise(done => setTimeout(done, 30));
  }
})();
E
node $E/s.js";
const VS_CODE_ATOMIC: &str = "cat > $E/s.js <<'E'
const fs = require('fs').promises;
(async () => {
  const h = await fs.open('x.json.vsctmp', 'w');
  await h.write(`{\"v\":${process.env.V}}\n`);
  await h.datasync();
  await h.close();
  await fs.rename('x.json.vsctmp', 'x.json');
  await fs.stat('x.json');
})();
E
node $E/s.js";
const JETBRAINS: &str = "json > x.json___jb_tmp___; mv x.json x.json___jb_old___; mv x.json___jb_tmp___ x.json; rm x.json___jb_old___";
const JETBRAINS_COPY: &str = "cp -p x.json x.json~; json > x.json; rm x.json~";
const JETBRAINS_BAK: &str = "json > x.json___jb_bak___; rm x.json; mv x.json___jb_bak___ x.json";
