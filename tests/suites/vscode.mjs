// node vscode.mjs CASE   one case of the suite vscode, in a fresh code-server and a fresh Chromium. From the environment:
// DIR: the folder that is opened, STORE: its store, or empty where DIR is on a disk, REVFS: the program, HOME: a place
// for settings and profile, TOOLS: where npm has put code-server and playwright-core, LOGS: where screenshots go.
//
// The editor is a session of its own, and so is each command of somebody else, as when two people work: what a
// program knows follows the process tree. Everything is waited for by what it shows; the long limits only end a run
// that hangs.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const { DIR, STORE, REVFS, HOME, TOOLS, LOGS } = process.env
const { chromium } = createRequire(join(TOOLS, 'node_modules/'))('playwright-core')
const LIMIT = 60_000

const settings = {
  // The web's own default is afterDelay.
  'files.autoSave': 'off',
  // What is typed is what the file holds.
  'editor.autoClosingBrackets': 'never',
  'editor.autoClosingQuotes': 'never',
  'editor.autoIndent': 'none',
  'editor.autoSurround': 'never',
  'editor.quickSuggestions': { other: 'off', comments: 'off', strings: 'off' },
  'editor.suggestOnTriggerCharacters': false,
  // A short text is on the screen as a whole.
  'editor.scrollBeyondLastLine': false,
  'explorer.confirmUndo': 'light',
  'extensions.ignoreRecommendations': true,
  'git.openRepositoryInParentFolders': 'never',
  'security.workspace.trust.enabled': false,
  'telemetry.telemetryLevel': 'off',
  'workbench.editor.empty.hint': 'hidden',
  'workbench.startupEditor': 'none',
  'workbench.tips.enabled': false,
}

// ---- What is waited for, and who else works there ----

