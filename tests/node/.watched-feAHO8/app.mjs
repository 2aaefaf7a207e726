
    import { App } from 'taskloom';
    const app = new App({ store: process.env.STORE, keepAlive: true, threads: 1 });
    // The first version never gets done with it.
    const job = app.task('job', (n) => {
      console.log('runs in 1', n);
      return 1 === 1 ? new Promise(() => {}) : n;
    });
    await app.start();
    if (1 === 1) await job.submitMany([1, 2, 3]);
    console.log('ready 1');
    const look = async () => {
      const { tasks } = await app.stats();
      if (tasks.succeeded === 3) console.log('all done');
    };
    app.on('task.succeeded', look);
    await look();
  