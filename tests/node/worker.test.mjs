// `npx taskloom worker`: the command as the package installs it, with apps of this language.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { App } from 'taskloom';

const COMMAND = fileURLToPath(new URL('node_modules/.bin/taskloom', import.meta.url));
const UNIX = process.platform !== 'win32';

const APP = `
  import { existsSync, writeFileSync } from 'node:fs';
  import { App } from 'taskloom';
  export const app = new App({ store: 'sqlite:tasks.db' });
  export const number = 3;
  export const inMemory = new App();
  app.task('pid', () => process.pid);
  app.task('gate', async (name, ctx) => {
    writeFileSync(name + '.begun', '');
    while (!existsSync(name + '.go')) await new Promise((wake) => setTimeout(wake, 10));
    return process.pid;
  });
`;

/** A folder with a module that has an app. */
function folder(t, source = APP) {
  const path = mkdtempSync(join(tmpdir(), 'taskloom-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  writeFileSync(join(path, 'tasks.mjs'), source);
  symlinkSync(fileURLToPath(new URL('node_modules', import.meta.url)), join(path, 'node_modules'));
  return path;
}

/** The command in a folder, what it tells, and all that it writes. */
function worker(t, cwd, ...args) {
  const child = spawn(COMMAND, ['--json', 'worker', ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  const ended = once(child, 'close').then(([code]) => code);
  const told = [];
  const heard = [];
  let all = '';
  createInterface(child.stderr).on('line', (line) => {
    all += `${line}\n`;
    if (!line.startsWith('{"')) return;
    told.push(JSON.parse(line));
    for (const look of heard.splice(0)) look();
  });
  /** The next time that this is told, which nobody has waited for yet. */
  async function tell(event) {
    for (;;) {
      const place = told.findIndex((each) => each.event === event);
      if (place >= 0) return told.splice(0, place + 1).at(-1);
      const isOver = await Promise.race([new Promise((look) => heard.push(() => look(false))), ended.then(() => true)]);
      assert.ok(!isOver, `${event} was not told:\n${all}`);
    }
  }
  return { child, ended, tell, output: () => all };
}

async function until(condition) {
  for (;;) {
    const found = await condition();
    if (found) return found;
    await new Promise((wake) => setTimeout(wake, 10));
  }
}

/** Submits from this process, which runs nothing. */
function client(t, cwd) {
  const app = new App({ store: `sqlite:${join(cwd, 'tasks.db')}` });
  t.after(() => app.stop({ timeout: 0 }));
  return (name, input) => app.submit(name, input);
}

test('it serves, loads new code on SIGHUP, and lets tasks finish', { skip: !UNIX }, async (t) => {
  const cwd = folder(t);
  const command = worker(t, cwd, 'tasks.mjs');
  const { pid, store, handlers } = await command.tell('ready');
  assert.deepEqual([store, handlers], ['sqlite:tasks.db', 2]);
  const submit = client(t, cwd);
  assert.equal(await (await submit('pid')).result(), pid);

  command.child.kill('SIGHUP');
  const next = await command.tell('ready');
  await command.tell('reloaded');
  assert.notEqual(next.pid, pid);

  const gate = await submit('gate', 'a');
  await until(() => existsSync(join(cwd, 'a.begun')));
  command.child.kill('SIGTERM');
  await command.tell('stopping');
  writeFileSync(join(cwd, 'a.go'), '');
  assert.equal(await gate.result(), next.pid);
  assert.equal(await command.ended, 0);
});

test('a second signal gives back what runs', { skip: !UNIX }, async (t) => {
  const cwd = folder(t);
  const command = worker(t, cwd, 'tasks.mjs:app', '--grace', '1h', '--store', 'sqlite:tasks.db', '--max-in-flight', '3');
  await command.tell('ready');
  await (await client(t, cwd))('gate', 'a');
  await until(() => existsSync(join(cwd, 'a.begun')));
  command.child.kill('SIGINT');
  await command.tell('stopping');
  command.child.kill('SIGINT');
  assert.equal(await command.ended, 130);
  const app = new App({ store: `sqlite:${join(cwd, 'tasks.db')}` });
  assert.deepEqual((await app.listInfo()).map((info) => [info.state, info.crashes]), [['queued', 0]]);
  await app.stop({ timeout: 0 });
});

test('what cannot be served is explained', { skip: !UNIX }, async (t) => {
  const cwd = folder(t);
  writeFileSync(join(cwd, 'broken.mjs'), 'function f() {\n  null.x;\n}\nf();\n');
  writeFileSync(join(cwd, 'syntax.mjs'), 'const a = ;\n');
  for (const [args, code, says] of [
    [['tasks.mjs:number'], 2, 'exports no app named number; that is number 3\nhint: did you mean tasks.mjs:app'],
    [['tasks.mjs:inMemory'], 2, 'in the memory of this process ("memory:")'],
    [['nowhere.mjs'], 2, 'there is no file'],
    [['shop.tasks:app'], 2, 'looks like Python'],
    [['tasks.mjs', '--workers', '3'], 2, 'JavaScript has no threads for handlers'],
    [['broken.mjs', '--processes', '3'], 1, 'TypeError: Cannot read properties of null'],
    [['syntax.mjs'], 1, 'syntax.mjs:1\nconst a = ;'],
  ]) {
    const command = worker(t, cwd, ...args);
    assert.equal(await command.ended, code, command.output());
    assert.ok(command.output().includes(says), command.output());
    assert.ok(!command.output().includes('worker.js'), command.output());
  }
});