async function until(what, holds) {
  const end = Date.now() + LIMIT
  let last
  do {
    try {
      if (await holds()) return
      last = undefined
    } catch (error) {
      last = error
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  } while (Date.now() < end)
  throw new Error(`waited in vain: ${what}`, { cause: last })
}

const path = (name) => join(DIR, name)
const read = (name) => readFileSync(path(name), 'utf8')
const list = (name) => (existsSync(path(name)) ? readdirSync(path(name)) : [])
const id = (name) => name.replace(/\.json$/, '')
const texts = (view) => list(view).map((name) => read(join(view, name)))

/** Runs `script` in a shell of another session; `input` is its standard input. */
function somebody(script, input = '') {
  return execFileSync('setsid', ['--wait', 'bash', '-euo', 'pipefail', '-c', script], {
    cwd: DIR, input, encoding: 'utf8', env: { ...process.env, GIT_CONFIG_NOSYSTEM: '1' },
  })
}

const log = (name) =>
  STORE ? execFileSync(REVFS, ['log', '--all', STORE, id(name)], { encoding: 'utf8' }).trimEnd().split('\n') : []

/** All texts the object has had. */
const history = (name) =>
  log(name).map((line) => execFileSync(REVFS, ['show', STORE, id(name), line.split(/\s+/)[0]], { encoding: 'utf8' }))

/** How many revisions; on a disk what is expected. */
const revisions = (name, expected) => (STORE ? log(name).length : expected)

/** The file, and the store's newest revision, hold `text` and nothing else. */
function holds(name, text) {
  assert.equal(read(name), text)
  if (!STORE) return
  const winner = log(name).find((line) => line.split(/\s+/)[3] === 'winner').split(/\s+/)[0]
  assert.equal(readFileSync(join(STORE, id(name), winner), 'utf8'), text, 'the store')
}

function noConflict(name) {
  if (STORE) assert.ok(!list('.conflicts').includes(id(name)), `in conflict: ${texts(`.conflicts/${id(name)}`).join('')}`)
}

/** `text` is one of two that are in conflict, and can be had with `ls` and `cat`. */
function inConflict(name, text) {
  if (!STORE) return
  assert.ok(list('.conflicts').includes(id(name)), 'no conflict is listed')
  assert.ok(texts(`.conflicts/${id(name)}`).includes(text), `not in .conflicts/${id(name)}: ${text}`)
}

// ---- The editor ----

class Window {
  constructor(page) {
    this.page = page
  }

  async open() {
    await this.page.goto(`${server.url}/?folder=${encodeURIComponent(DIR)}`)
    await this.page.locator('.explorer-folders-view').waitFor({ timeout: LIMIT })
    // It does not watch the folder from the start. When a file's coming and going are shown, it does.
    let n = 0
    await until('the folder is watched', async () => {
      const probe = `probe${n++}.txt`
      writeFileSync(path(probe), '')
      await this.row(probe).waitFor({ timeout: 2000 }).finally(() => rmSync(path(probe)))
      await this.row(probe).waitFor({ state: 'detached', timeout: 2000 })
      return true
    })
  }

  row(name) {
    return this.page.locator(`.explorer-folders-view .monaco-list-row[aria-label^="${name}"]`)
  }

  tab(name) {
    return this.page.locator(`.tab[data-resource-name="${name}"]`)
  }

  /** Opens a file for good, not as a preview, and waits for its text. */
  async edit(name, text) {
    await this.row(name).dblclick({ timeout: LIMIT })
    await this.shows(text)
    await this.focus()
  }

  async focus() {
    await until('the editor has the focus', async () => {
      await this.page.keyboard.press('Control+1')
      return this.page.locator('.monaco-editor.focused').count()
    })
  }

  /** The text of the active editor, as it is on the screen: all of a short one. */
  async text() {
    const lines = await this.page
      .locator('.editor-group-container.active .editor-instance .view-lines')
      .first()
      .evaluate((element) =>
        [...element.querySelectorAll('.view-line')]
          .sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top))
          .map((line) => line.textContent.replaceAll('\u00a0', ' ').replaceAll('\u200b', '')),
      )
    return lines.join('\n')
  }

  async shows(text) {
    await until('the editor shows the text', async () => {
      assert.equal(await this.text(), text)
      return true
    })
  }

  /** Replaces the whole text by one typed in. */
  async retype(text) {
    await this.focus()
    await this.page.keyboard.press('Control+a')
    await this.page.keyboard.type(text)
    await this.shows(text)
  }

  /** Types at the end of the first line that has `after`. */
  async insert(after, what) {
    const before = await this.text()
    const at = before.split('\n').findIndex((line) => line.includes(after))
    await this.focus()
    await this.page.keyboard.press('Control+Home')
    for (let n = 0; n < at; n++) await this.page.keyboard.press('ArrowDown')
    await this.page.keyboard.press('End')
    await this.page.keyboard.type(what)
    const lines = before.split('\n')
    lines[at] += what
    await this.shows(lines.join('\n'))
    return lines.join('\n')
  }

  async notices() {
    return this.page.locator('.notifications-toasts .notification-list-item').allTextContents()
  }

  notice(text) {
    return this.page.locator('.notifications-toasts .notification-list-item').filter({ hasText: text })
  }

  async dirty(name) {
    return (await this.tab(name).getAttribute('class')).split(' ').includes('dirty')
  }

  /** Saves, and it works at once: nothing is asked and nothing is said. */
  async save(name) {
    await this.page.keyboard.press('Control+s')
    await this.saved(name)
  }

  async saved(name) {
    await until(`${name} is saved`, async () => {
      assert.deepEqual((await this.notices()).filter((text) => /save|newer/i.test(text)), [])
      return !(await this.dirty(name))
    })
  }

  async button(text, name) {
    await this.notice(text).getByRole('button', { name, exact: true }).click({ timeout: LIMIT })
  }

  async dialog(name) {
    await this.page.locator('.monaco-dialog-box').getByRole('button', { name }).click({ timeout: LIMIT })
  }

  async command(name) {
    await this.page.keyboard.press('F1')
    const input = this.page.locator('.quick-input-widget input[type=text]')
    await input.waitFor({ timeout: LIMIT })
    await input.fill(`>${name}`)
    await this.page.locator('.quick-input-list .monaco-list-row').filter({ hasText: name }).first().click({ timeout: LIMIT })
  }

  async clearNotices() {
    await this.command('Notifications: Clear All Notifications')
    await until('no notifications', async () => (await this.notices()).length === 0)
  }
}

const NEWER = 'The content of the file is newer'
const FAILED = 'Failed to save'

// ---- The cases ----

const object = (n, more = '') => `{\n  "n": ${n},\n  "s": "x"${more}\n}\n`

