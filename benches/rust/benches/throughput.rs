//! Submit → result of no-ops, one by one, beside `tokio::spawn` and its `JoinHandle`, two workers each.
//!
//! Both submit every task first and then wait for each; both hold all handles meanwhile.
#![allow(missing_docs, reason = "criterion's macros make items without documentation")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use taskloom_engine::{Handle, Stop};

const TASKS: usize = 1_000_000;
const WORKERS: usize = 2;

fn submit_and_wait(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("submit_and_wait");
    group.sample_size(10).throughput(Throughput::Elements(TASKS as u64));

    group.bench_function("taskloom", |bencher| {
        let (engine, entry) = taskloom_benches::engine(WORKERS);
        engine.start().expect("threads start");
        bencher.iter_batched(
            || Vec::<Handle>::with_capacity(TASKS),
            |mut handles| {
                for _ in 0..TASKS {
                    let handle = engine.submit(&entry, entry.admission(), b"null".into(), None, false);
                    handles.push(handle.expect("there is room"));
                }
                for handle in &handles {
                    handle.wait(None).expect("it runs");
                    black_box(handle.outcome().expect("it succeeds"));
                }
                handles
            },
            BatchSize::PerIteration,
        );
        engine.stop(Stop::Finish);
    });

    group.bench_function("tokio", |bencher| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .build()
            .expect("threads start");
        bencher.iter_batched(
            || Vec::with_capacity(TASKS),
            |mut handles| {
                runtime.block_on(async {
                    for _ in 0..TASKS {
                        let payload: Box<[u8]> = Box::from(*b"null");
                        handles.push(tokio::spawn(async move { payload }));
                    }
                    for handle in &mut handles {
                        black_box(handle.await.expect("it succeeds"));
                    }
                });
                handles
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, submit_and_wait);
criterion_main!(benches);
