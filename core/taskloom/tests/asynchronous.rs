//! Async handlers: bounded, cancelled, timed out, panicking, and what becomes of them when the app ends.
#![cfg(feature = "async")]

mod common;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{LONG, Signal, block_on, on_each_store, until};
use taskloom::{App, Code, Context, Filter, State, Stop, TaskError};

/// Tells when it is dropped.
struct Dropped(std::sync::mpsc::Sender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

/// An async handler that waits for ever, and tells when it begins and when it is dropped.
fn register_endless(app: &App, signal: &Signal<&'static str>, timeout: Option<Duration>) {
    let sender = signal.sender();
    let mut registration = app.task_async("endless", move |_: (), _: Context| {
        let sender = sender.clone();
        async move {
            let _dropped = Dropped(sender.clone());
            sender.send("begun").unwrap();
            pending::<()>().await;
            Ok::<_, TaskError>(())
        }
    });
    if let Some(timeout) = timeout {
        registration = registration.timeout(timeout);
    }
    registration.register().unwrap();
}

#[test]
fn results_errors_and_panics_are_outcomes() {
    on_each_store(App::builder, |app| {
        app.task_async("half", |n: u32, context: Context| async move {
            assert_ne!(n, 13, "an unlucky number");
            if n % 2 == 1 {
                return Err(TaskError::permanent("odd").of_kind("Odd"));
            }
            context.progress(0.5, "halfway")?;
            context.log("info", "halving")?;
            context.result_metadata("twice", &n)?;
            tokio::task::yield_now().await;
            Ok(n / 2)
        })
        .register()
        .unwrap();
        let running = app.start().unwrap();
        let good = app.submit("half", &8).unwrap();
        assert_eq!(good.wait_for::<u32>(LONG).unwrap(), 4);
        assert_eq!(good.result_metadata::<u32>("twice").unwrap(), Some(8));
        let odd = app.submit("half", &7).unwrap();
        assert_eq!(odd.wait_for::<u32>(LONG).unwrap_err().code(), Code::TaskFailed);
        assert_eq!(odd.errors()[0].kind, "Odd");
        let panicked = app.submit("half", &13).unwrap();
        assert_eq!(panicked.wait_for::<u32>(LONG).unwrap_err().code(), Code::TaskFailed);
        let error = &panicked.errors()[0];
        assert!(error.kind == "panic" && error.message.contains("an unlucky number"), "{error:?}");
        running.stop();
        assert_eq!(good.progress().unwrap().message.as_deref(), Some("halfway"));
        assert_eq!(good.log()[0].message, "halving");
    });
}

#[test]
fn a_cancelled_handler_is_dropped() {
    on_each_store(App::builder, |app| {
        let signal = Signal::new();
        register_endless(app, &signal, None);
        let running = app.start().unwrap();
        let handle = app.submit("endless", &()).unwrap();
        assert_eq!(signal.wait(), "begun");
        assert!(handle.cancel(Some("enough")).unwrap());
        let error = handle.wait_for::<()>(LONG).unwrap_err();
        assert!(error.code() == Code::TaskCancelled && error.message().contains("enough"), "{error}");
        assert_eq!(signal.wait(), "dropped");
        running.stop();
        let stats = app.stats().unwrap();
        assert_eq!((stats.late_reports, stats.in_flight), (0, 0), "nobody has reported anything");
    });
}

#[test]
fn a_handler_that_takes_too_long_is_dropped() {
    on_each_store(App::builder, |app| {
        let signal = Signal::new();
        register_endless(app, &signal, Some(Duration::from_millis(20)));
        let running = app.start().unwrap();
        let mut told = Vec::new();
        while told.is_empty() {
            let handle = app.submit("endless", &()).unwrap();
            assert_eq!(handle.wait_for::<()>(LONG).unwrap_err().code(), Code::TaskTimedOut);
            // Its time may be up before it is polled for the first time, and then there is nothing to drop.
            told = signal.rest();
        }
        told.resize_with(told.len().max(2), || signal.wait());
        assert_eq!(told[..2], ["begun", "dropped"]);
        running.stop();
    });
}

#[test]
fn a_handler_that_listens_may_clean_up() {
    on_each_store(App::builder, |app| {
        let signal = Signal::new();
        let sender = signal.sender();
        app.task_async("listen", move |stubborn: bool, context: Context| {
            let sender = sender.clone();
            async move {
                let _dropped = Dropped(sender.clone());
                sender.send("begun").unwrap();
                context.cancelled().await;
                assert!(context.is_cancelled());
                tokio::task::yield_now().await;
                sender.send("cleaned up").unwrap();
                if stubborn {
                    pending::<()>().await;
                }
                Ok::<_, TaskError>(())
            }
        })
        .register()
        .unwrap();
        let running = app.start().unwrap();
        for stubborn in [false, true] {
            let handle = app.submit("listen", &stubborn).unwrap();
            assert_eq!(signal.wait(), "begun");
            assert!(handle.cancel(None).unwrap());
            assert_eq!((signal.wait(), signal.wait()), ("cleaned up", "dropped"));
            assert_eq!(handle.state(), State::Cancelled);
        }
        running.stop();
    });
}

#[test]
fn a_blocking_handler_can_hand_on_that_it_was_called_off() {
    let app = App::open("memory:").unwrap();
    let signal = Signal::new();
    let sender = signal.sender();
    app.task("listen", move |_: (), context: &Context| -> Result<(), TaskError> {
        sender.send("begun")?;
        block_on(context.cancelled());
        sender.send("called off")?;
        Ok(())
    })
    .register()
    .unwrap();
    let running = app.start().unwrap();
    let handle = app.submit("listen", &()).unwrap();
    assert_eq!(signal.wait(), "begun");
    assert!(handle.cancel(None).unwrap());
    assert_eq!(signal.wait(), "called off");
    running.stop();
}

#[test]
fn a_thousand_at_once_are_bounded() {
    const PLACES: usize = 40;
    on_each_store(
        || App::builder().max_in_flight(PLACES),
        |app| {
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let counts = (Arc::clone(&now), Arc::clone(&most));
            app.task_async("count", move |n: usize, _: Context| {
                let (now, most) = counts.clone();
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, TaskError>(n)
                }
            })
            .register()
            .unwrap();
            let handles = app.submit_many("count", &(0..1_000).collect::<Vec<usize>>()).unwrap();
            let running = app.start().unwrap();
            for (number, handle) in handles.iter().enumerate() {
                assert_eq!(handle.wait_for::<usize>(LONG).unwrap(), number);
            }
            let most = most.load(Ordering::SeqCst);
            assert!((2..=PLACES).contains(&most), "{most} at once");
            running.stop();
        },
    );
}

