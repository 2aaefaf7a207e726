// Counts what is in one file. This module is loaded by the threads of census.mjs, which count files as tasks, and by its
// plain loop.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';

import { parse } from 'acorn';
import { full } from 'acorn-walk';
import { PermanentError } from 'taskloom';

const KINDS = {
  FunctionDeclaration: 'functions',
  FunctionExpression: 'functions',
  ArrowFunctionExpression: 'functions',
  ClassDeclaration: 'classes',
  ClassExpression: 'classes',
  ImportDeclaration: 'imports',
  ImportExpression: 'imports',
};

export const NOTHING = { files: 0, lines: 0, functions: 0, classes: 0, imports: 0 };

export function add(one, other) {
  return Object.fromEntries(Object.keys(NOTHING).map((name) => [name, one[name] + other[name]]));
}

/** The syntax of a file, whichever of the two kinds of JavaScript it is. */
function syntaxOf(source) {
  const options = { ecmaVersion: 'latest', allowHashBang: true, allowReturnOutsideFunction: true };
  try {
    return parse(source, { ...options, sourceType: 'module' });
  } catch {
    return parse(source, { ...options, sourceType: 'script' });
  }
}

export function countFile(path) {
  const source = readFileSync(path, 'utf8');
  const counts = { ...NOTHING, files: 1, lines: source.split('\n').length };
  full(syntaxOf(source), (node) => {
    if (Object.hasOwn(KINDS, node.type)) counts[KINDS[node.type]] += 1;
    else if (node.type === 'CallExpression' && node.callee.name === 'require') counts.imports += 1;
  });
  return counts;
}

/** The handler: it runs in a thread. */
export default function count({ root, path, trouble }, ctx) {
  if (trouble !== undefined && ctx.task.attempt === 1) {
    // Made up for the demo: a thread that dies is replaced, and an error is tried again.
    if (trouble === 'exit' && !isMainThread) process.exit(1);
    throw new Error(`read error, made up for this demo: ${path}`);
  }
  try {
    return countFile(join(root, path));
  } catch (error) {
    if (error instanceof SyntaxError) throw new PermanentError(error.message); // reading it again would not make it valid
    throw error;
  }
}
