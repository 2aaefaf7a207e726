// The same types for CommonJS.
import taskloom = require('taskloom');
import testing = require('taskloom/testing');

const app = new taskloom.App();
const double = app.task('double', (n: number) => n * 2);

async function main(): Promise<number> {
  await using running = await app.start();
  const handle: taskloom.TaskHandle<number> = await double.submit(2);
  return (await handle.result()) + (running === app ? 0 : 1);
}

void main();
void testing.withTesting(app, async (t: taskloom.Testing) => void (await t.drain()));