#[test]
fn a_parent_waits_for_its_children_in_a_single_place() {
    on_each_store(
        || App::builder().max_in_flight(1),
        |app| {
            app.task_async("leaf", |n: u32, _: Context| async move { Ok::<_, TaskError>(n * 10) })
                .register()
                .unwrap();
            app.task_async("parent", |deep: u32, context: Context| async move {
                let name = if deep == 0 { "leaf" } else { "parent" };
                let child = context.submit(name, &deep.saturating_sub(1))?;
                let other = context.build("leaf").input(&1).tag("second").submit_async().await?;
                let sum: u32 = child.wait_async::<u32>().await? + other.wait_async::<u32>().await?;
                Ok::<_, TaskError>(sum)
            })
            .register()
            .unwrap();
            let running = app.start().unwrap();
            let handle = app.submit("parent", &2).unwrap();
            assert_eq!(handle.wait_for::<u32>(LONG).unwrap(), 30);
            let children = handle.children().unwrap();
            assert_eq!(
                children.iter().map(|child| child.name().to_owned()).collect::<Vec<_>>(),
                ["parent", "leaf"]
            );
            assert_eq!(children[1].info().parent, Some(handle.id()));
            running.stop();
            assert_eq!(app.stats().unwrap().in_flight, 0);
        },
    );
}