/** Three saves in a row without a reload, each one revision; then two that do not wait for one another. */
async function save(window, name = 'save.json') {
  writeFileSync(path(name), object(1))
  await window.open()
  await window.edit(name, object(1))
  const before = revisions(name, 1)
  let text
  for (let n = 1; n <= 3; n++) {
    text = await window.insert('"s"', `, "m${n}": ${n}`)
    await window.save(name)
    holds(name, text)
    assert.equal(revisions(name, before + n), before + n, 'revisions')
    noConflict(name)
  }
  for (let n = 4; n <= 8; n++) {
    text = await window.insert('"s"', `, "m${n}": ${n}`)
    await window.page.keyboard.press('Control+s')
  }
  await window.saved(name)
  await until('the last text is there', () => read(name) === text)
  holds(name, text)
  noConflict(name)
}

/** What is no object is refused: the editor says so, each time; the object stays, and the text is kept and told once. */
async function refused(window, name = 'refused.json') {
  writeFileSync(path(name), object(1))
  await window.open()
  await window.edit(name, object(1))
  const bad = object(1).replace('}\n', '')
  await window.retype(bad)
  const kept = []
  const told = []
  if (!STORE) {
    await window.save(name)
    assert.equal(read(name), bad)
  } else {
    const before = revisions(name)
    for (let n = 0; n < 3; n++) {
      await window.page.keyboard.press('Control+s')
      await window.notice(FAILED).waitFor({ timeout: LIMIT })
      assert.ok(await window.dirty(name))
      assert.deepEqual(await window.notice(NEWER).allTextContents(), [])
      assert.equal(read(name), object(1))
      assert.equal(revisions(name), before)
      const drafts = texts(`.drafts/${id(name)}`)
      assert.ok(drafts.includes(bad))
      kept.push(drafts.length)
      told.push(JSON.parse(read('.status')).refusals.filter((line) => line.startsWith(`${id(name)}:`)).length)
      await window.clearNotices()
    }
  }
  for (const n of [2, 3]) {
    await window.retype(object(n))
    await window.save(name)
    holds(name, object(n))
    noConflict(name)
  }
  if (STORE) assert.equal(`drafts ${kept}; refusals ${told}`, 'drafts 1,1,1; refusals 1,1,1')
}

/** Somebody has saved meanwhile. VS Code asks; "Overwrite" is obeyed to the byte, and the other text is a conflict. */
async function overwrite(window, name, change, theirs = '{"n": 3, "theirs": "of another length"}\n', known = false) {
  const mine = object(2, ',\n  "mine": true')
  writeFileSync(path(name), object(1))
  await window.open()
  await window.edit(name, object(1))
  await window.retype(mine)
  change(name, theirs)
  holds(name, theirs)
  await window.page.keyboard.press('Control+s')
  await window.notice(NEWER).waitFor({ timeout: LIMIT })
  holds(name, theirs)
  noConflict(name)
  await window.button(NEWER, 'Overwrite')
  await window.saved(name)
  await window.shows(mine)
  holds(name, mine)
  if (!known) inConflict(name, theirs)
  // The next save is on top of the editor's own.
  const before = log(name).length
  await window.retype(object(4))
  await window.save(name)
  holds(name, object(4))
  assert.equal(revisions(name, before + 1), before + 1)
  if (STORE) for (const text of [object(1), theirs, mine]) assert.ok(history(name).includes(text), `lost: ${text}`)
}

const shell = (name, text) => somebody(`cat >${name}`, text)
const move = (name, text) => somebody(`cat >.${name}.new; mv .${name}.new ${name}`, text)
const put = (name, text) => (STORE ? somebody(`"$REVFS" put "$STORE" ${id(name)} >/dev/null`, text) : shell(name, text))

/** A text of the same length is not newer to VS Code: it is overwritten without a word. */
async function unasked(window, name = 'unasked.json') {
  writeFileSync(path(name), object(1))
  await window.open()
  await window.edit(name, object(1))
  await window.retype(object(2))
  shell(name, object(3))
  await window.save(name)
  holds(name, object(2))
  inConflict(name, object(3))
}

/** The same, but the person looks at the other text and takes it. */
async function revert(window, name = 'revert.json') {
  writeFileSync(path(name), object(1))
  await window.open()
  await window.edit(name, object(1))
  await window.retype(object(2, ',\n  "mine": true'))
  shell(name, object(3, ',\n  "theirs": "of another length"'))
  await window.page.keyboard.press('Control+s')
  await window.notice(NEWER).waitFor({ timeout: LIMIT })
  await window.command('File: Revert File')
  await window.shows(object(3, ',\n  "theirs": "of another length"'))
  await until('not dirty', async () => !(await window.dirty(name)))
  const text = await window.insert('"s"', ' ')
  await window.save(name)
  holds(name, text)
  noConflict(name)
}

