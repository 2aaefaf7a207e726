/** The command `taskloom`, as npm installs it. What it does is in Rust: `core/cli`. */

import { load } from './addon.js';

/**
 * Runs the command on this thread; its exit code.
 * @internal
 */
export function command(args: readonly string[]): number {
  return load().command(['taskloom', ...args], process.execPath, `Node ${process.version}`, __dirname);
}
