// The original library as a peer: `node original.js NODE_MODULES STORE`. Each line on standard input asks for one round,
// `get COUNT`, `update COUNT`, `safe-update COUNT` or `all`; the answer is the nanoseconds it took and how many objects
// that were.
// With a command as further arguments it does that once, on one object, as a program of its own would.
const fs = require('fs/promises');
const [, , modules, dir, command, ...ids] = process.argv;
const library = require(modules + '/multiprocess-store');
const name = i => 'object-' + String(i).padStart(7, '0');
const known = new Map();

const rounds = {
  async get(store, count) {
    for (let i = 0; i < count; i++) await store.getObject(name(i));
    return count;
  },
  async update(store, count) {
    for (let i = 0; i < count; i++) await store.updateObject(known.get(i));
    return count;
  },
  // What is acknowledged is on the disk, as far as node can have it there.
  async 'safe-update'(store, count) {
    for (let i = 0; i < count; i++) {
      await store.updateObject(known.get(i));
      const file = await fs.open(`${dir}/${name(i)}/${known.get(i)._rev}`, 'r+');
      await file.datasync();
      await file.close();
    }
    return count;
  },
  async all(store) {
    return (await store.getAllObjects()).length;
  },
};

async function prepare(store, word, count) {
  if (!word.endsWith('update')) return;
  for (let i = 0; i < count; i++) {
    if (!known.has(i)) known.set(i, await store.getObject(name(i)));
    known.get(i).version++;
  }
}

async function main() {
  const store = await library.createStore(dir);
  if (command === 'get') return console.log(JSON.stringify(await store.getObject(ids[0])));
  if (command === 'all') return console.log(JSON.stringify(await store.getAllObjects()));
  if (command === 'update') {
    const object = await store.getObject(ids[0]);
    object.version = Date.now();
    return store.updateObject(object);
  }
  for await (const line of require('readline').createInterface({input: process.stdin})) {
    const [word, count] = line.split(' ');
    await prepare(store, word, +count);
    const start = process.hrtime.bigint();
    const done = await rounds[word](store, +count);
    console.log(`${process.hrtime.bigint() - start} ${done}`);
  }
}

main().catch(e => {
  console.error(e);
  process.exit(1);
});
