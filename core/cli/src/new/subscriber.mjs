// The subscriber `__FUNCTION__`: it hears what happens to the tasks of an app, in the app's process.
//
// Try it:  node __FILE__
// Use it:  import { __FUNCTION__ } from './__FILE__'; app.on('task.*', __FUNCTION__);
import { pathToFileURL } from 'node:url';
import { App } from 'taskloom';

/** What to do on which event; docs/events.md lists them. */
const handlers = {
  'task.succeeded': (event) => console.log(`${event.data.name} succeeded`),
  'task.failed': (event) => console.log(`${event.data.name} failed: ${event.data.error.message}`),
};

/** Hears an event. */
export function __FUNCTION__(event) {
  handlers[event.name]?.(event);
}

// Run by itself, not imported.
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const app = new App();
  app.on('task.*', __FUNCTION__);
  const greet = app.task('greet', async (input) => `hello ${input.name}`);
  await app.start();
  const handle = await greet.submit({ name: 'Ada' });
  await handle.result({ timeout: '30s' });
  await app.stop();
}