#[test]
fn blocking_where_one_must_await_is_refused() {
    let app = App::open("memory:").unwrap();
    app.task_async("leaf", |_: (), _: Context| async move { Ok::<_, TaskError>(()) }).register().unwrap();
    app.task_async("blocks", |_: (), context: Context| async move {
        context.submit("leaf", &())?.wait::<()>()?;
        Ok::<_, TaskError>(())
    })
    .retries(3)
    .register()
    .unwrap();
    app.pause("default").unwrap();
    let running = app.start().unwrap();
    // Paused, so that the child cannot have ended by the time of the wait.
    let handle = app.submit("blocks", &()).unwrap();
    app.run_now(handle.id()).unwrap();
    assert!(handle.wait_for::<()>(LONG).is_err());
    let errors = handle.errors();
    assert!(errors.len() == 1 && errors[0].message.contains("may not block"), "{errors:?}");
    app.resume("default").unwrap();
    running.stop();
}

#[test]
fn submitting_from_inside() {
    on_each_store(App::builder, |app| {
        app.task("blocking", |n: u32, _: &Context| -> Result<u32, TaskError> { Ok(n + 1) })
            .register()
            .unwrap();
        app.task_async("inside", |n: u32, context: Context| async move {
            context.save_checkpoint(&n)?;
            let app = context.app()?;
            let (one, other) = (app.submit("blocking", &n)?, app.submit_async("blocking", &(n + 1)).await?);
            drop(app);
            Ok::<_, TaskError>(one.wait_async::<u32>().await? + other.wait_async::<u32>().await?)
        })
        .register()
        .unwrap();
        let running = app.start().unwrap();
        let handles = app.submit_many("inside", &[1, 2, 3]).unwrap();
        let sums: Vec<u32> = handles.iter().map(|handle| handle.wait_for(LONG).unwrap()).collect();
        assert_eq!(sums, [5, 7, 9]);
        running.stop();
        assert_eq!(app.list(&Filter::new().name("blocking")).unwrap().len(), 6);
    });
}

#[test]
fn a_graceful_stop_waits_and_a_hasty_one_drops() {
    on_each_store(App::builder, |app| {
        let (begun, go_on) = (Signal::new(), Arc::new(tokio::sync::Notify::new()));
        let (sender, notify) = (begun.sender(), Arc::clone(&go_on));
        app.task_async("waits", move |_: (), _: Context| {
            let (sender, notify) = (sender.clone(), Arc::clone(&notify));
            async move {
                sender.send(()).unwrap();
                notify.notified().await;
                Ok::<_, TaskError>("done")
            }
        })
        .register()
        .unwrap();
        let running = app.start().unwrap();
        let handle = app.submit("waits", &()).unwrap();
        begun.wait();
        std::thread::scope(|scope| {
            let stopping = scope.spawn(move || running.stop());
            until(|| !app.health().ok);
            assert!(!handle.is_done());
            go_on.notify_one();
            stopping.join().unwrap();
        });
        assert_eq!(handle.result::<String>().unwrap(), "done");
    });
    on_each_store(App::builder, |app| {
        let signal = Signal::new();
        register_endless(app, &signal, None);
        let running = app.start().unwrap();
        let handles = app.submit_many("endless", &[(); 20]).unwrap();
        (0..20).for_each(|_| assert_eq!(signal.wait(), "begun"));
        running.stop_within(Duration::ZERO);
        (0..20).for_each(|_| assert_eq!(signal.wait(), "dropped"));
        for handle in handles {
            assert_eq!(handle.wait_for::<()>(LONG).unwrap_err().code(), Code::ShutDown);
        }
    });
}

#[test]
fn an_app_that_is_dropped_drops_its_handlers() {
    let signal = Signal::new();
    let app = App::open("memory:").unwrap();
    register_endless(&app, &signal, None);
    let running = app.start().unwrap();
    let handle = app.submit("endless", &()).unwrap();
    assert_eq!(signal.wait(), "begun");
    let weak = app.downgrade();
    drop(app);
    running.stop_within(Duration::ZERO);
    assert_eq!(signal.wait(), "dropped");
    assert!(weak.upgrade().is_none());
    assert_eq!(handle.wait_for::<()>(LONG).unwrap_err().code(), Code::ShutDown);
    assert!(handle.children().unwrap().is_empty());
}

