// The command of the npm package. What it answers is tested in core/cli; here, that it is the same command, and what has
// JavaScript in it.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

const require = createRequire(import.meta.url);
const about = require('taskloom/package.json');
const folder = dirname(require.resolve('taskloom/package.json'));
const COMMAND = join(folder, about.bin.taskloom);
const TIMEOUT = 120_000;

const APP = `
import { App } from 'taskloom';
export const app = new App({ store: 'sqlite:tasks.db' });
app.task('greet', async (input) => 'hello ' + input.name);
app.task('refuse', { retries: 1 }, () => { throw new TypeError('not today'); });
`;

/** A directory in which the package is installed, and the command run there. */
function place(t) {
  const directory = mkdtempSync(join(tmpdir(), 'taskloom-command-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  symlinkSync(join(folder, '..'), join(directory, 'node_modules'));
  const env = { ...process.env, TASKLOOM_STORE: 'sqlite:tasks.db', LANG: 'C.UTF-8' };
  const options = { cwd: directory, env, encoding: 'utf8', timeout: TIMEOUT };
  return {
    directory,
    options,
    taskloom: (...args) => spawnSync(process.execPath, [COMMAND, ...args], options),
    node: (...args) => spawnSync(process.execPath, args, options),
  };
}

/** The same, with an app whose handlers the store knows. */
function shop(t) {
  const here = place(t);
  writeFileSync(join(here.directory, 'shop.mjs'), APP);
  writeFileSync(join(here.directory, 'once.mjs'), "import { app } from './shop.mjs'; await app.start(); await app.stop();");
  const done = here.node('once.mjs');
  assert.equal(done.status, 0, done.stderr);
  return here;
}

test('the command is the same as everywhere', (t) => {
  const { taskloom } = place(t);
  const version = taskloom('--version');
  assert.deepEqual([version.status, version.stdout], [0, `taskloom ${about.version}\n`], version.stderr);
  const none = taskloom('tasks', 'list', '--json');
  assert.deepEqual([none.status, none.stdout, JSON.parse(none.stderr).error.code], [3, '', 'TL1506']);
  assert.equal(taskloom('no-such-command').status, 2);
  assert.match(JSON.stringify(about.files), /taskloom\.mjs/);
});

test('one task is run by hand, and no other', (t) => {
  const { taskloom } = shop(t);
  const submit = () => taskloom('submit', 'greet', '{"name": "Ada"}', '--delay', '1h').stdout.trim();
  const [one, other] = [submit(), submit()];
  const done = taskloom('tasks', 'run', one, '--app', 'shop.mjs:app');
  assert.deepEqual([done.status, done.stdout, done.stderr], [0, '"hello Ada"\n', '']);
  assert.equal(JSON.parse(taskloom('tasks', 'show', other, '--json').stdout).state, 'pending');
  const refuse = taskloom('submit', 'refuse', '--delay', '1h', '--retries', '1').stdout.trim();
  const first = taskloom('tasks', 'run', refuse, '--app', 'shop.mjs');
  assert.equal(first.status, 5, first.stderr);
  const second = taskloom('tasks', 'run', refuse, '--app', 'shop.mjs');
  assert.equal(second.status, 4);
  assert.match(second.stderr, /TypeError: not today/);
});

test('what cannot be run is explained', (t) => {
  const { taskloom, directory } = shop(t);
  const task = taskloom('submit', 'greet', '--delay', '1h').stdout.trim();
  writeFileSync(join(directory, 'broken.mjs'), 'throw new RangeError("at once");');
  writeFileSync(join(directory, 'none.mjs'), 'export const app = 7;');
  writeFileSync(join(directory, 'syntax.mjs'), '\nlet let = 1;');
  writeFileSync(join(directory, 'bare.mjs'), "import { App } from 'taskloom';\nexport default new App({ store: 'sqlite:tasks.db' });");
  for (const [app, code, said] of [
    ['broken.mjs', 1, /RangeError: at once/],
    ['none.mjs', 2, /exports no app: neither as its default nor as app; that is number 7/],
    ['shop.mjs:shop', 2, /exports no app named shop\nhint: did you mean shop.mjs:app/],
    ['syntax.mjs', 1, /syntax\.mjs:2\n/],
    ['bare.mjs', 3, /no handler "greet"/],
    ['nowhere.mjs', 2, /there is no file .*\nhint: write --app tasks.mjs/],
  ]) {
    const done = taskloom('tasks', 'run', task, '--app', app);
    assert.deepEqual([done.status, done.stdout], [code, ''], done.stderr);
    assert.match(done.stderr, said);
  }
});

test('files to begin with run', (t) => {
  const { taskloom, node } = place(t);
  assert.equal(taskloom('new', 'task', 'mail/greet-all').stdout, 'greet_all.mjs\n');
  const task = node('greet_all.mjs');
  assert.deepEqual([task.status, task.stdout], [0, 'hello Ada\n'], task.stderr);
  assert.equal(taskloom('new', 'subscriber', 'alarm').stdout, 'alarm.mjs\n');
  const subscriber = node('alarm.mjs');
  assert.deepEqual([subscriber.status, subscriber.stdout], [0, 'greet succeeded\n'], subscriber.stderr);
});

test('Ctrl-C ends it as any program', { skip: process.platform === 'win32' }, async (t) => {
  const { options } = shop(t);
  const child = spawn(process.execPath, [COMMAND, 'events', 'tail'], { ...options, timeout: undefined });
  let told = '';
  child.stderr.setEncoding('utf8');
  await new Promise((ready) => {
    child.stderr.on('data', (text) => {
      told += text;
      if (told.includes('following')) ready();
    });
  });
  const ended = new Promise((resolve) => child.on('close', (code, signal) => resolve(signal)));
  child.kill('SIGINT');
  assert.equal(await ended, 'SIGINT');
});