/** Changed while nothing is unsaved: the editor follows, and what is typed then is no conflict. */
async function reload(window, name, change) {
  writeFileSync(path(name), object(1))
  await window.open()
  await window.edit(name, object(1))
  for (const n of [2, 3]) {
    change(name, object(n, `,\n  "by": "somebody ${n}"`))
    await window.shows(object(n, `,\n  "by": "somebody ${n}"`))
    const text = await window.insert('"by"', `, "mine": ${n}`)
    await window.save(name)
    holds(name, text)
    noConflict(name)
  }
}

/** A change is discarded with git, outside of the editor, and nearly the same typed again. */
async function checkout(window, name = 'checkout.json') {
  writeFileSync(path(name), object(1))
  somebody(`git init -q && git add ${name} && git -c user.name=n -c user.email=e commit -qm One`)
  await window.open()
  await window.edit(name, object(1))
  for (const n of [2, 3]) {
    const text = await window.insert('"n"', ` "m": ${n},`)
    await window.save(name)
    holds(name, text)
    somebody(`git checkout -q -- ${name}`)
    assert.equal(read(name), object(1))
    await window.shows(object(1))
  }
  const text = await window.insert('"n"', ' "m": 4,')
  await window.save(name)
  holds(name, text)
  noConflict(name)
  assert.equal(somebody(`git status --porcelain -- ${name}`), ` M ${name}\n`)
}

/** The same by the editor's own command: its git is a process below it, and another than the one that saves. */
async function discard(window, name = 'discard.json') {
  writeFileSync(path(name), object(1))
  somebody(`git init -q && git add ${name} && git -c user.name=n -c user.email=e commit -qm One`)
  await window.open()
  await window.edit(name, object(1))
  for (const n of [2, 3]) {
    const text = await window.insert('"n"', ` "m": ${n},`)
    await window.save(name)
    holds(name, text)
    await window.page.locator('.activitybar [aria-label*="1 pending change"]').first().waitFor({ timeout: LIMIT })
    await window.command('Git: Discard All Changes')
    await window.dialog(/^Discard/)
    await window.shows(object(1))
    await until('it is discarded', () => read(name) === object(1))
  }
  const text = await window.insert('"n"', ' "m": 4,')
  await window.save(name)
  holds(name, text)
  noConflict(name)
}

/** Somebody removes the file. What is saved then brings it back, with its history. */
async function removed(window, name = 'removed.json') {
  writeFileSync(path(name), object(1))
  await window.open()
  await window.edit(name, object(1))
  await window.retype(object(2))
  await window.save(name)
  const before = revisions(name, 2)
  await window.retype(object(3))
  somebody(`rm ${name}`)
  await window.row(name).waitFor({ state: 'detached', timeout: LIMIT })
  await window.save(name)
  await window.row(name).waitFor({ timeout: LIMIT })
  await window.shows(object(3))
  holds(name, object(3))
  noConflict(name)
  await window.retype(object(4))
  await window.save(name)
  holds(name, object(4))
  noConflict(name)
  assert.equal(revisions(name, before + 2), before + 2)
}

