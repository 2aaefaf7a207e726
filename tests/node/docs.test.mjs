// The snippets of the pages run, and print what their comments say.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

const PAGES = [
  'README.md',
  'docs/coming-from.md',
  'docs/dead-letters.md',
  'docs/durability.md',
  'docs/events.md',
  'docs/from-bullmq.md',
  'docs/javascript.md',
  'docs/limits.md',
  'docs/monitoring.md',
  'docs/options.md',
  'docs/outbox.md',
  'docs/patterns.md',
  'docs/quickstart.md',
  'docs/recipes.md',
  'docs/schedules.md',
  'docs/testing-your-tasks.md',
  'docs/troubleshooting.md',
  'node/README.md',
];

for (const page of PAGES) {
  const text = readFileSync(new URL(`../../${page}`, import.meta.url), 'utf8');
  const all = [...text.matchAll(/^```js\n(.*?)^```/gms)].map(([, source]) => source);
  // Beside the tests, so that they find the package. Each page has a folder, and a file in it for each snippet.
  const folder = mkdtempSync(fileURLToPath(new URL('./.page-', import.meta.url)));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const snippets = [];
  for (const source of all) {
    // One that begins with the name of a file is what others load.
    const [, name] = /^\/\/ ([\w-]+\.[cm]?js)\n/.exec(source) ?? [];
    if (name === undefined) snippets.push(source);
    else writeFileSync(join(folder, name), source);
  }
  assert.ok(snippets.length > 0, page);
  for (const [place, source] of snippets.entries()) {
    const skip = source.includes("from 'node:sqlite'") && !isBuiltin('node:sqlite') && 'node:sqlite is of newer Nodes';
    test(`snippet ${place + 1} of ${page}`, { skip }, async () => {
      const path = join(folder, `snippet-${place + 1}.mjs`);
      writeFileSync(path, source);
      const { stdout } = await run(process.execPath, [path], { cwd: folder, timeout: 60_000 });
      // `console.log(…); // what it prints`, up to a colon that begins a remark.
      const wanted = [...source.matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map(([, said]) => said.split(': ')[0]);
      const lines = stdout.trim().split('\n');
      for (const said of wanted) assert.ok(lines.includes(said) || stdout.includes(said), `${said} is not in\n${stdout}`);
    });
  }
}
