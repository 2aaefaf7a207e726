// The same types for CommonJS.
import taskloom = require('taskloom');

const app = new taskloom.App();
const double = app.task('double', (n: number) => n * 2);

async function main(): Promise<number> {
  await using running = await app.start();
  const handle: taskloom.TaskHandle<number> = await double.submit(2);
  return (await handle.result()) + (running === app ? 0 : 1);
}

void main();
