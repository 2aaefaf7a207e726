//! What the tests share: an app on each kind of store, and signals to wait on.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]

#[cfg(feature = "outbox-rusqlite")]
pub mod shop;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use taskloom::{App, AppBuilder, Context, Event, TaskError};

/// A wait that is only over if something is wrong.
pub const LONG: Duration = Duration::from_secs(60);

/// Runs a test on a memory store and on a file.
pub fn on_each_store(settings: impl Fn() -> AppBuilder, test: impl Fn(&App)) {
    test(&settings().open("memory:").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("tasks.db").display());
    test(&settings().open(&url).unwrap());
}

/// Something that happens in a handler, and is waited for outside.
pub struct Signal<T>(pub Sender<T>, Receiver<T>);

impl<T> Signal<T> {
    pub fn new() -> Self {
        let (send, receive) = channel();
        Self(send, receive)
    }

    pub fn sender(&self) -> Sender<T> {
        self.0.clone()
    }

    /// The next one.
    pub fn wait(&self) -> T {
        self.1.recv_timeout(LONG).expect("it did not happen")
    }

    /// Those that came already.
    pub fn rest(&self) -> Vec<T> {
        self.1.try_iter().collect()
    }
}

/// An app that has a task `note`, which says what it was given.
pub fn noting(url: &str) -> (App, Signal<u32>) {
    let ran = Signal::new();
    let app = App::builder().workers(2).open(url).unwrap();
    let tell = ran.sender();
    app.task("note", move |number: u32, _: &Context| -> Result<u32, TaskError> {
        tell.send(number)?;
        Ok(number)
    })
    .retries(2)
    .register()
    .unwrap();
    (app, ran)
}

/// The names of the events that an app told while it ran.
pub fn names(events: impl Iterator<Item = Event>) -> Vec<String> {
    events.map(|event| event.name().to_owned()).collect()
}

/// Looks until it is so.
pub fn until(what: impl Fn() -> bool) {
    let pauses = std::sync::Condvar::new();
    let lock = std::sync::Mutex::new(());
    for _ in 0..60_000 {
        if what() {
            return;
        }
        drop(pauses.wait_timeout(lock.lock().unwrap(), Duration::from_millis(1)));
    }
    panic!("it is not so after a minute");
}

/// The names of this process's threads that begin with this.
pub fn threads(prefix: &str) -> usize {
    let Ok(folder) = std::fs::read_dir("/proc/self/task") else { return 0 };
    folder
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with(prefix))
        .count()
}

/// Runs a future on a small runtime of the test's own.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