/** A new file by the command, then a text typed with pauses and auto save on. */
async function auto(window, name = 'auto.json') {
  await window.open()
  await window.command('File: New Untitled Text File')
  await window.tab('Untitled-1').waitFor({ timeout: LIMIT })
  await window.retype('{"b": 1}\n')
  await window.page.keyboard.press('Control+s')
  const input = window.page.locator('.quick-input-widget input[type=text]')
  // It proposes the text's first line, somewhat late.
  await until('a name is proposed', async () => (await input.inputValue()).includes('"b"'))
  await input.fill(path(name))
  await window.page.keyboard.press('Enter')
  await window.tab(name).waitFor({ timeout: LIMIT })
  await window.saved(name)
  holds(name, '{"b": 1}\n')
  let text = await window.insert('{', ' ')
  await until('it saves itself', () => read(name) === text)
  for (const n of [1, 2]) {
    await window.focus()
    await window.page.keyboard.press('Control+a')
    text = ''
    for (const part of ['{"b": 2', ',\n "c": {', '"d": [1', ', 2]', '}, "e"', ': "f"', `, "n": ${n}`, '}\n', '\n']) {
      await window.page.keyboard.type(part, { delay: 20 })
      text += part
      // Once a text was refused, nothing is saved until the person asks for it.
      if (!STORE) await until(`${JSON.stringify(text)} saves itself`, () => read(name) === text)
      else if (text === '{"b": 2') await until('the first part is kept', () => texts(`.drafts/${id(name)}`).includes(text))
    }
    await window.shows(text)
    if (STORE) {
      await window.notice(FAILED).waitFor({ timeout: LIMIT })
      assert.deepEqual(await window.notice(NEWER).allTextContents(), [])
      assert.ok(await window.dirty(name))
      await window.page.keyboard.press('Control+s')
    }
    await window.saved(name)
    holds(name, text)
    noConflict(name)
    text = await window.insert('"b"', ' ')
    await until('it saves itself again', () => read(name) === text)
    holds(name, text)
    noConflict(name)
  }
}
auto.settings = { 'files.autoSave': 'afterDelay', 'files.autoSaveDelay': 100 }

/** Two windows, which is one process: each sees what the other saves, and goes on from it. */
async function windows(window, name = 'windows.json') {
  writeFileSync(path(name), object(1))
  const other = new Window(await browser.newPage())
  for (const each of [window, other]) {
    await each.open()
    await each.edit(name, object(1))
  }
  let text
  for (const n of [1, 2, 3]) {
    for (const [from, to] of [[window, other], [other, window]]) {
      await from.page.bringToFront()
      text = await from.insert('"s"', `, "m${n}${from === window ? 'a' : 'b'}": ${n}`)
      await from.save(name)
      holds(name, text)
      await to.shows(text)
    }
  }
  noConflict(name)
  // Both have changed it: the second is asked, and obeyed. Nothing is lost.
  await window.retype(object(8, ',\n  "w": "first, and longer"'))
  await other.retype(object(9))
  await window.page.bringToFront()
  await window.save(name)
  await other.page.bringToFront()
  await other.page.keyboard.press('Control+s')
  await other.notice(NEWER).waitFor({ timeout: LIMIT })
  await other.button(NEWER, 'Overwrite')
  await other.saved(name)
  holds(name, object(9))
  await window.shows(object(9))
  if (STORE) assert.ok(history(name).includes(object(8, ',\n  "w": "first, and longer"')), 'the first text is lost')
}

/** Renaming and deleting in the explorer; the deletion is undone. */
async function explorer(window, name = 'explorer.json', renamed = 'renamed.json') {
  writeFileSync(path(name), object(1))
  await window.open()
  await window.edit(name, object(1))
  await window.retype(object(2))
  await window.save(name)
  const before = revisions(name, 2)
  await window.row(name).click()
  await window.page.keyboard.press('F2')
  const input = window.page.locator('.explorer-folders-view .monaco-inputbox input')
  await input.fill(renamed)
  await input.press('Enter')
  await window.row(renamed).waitFor({ timeout: LIMIT })
  await window.tab(renamed).waitFor({ timeout: LIMIT })
  assert.ok(!existsSync(path(name)))
  holds(renamed, object(2))
  assert.equal(revisions(renamed, before), before)
  await window.retype(object(3))
  await window.save(renamed)
  holds(renamed, object(3))
  noConflict(renamed)
  await window.row(renamed).click()
  await window.page.keyboard.press('Delete')
  // There is no trash, so it asks, whatever explorer.confirmDelete says.
  await window.dialog('Delete')
  await until('it is deleted', () => !existsSync(path(renamed)))
  await window.row(renamed).waitFor({ state: 'detached', timeout: LIMIT })
  await window.page.keyboard.press('Control+z')
  await until('it is back', () => existsSync(path(renamed)) && read(renamed) === object(3))
  holds(renamed, object(3))
  noConflict(renamed)
}

