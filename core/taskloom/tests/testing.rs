//! Apps on a clock that the test turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use taskloom::{App, Code, Context, RetryPolicy, State, TaskError, Testing, TestingOptions};

const HOUR: Duration = Duration::from_secs(3600);

fn testing() -> Testing {
    let start = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_323_200));
    App::builder().workers(1).testing_with(TestingOptions { start, ..TestingOptions::default() }).unwrap()
}

#[test]
fn retries_come_at_their_times() {
    let testing = testing();
    let (app, start) = (testing.app(), testing.now());
    app.task("flaky", move |_: (), context: &Context| -> Result<u64, TaskError> {
        match context.attempt() {
            3 => Ok(context.now().duration_since(start).unwrap().as_secs()),
            1 => Err(TaskError::new("no").retry_after(2 * HOUR)),
            _ => Err(TaskError::new("no").retry_after(start + 5 * HOUR)),
        }
    })
    .retries(2)
    .register()
    .unwrap();
    let handle = app.submit("flaky", &()).unwrap();
    testing.advance(5 * HOUR - Duration::from_secs(1)).unwrap();
    assert_eq!((handle.state(), handle.errors().len()), (State::Retrying, 2));
    testing.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(handle.result::<u64>().unwrap(), 5 * 3600);
    assert_eq!(testing.now(), start + 5 * HOUR);
}

#[test]
fn waiting_runs_what_there_is_and_says_when_it_cannot() {
    let testing = testing();
    let app = testing.app();
    app.task("child", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n + 1) }).register().unwrap();
    app.task("parent", |n: u32, context: &Context| -> Result<u32, TaskError> {
        Ok(context.submit("child", &n)?.wait::<u32>()?)
    })
    .register()
    .unwrap();
    assert_eq!(app.submit("parent", &1).unwrap().wait::<u32>().unwrap(), 2);
    let late = app.build("child").input(&1).delay(HOUR).submit().unwrap();
    assert_eq!(late.wait::<u32>().unwrap_err().code(), Code::WouldDeadlock);
    assert_eq!(late.wait_for::<u32>(HOUR).unwrap_err().code(), Code::WaitTimeout);
    testing.set_time(testing.now() + HOUR).unwrap();
    assert_eq!(late.wait::<u32>().unwrap(), 2);
    let names: Vec<_> = testing.submitted().unwrap().iter().map(|handle| handle.name().to_owned()).collect();
    assert_eq!(names, ["parent", "child", "child"]);
}

#[test]
fn starting_and_stopping_inside_does_nothing() {
    let testing = testing();
    let app = testing.app();
    app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register().unwrap();
    app.start().unwrap().stop();
    drop(app.start().unwrap());
    let handle = app.submit("noop", &()).unwrap();
    testing.drain().unwrap();
    assert_eq!(handle.state(), State::Succeeded);
}

#[test]
fn what_has_not_run_is_dropped_with_it() {
    let held = Arc::new(());
    let own = Arc::clone(&held);
    let testing = testing();
    testing
        .app()
        .task("hold", move |_: (), _: &Context| -> Result<usize, TaskError> { Ok(Arc::strong_count(&own)) })
        .register()
        .unwrap();
    let ran = testing.app().submit("hold", &()).unwrap();
    testing.drain().unwrap();
    let late = testing.app().build("hold").delay(HOUR).submit().unwrap();
    drop(testing);
    assert_eq!(ran.state(), State::Succeeded);
    assert_eq!(late.result::<()>().unwrap_err().code(), Code::ShutDown);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[cfg(feature = "async")]
mod asynchronous {
    use super::*;

    #[test]
    fn async_handlers_run_where_the_test_drives() {
        let testing = testing();
        let (app, here) = (testing.app(), std::thread::current().id());
        app.task_async("half", move |n: u32, _: Context| async move {
            assert_eq!(std::thread::current().id(), here);
            Ok::<_, TaskError>(n / 2)
        })
        .register()
        .unwrap();
        app.task_async("quarter", |n: u32, context: Context| async move {
            let half: u32 = context.submit("half", &n)?.wait_async().await?;
            let quarter = tokio::spawn(async move { half / 2 }).await?;
            Ok::<_, TaskError>(quarter)
        })
        .register()
        .unwrap();
        let handle = app.submit("quarter", &40).unwrap();
        assert_eq!(handle.state(), State::Queued);
        testing.drain().unwrap();
        assert_eq!(handle.result::<u32>().unwrap(), 10);
    }

    #[test]
    fn a_timeout_drops_the_future_on_time() {
        struct Told(Arc<AtomicU32>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let testing = testing();
        let dropped = Arc::new(AtomicU32::new(0));
        let own = Arc::clone(&dropped);
        testing
            .app()
            .task_async("never", move |_: (), _: Context| {
                let told = Told(Arc::clone(&own));
                async move {
                    let _told = told;
                    std::future::pending::<Result<(), TaskError>>().await
                }
            })
            .timeout(HOUR)
            .retries(1)
            .retry(RetryPolicy { base: Duration::ZERO, ..RetryPolicy::default() })
            .register()
            .unwrap();
        let handle = testing.app().submit("never", &()).unwrap();
        testing.advance(HOUR).unwrap();
        assert_eq!((handle.state(), dropped.load(Ordering::Relaxed)), (State::Running, 1));
        testing.advance(HOUR).unwrap();
        assert_eq!((handle.state(), dropped.load(Ordering::Relaxed)), (State::TimedOut, 2));
    }

    #[test]
    fn inside_another_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let testing = testing();
            testing
                .app()
                .task_async("half", |n: u32, _: Context| async move { Ok::<_, TaskError>(n / 2) })
                .register()
                .unwrap();
            let handle = testing.app().build("half").input(&4).delay(HOUR).submit().unwrap();
            testing.advance(HOUR).unwrap();
            assert_eq!(handle.await.unwrap().json(), "2");
        });
    }

    #[test]
    fn inline() {
        let options = TestingOptions { inline: true, ..TestingOptions::default() };
        let testing = App::builder().testing_with(options).unwrap();
        let app = testing.app();
        app.task_async("one", |_: (), _: Context| async move { Ok::<_, TaskError>(1) }).register().unwrap();
        assert_eq!(app.submit("one", &()).unwrap().state(), State::Succeeded);
        let many = app.submit_many("one", &[(), ()]).unwrap();
        assert!(many.iter().all(|handle| handle.state() == State::Succeeded));
        assert_eq!(app.build("one").delay(HOUR).submit().unwrap().state(), State::Pending);
    }
}
