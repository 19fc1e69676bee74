// A watcher for clients.py: clients.mjs TOOLS KIND DIR [PORT CACHE]. Prints a line for each event: what, and the file's name.
import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [tools, kind, dir, port, cache] = process.argv.slice(2);
const require = createRequire(`${tools}/`);
const say = (what, file) => console.log(what, path.basename(file));

if (kind === 'vite') {
  const { createServer } = await import(pathToFileURL(`${tools}/node_modules/vite/dist/node/index.js`));
  const server = await createServer({
    root: dir, cacheDir: cache, configFile: false, logLevel: 'error', appType: 'custom', optimizeDeps: { noDiscovery: true },
    server: { host: '127.0.0.1', port: Number(port), strictPort: true },
  });
  server.watcher.on('all', say);
  await server.listen();
} else if (kind === 'fs_watch_file') {
  fs.watch(`${dir}/a.json`, (what) => say(what, 'a.json'));
} else {
  const [name, one] = kind.split('_');
  require(`${tools}/node_modules/${name}`).watch(one ? `${dir}/a.json` : dir, { ignoreInitial: true }).on('all', say);
}
