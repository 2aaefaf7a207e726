// The examples run, and find that what they did is right.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { STORES } from './helpers.mjs';

const run = promisify(execFile);
const folder = fileURLToPath(new URL('../../examples/node/', import.meta.url));

for (const [kind, url] of STORES) {
  test(`the census agrees with a plain loop: ${kind}`, async (t) => {
    const { stdout, stderr } = await run(process.execPath, ['census.mjs', '--limit', '60', '--store', url(t)], { cwd: folder, timeout: 120_000 });
    assert.match(stdout, /both agree/);
    assert.match(stdout, /1 died with its task in hand/);
    assert.equal(stderr, '');
  });
}

test('every example is tested', () => {
  const found = readdirSync(folder).filter((name) => name.endsWith('.mjs'));
  assert.deepEqual(found.sort(), ['census.mjs', 'count.mjs']);
});
