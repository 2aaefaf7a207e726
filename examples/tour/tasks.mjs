// The tour's handler in JavaScript: `npx taskloom worker tasks.mjs` runs it, on the same file as Python's.
import { App } from 'taskloom';

export const app = new App({ store: process.env.TASKLOOM_STORE ?? 'sqlite:tour.db' });

app.task('add_up', ({ numbers }) => numbers.reduce((sum, number) => sum + number, 0));
