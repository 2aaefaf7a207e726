// The task `__NAME__`.
//
// Try it:      node __FILE__
// Work on it:  npx taskloom worker __FILE__
// Submit it:   npx taskloom submit __NAME__ '{"name": "Ada"}' --wait --store sqlite:tasks.db
import { pathToFileURL } from 'node:url';
import { App } from 'taskloom';

export const app = new App({ store: process.env.TASKLOOM_STORE ?? 'sqlite:tasks.db' });

/** Greets somebody. */
export const __FUNCTION__ = app.task('__NAME__', { retries: 3, timeout: '60s' }, async (input, ctx) => {
  ctx.progress(0.5, `greeting ${input.name}`);
  return `hello ${input.name}`;
});

// Run by itself, not imported.
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await app.start();
  const handle = await __FUNCTION__.submit({ name: 'Ada' });
  console.log(await handle.result({ timeout: '30s' }));
  await app.stop();
}
