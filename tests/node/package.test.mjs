// The package as its user gets it: packed, and installed into an empty project; and under `node --watch`.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { file, thrown } from './helpers.mjs';

const run = promisify(execFile);
const PACKED = fileURLToPath(new URL('../../dist/npm/', import.meta.url));

/** What `make node-packed` has packed: the package, and the one with this platform's addon. */
function packed() {
  const archives = readdirSync(PACKED).map((name) => join(PACKED, name));
  const own = archives.filter((path) => /taskloom-\d[^/\\]*\.tgz$/.test(path) && !path.includes('native'));
  const natives = archives.filter((path) => path.includes('native'));
  assert.deepEqual([own.length, natives.length], [1, 1], `${archives}`);
  return [own[0], natives[0]];
}

/** An empty project with these installed, as `npm install` does it without a network. */
async function project(t, archives, options = []) {
  const folder = mkdtempSync(join(tmpdir(), 'taskloom-project-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "name": "empty", "private": true }');
  const shell = process.platform === 'win32';
  // A cache of its own: what it has is none of ours.
  const quiet = ['--offline', '--no-audit', '--no-fund', '--loglevel=error', `--cache=${join(folder, 'cache')}`];
  await run(shell ? 'npm.cmd' : 'npm', ['install', ...quiet, ...options, ...archives], { cwd: folder, shell });
  return folder;
}

/** Runs a file in a project. */
async function start(folder, name, source) {
  writeFileSync(join(folder, name), source);
  return await run(process.execPath, [name], { cwd: folder, timeout: 60_000 });
}

test("an empty project installs it, and the README's example runs as both kinds of module", async (t) => {
  const folder = await project(t, packed());
  const readme = readFileSync(join(folder, 'node_modules', 'taskloom', 'README.md'), 'utf8');
  const [, example] = /^```js\n(.*?)^```/ms.exec(readme);
  const [line, imported] = /^import (\{ .* \}) from 'taskloom';\n/m.exec(example);
  assert.equal((await start(folder, 'example.mjs', example)).stdout, 'hello, world\n');
  const common = `const ${imported} = require('taskloom');\n(async () => {\n${example.replace(line, '')}})();`;
  assert.equal((await start(folder, 'example.cjs', common)).stdout, 'hello, world\n');
  const both = `
    import * as esm from 'taskloom';
    import { createRequire } from 'node:module';
    const cjs = createRequire(import.meta.url)('taskloom');
    const names = Object.keys(cjs).filter((name) => name !== 'default');
    console.log(names.length > 0, names.filter((name) => esm[name] !== cjs[name]).join());
  `;
  assert.equal((await start(folder, 'both.mjs', both)).stdout, 'true \n');
  const inThread = `
    import { App } from 'taskloom';
    const app = new App({ threads: 1 });
    const task = app.task('task', { thread: true, module: new URL('./handler.mjs', import.meta.url) });
    await app.start();
    console.log(await (await task.submit(20)).result());
  `;
  writeFileSync(join(folder, 'handler.mjs'), 'export default (n) => n + 1;');
  assert.equal((await start(folder, 'thread.mjs', inThread)).stdout, '21\n');
});

test('without the addon of the platform it says what to install', async (t) => {
  const [own, native] = packed();
  const folder = await project(t, [own], ['--omit=optional']);
  const error = await thrown(() => start(folder, 'example.cjs', "const { App } = require('taskloom'); new App();"));
  const { name } = JSON.parse(await packageOf(native));
  assert.match(error.stderr, /the native half of taskloom cannot be loaded on/);
  assert.ok(error.stderr.includes(`npm install ${name}`), error.stderr);
});

/** The `package.json` of an archive. */
async function packageOf(archive) {
  return (await run('tar', ['-xOzf', archive, 'package/package.json'])).stdout;
}

/** A program under `node --watch`, with its lines as they come. */
function watched(t, folder, env) {
  const program = spawn(process.execPath, ['--watch', 'app.mjs'], {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(async () => {
    if (program.exitCode === null && program.signalCode === null) {
      program.kill();
      await once(program, 'exit');
    }
  });
  const lines = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
  return async (wanted) => {
    for (;;) {
      const { value, done } = await lines.next();
      assert.ok(!done, `it ended before it said ${wanted}`);
      if (value.startsWith(wanted)) return value;
    }
  };
}

test('under node --watch it starts again, and what is in the file goes on', async (t) => {
  // Beside the tests, so that it finds the package.
  const folder = mkdtempSync(fileURLToPath(new URL('./.watched-', import.meta.url)));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const source = (version) => `
    import { App } from 'taskloom';
    const app = new App({ store: process.env.STORE, keepAlive: true, threads: 1 });
    // The first version never gets done with it.
    const job = app.task('job', (n) => {
      console.log('runs in ${version}', n);
      return ${version} === 1 ? new Promise(() => {}) : n;
    });
    await app.start();
    if (${version} === 1) await job.submitMany([1, 2, 3]);
    console.log('ready ${version}');
    const look = async () => {
      const { tasks } = await app.stats();
      if (tasks.succeeded === 3) console.log('all done');
    };
    app.on('task.succeeded', look);
    await look();
  `;
  writeFileSync(join(folder, 'app.mjs'), source(1));
  const hear = watched(t, folder, { STORE: `sqlite:${file(t)}` });
  await hear('ready 1');
  // Again and again, since nobody says when Node has begun to watch.
  const edit = () => writeFileSync(join(folder, 'app.mjs'), source(2));
  const edits = setInterval(edit, 2_000);
  edit();
  await hear('ready 2').finally(() => clearInterval(edits));
  await hear('all done');
});