/** Replaces a word in three files that are not open, and in one that is. */
async function replace(window) {
  const names = [1, 2, 3].map((n) => `replace${n}.json`)
  for (const name of names) writeFileSync(path(name), '{"word": "colour", "also": "colour"}\n')
  await window.open()
  await window.edit(names[0], '{"word": "colour", "also": "colour"}\n')
  const before = names.map((name) => revisions(name, 1))
  await window.page.keyboard.press('Control+Shift+h')
  await window.page.locator('.search-view textarea[aria-label^="Search"]').fill('colour')
  await window.page.locator('.search-view textarea[aria-label^="Replace"]').fill('color')
  await window.page.locator('.search-view .messages').filter({ hasText: '6 results in 3 files' }).waitFor({ timeout: LIMIT })
  await window.page.locator('.search-view textarea[aria-label^="Replace"]').press('Control+Alt+Enter')
  await window.dialog('Replace')
  const text = '{"word": "color", "also": "color"}\n'
  await until('all are replaced', () => names.every((name) => read(name) === text))
  await window.saved(names[0])
  for (const [n, name] of names.entries()) {
    holds(name, text)
    noConflict(name)
    assert.equal(revisions(name, before[n] + 1), before[n] + 1)
  }
}

const cases = {
  save,
  refused,
  'overwrite-shell': (window) => overwrite(window, 'overwrite-shell.json', shell),
  'overwrite-put': (window) => overwrite(window, 'overwrite-put.json', put),
  // A newer text that is just as long as the editor's own it reads before it asks, so it does know what it replaces.
  'overwrite-read': (window) => overwrite(window, 'overwrite-read.json', shell, object(2, ',\n  "them": true'), true),
  unasked,
  revert,
  'reload-shell': (window) => reload(window, 'reload-shell.json', shell),
  'reload-put': (window) => reload(window, 'reload-put.json', put),
  'reload-move': (window) => reload(window, 'reload-move.json', move),
  checkout,
  discard,
  removed,
  auto,
  windows,
  explorer,
  replace,
}

// ---- Start and end ----

/** code-server, in a session of its own, on a port that is free. */
async function start() {
  const data = join(HOME, 'data')
  mkdirSync(join(data, 'User'), { recursive: true })
  writeFileSync(join(data, 'User/settings.json'), JSON.stringify({ ...settings, ...run.settings }))
  const child = spawn(
    'node',
    [
      join(TOOLS, 'node_modules/code-server/out/node/entry.js'),
      '--auth=none', '--bind-addr=127.0.0.1:0', '--disable-telemetry', '--disable-update-check',
      '--disable-workspace-trust', '--disable-getting-started-override',
      `--user-data-dir=${data}`, `--extensions-dir=${join(HOME, 'extensions')}`,
    ],
    {
      detached: true,
      stdio: ['ignore', 'pipe', openSync(`${LOGS}/${process.argv[2]}.server`, 'w')],
      cwd: HOME,
      env: { ...process.env, GIT_CONFIG_NOSYSTEM: '1' },
    },
  )
  let said = ''
  child.stdout.on('data', (chunk) => (said += chunk))
  let url
  await until('code-server listens', () => (url = /listening on (http:\S+?)\/?\s/.exec(said)?.[1]))
  return { child, url }
}

/** Ends code-server and all that it has started; false when nothing is left of them. */
function stop() {
  try {
    return server !== undefined && process.kill(-server.child.pid, 'SIGKILL')
  } catch {
    return false
  }
}

let server, browser
process.on('exit', stop)
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => process.exit(1))

const run = cases[process.argv[2]]
assert.ok(run, `no case; there are ${Object.keys(cases).join(' ')}`)
server = await start()
browser = await chromium.launchPersistentContext(join(HOME, 'profile'), {
  executablePath: '/usr/bin/chromium',
  headless: true,
  viewport: { width: 1400, height: 900 },
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
})
const window = new Window(browser.pages()[0] ?? (await browser.newPage()))
try {
  await run(window)
} catch (error) {
  for (const [n, page] of browser.pages().entries()) {
    await page.screenshot({ path: `${LOGS}/${process.argv[2]}-${n}.png` }).catch(() => {})
    for (const said of await new Window(page).notices().catch(() => [])) console.log(`the editor says: ${said}`)
  }
  const at = [...error.stack.matchAll(/^ +(at .*)file:.*\/(.*\.mjs:\d+)/gm)].map((frame) => frame[1].replace('(', '') + frame[2])
  console.log(`${at.join(' ')}\n${error.message}${error.cause ? `: ${error.cause.message}` : ''}`)
  process.exitCode = 1
} finally {
  await browser.close()
  // None of them may keep the mount busy.
  await until('code-server has ended', () => !stop())
}
process.exit()