#[test]
fn an_app_may_end_inside_of_its_own_handler() {
    for hasty in [false, true] {
        let signal = Signal::new();
        let sender = signal.sender();
        let app = App::open("memory:").unwrap();
        let slot = Arc::new(std::sync::Mutex::new(None));
        let own = Arc::clone(&slot);
        app.task_async("ends", move |_: (), context: Context| {
            let (slot, sender) = (Arc::clone(&own), sender.clone());
            async move {
                let running: taskloom::Running = slot.lock().unwrap().take().unwrap();
                if hasty {
                    running.stop_within(Duration::ZERO);
                } else {
                    drop(running);
                }
                // The app may go on this very thread.
                drop(context);
                sender.send(())?;
                Ok::<_, TaskError>("done")
            }
        })
        .register()
        .unwrap();
        *slot.lock().unwrap() = Some(app.start().unwrap());
        let weak = app.downgrade();
        let handle = app.submit("ends", &()).unwrap();
        drop(app);
        signal.wait();
        let outcome = handle.wait_for::<String>(LONG);
        assert!(hasty || outcome.unwrap() == "done");
        until(|| weak.upgrade().is_none());
    }
}

#[test]
fn an_app_lives_and_ends_inside_of_another_runtime() {
    block_on(async {
        let app = App::open("memory:").unwrap();
        app.task_async("double", |n: u32, _: Context| async move { Ok::<_, TaskError>(n * 2) })
            .register()
            .unwrap();
        let running = app.start().unwrap();
        let handle = app.submit_async("double", &4).await.unwrap();
        assert_eq!(handle.wait_async::<u32>().await.unwrap(), 8);
        assert_eq!((&handle).await.unwrap().json(), "8");
        running.stop_async(Stop::Finish).await;
        let app = App::open("memory:").unwrap();
        app.task_async("double", |n: u32, _: Context| async move { Ok::<_, TaskError>(n * 2) })
            .register()
            .unwrap();
        drop(app.start().unwrap());
    });
}

#[test]
fn an_await_that_is_given_up_leaves_the_task_alone() {
    let app = App::open("memory:").unwrap();
    let signal = Signal::new();
    let sender = signal.sender();
    let go_on = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&go_on);
    app.task_async("waits", move |_: (), _: Context| {
        let (sender, notify) = (sender.clone(), Arc::clone(&notify));
        async move {
            sender.send(()).unwrap();
            notify.notified().await;
            Ok::<_, TaskError>(7)
        }
    })
    .register()
    .unwrap();
    let running = app.start().unwrap();
    let handle = app.submit("waits", &()).unwrap();
    signal.wait();
    block_on(async {
        for _ in 0..3 {
            let wait = handle.wait_async::<u32>();
            assert!(tokio::time::timeout(Duration::from_millis(1), wait).await.is_err());
        }
        assert!(!handle.is_done());
        go_on.notify_one();
        assert_eq!(handle.wait_async::<u32>().await.unwrap(), 7);
    });
    running.stop();
}

#[test]
fn handlers_may_be_registered_while_the_app_runs() {
    let app = App::open("memory:").unwrap();
    let running = app.start().unwrap();
    app.task_async("late", |_: (), _: Context| async move { Ok::<_, TaskError>(1) }).register().unwrap();
    assert_eq!(app.submit("late", &()).unwrap().wait_for::<u32>(LONG).unwrap(), 1);
    running.stop();
}

#[test]
fn a_task_can_be_run_by_hand_without_a_start() {
    on_each_store(App::builder, |app| {
        app.task_async("late", |_: (), _: Context| async move { Ok::<_, TaskError>(1) }).register().unwrap();
        let handle = app.build("late").delay(Duration::from_secs(3600)).submit().unwrap();
        assert_eq!(app.run_now(handle.id()).unwrap().wait_for::<u32>(LONG).unwrap(), 1);
    });
}
