// The snippets of the pages run, and print what their comments say.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { script } from './helpers.mjs';

const PAGES = [
  'README.md',
  'docs/dead-letters.md',
  'docs/javascript.md',
  'docs/limits.md',
  'docs/testing-your-tasks.md',
  'node/README.md',
];

for (const page of PAGES) {
  const text = readFileSync(new URL(`../../${page}`, import.meta.url), 'utf8');
  const snippets = [...text.matchAll(/^```js\n(.*?)^```/gms)].map(([, source]) => source);
  assert.ok(snippets.length > 0, page);
  for (const [place, source] of snippets.entries()) {
    test(`snippet ${place + 1} of ${page}`, async () => {
      const { stdout } = await script(source);
      // `console.log(…); // what it prints`, up to a colon that begins a remark.
      const wanted = [...source.matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map(([, said]) => said.split(': ')[0]);
      const lines = stdout.trim().split('\n');
      for (const said of wanted) assert.ok(lines.includes(said) || stdout.includes(said), `${said} is not in\n${stdout}`);
    });
  }
}
