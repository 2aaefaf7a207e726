//! The settings of an app.

use std::time::Duration;

use taskloom_engine::{EngineOptions, Served};
use taskloom_model::{Code, Error, Name, Result, check_name};

use crate::App;
use crate::open::{Durability, StoreOptions, open_store_with};

/// Settings of an [`App`].
///
/// ```
/// use std::time::Duration;
/// use taskloom::App;
///
/// let app = App::builder()
///     .workers(4)
///     .max_in_flight(200)
///     .queues(["urgent", "default"])
///     .capacity(50_000)
///     .wait_when_full()
///     .open("memory:")?;
/// assert!(app.health().ok);
/// # Ok::<(), taskloom::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct AppBuilder {
    workers: Option<usize>,
    max_in_flight: Option<usize>,
    queues: Option<Result<Served>>,
    store: StoreOptions,
    wait_when_full: bool,
    retention: Option<Duration>,
    require_metadata: Vec<String>,
}

impl AppBuilder {
    /// How many worker threads run blocking handlers; as many as the cores and four more, at most 32.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How many async handlers may be in flight at once; 1,000.
    #[must_use]
    pub fn max_in_flight(mut self, max: usize) -> Self {
        self.max_in_flight = Some(max);
        self
    }

    /// The queues that this app serves, the first ones first; all of them, each in turn, if neither this nor
    /// [`AppBuilder::weighted_queues`] is called. Even the last is served in the long run.
    ///
    /// In memory, where nobody else could run it, a task for any other queue is refused.
    #[must_use]
    pub fn queues<'a>(mut self, queues: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<_> = queues.into_iter().collect();
        self.queues =
            Some(check_queues(&names).map(|()| Served::InOrder(names.into_iter().map(Name::new).collect())));
        self
    }

    /// The queues that this app serves, each with its share of what is run: with `[("a", 3), ("b", 1)]`, three of `a` for
    /// each one of `b` while both have tasks.
    #[must_use]
    pub fn weighted_queues<'a>(mut self, queues: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let weights: Vec<_> = queues.into_iter().collect();
        let names: Vec<_> = weights.iter().map(|(name, _)| *name).collect();
        let zero = weights.iter().find(|(_, weight)| *weight == 0);
        self.queues = Some(match zero {
            Some((name, _)) => {
                Err(Error::new(Code::InvalidOption, format!("the weight of queue {name:?} is 0"))
                    .hint("leave the queue out, or give it a weight of 1 or more"))
            }
            None => check_queues(&names).map(|()| {
                Served::ByWeight(
                    weights.into_iter().map(|(name, weight)| (Name::new(name), weight)).collect(),
                )
            }),
        });
        self
    }

    /// How many unfinished tasks a memory store takes; a million. Refused on other stores: a file takes what the disk
    /// holds.
    #[must_use]
    pub fn capacity(mut self, tasks: usize) -> Self {
        self.store.capacity = Some(tasks);
        self
    }

    /// A submit waits for room in a store that is full, instead of failing with `QueueFull`. One from inside a handler,
    /// or one that is awaited, never waits for that: the room might be its own to make.
    #[must_use]
    pub fn wait_when_full(mut self) -> Self {
        self.wait_when_full = true;
        self
    }

    /// What "accepted" means on a file: on disk (the default), or safe from a crash of the process only.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.store.durability = durability;
        self
    }

    /// How long ended tasks are kept in a file; seven days. (In memory the newest 10,000 are kept, of whatever age.)
    #[must_use]
    pub fn retention(mut self, span: Duration) -> Self {
        self.retention = Some(span);
        self
    }

    /// Keys that the metadata of every task must have: a submit without them is refused with `MissingMetadata`.
    ///
    /// ```
    /// use taskloom::{App, Code, Context, TaskError};
    /// let app = App::builder().require_metadata(["initiator"]).open("memory:")?;
    /// app.task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
    /// assert_eq!(app.submit("noop", &()).unwrap_err().code(), Code::MissingMetadata);
    /// app.build("noop").metadata("initiator", "ada").submit()?;
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    #[must_use]
    pub fn require_metadata<'a>(mut self, keys: impl IntoIterator<Item = &'a str>) -> Self {
        self.require_metadata = keys.into_iter().map(str::to_owned).collect();
        self
    }

    /// Opens the store and makes the application. No thread is started yet.
    ///
    /// Errors: `InvalidOption` for a setting that makes no sense, or that this store does not have; `InvalidStoreUrl`;
    /// those of the store.
    pub fn open(self, url: &str) -> Result<App> {
        let (store, options) = self.into_parts()?;
        App::make(open_store_with(url, store)?, options, false)
    }

    /// What the store is opened with, and what the engine is made with.
    pub(crate) fn into_parts(self) -> Result<(StoreOptions, EngineOptions)> {
        let none = |what: &str| {
            Error::new(Code::InvalidOption, format!("{what} is 0: nothing would ever run"))
                .hint("an app that only submits needs no workers: do not start it")
        };
        if self.workers == Some(0) {
            return Err(none("workers"));
        }
        if self.max_in_flight == Some(0) {
            return Err(none("max_in_flight"));
        }
        if self.store.capacity == Some(0) {
            return Err(Error::new(Code::InvalidOption, "capacity is 0: no task would be accepted"));
        }
        let usual = EngineOptions::default();
        let options = EngineOptions {
            workers: self.workers.unwrap_or(usual.workers),
            max_in_flight: self.max_in_flight.unwrap_or(usual.max_in_flight),
            queues: self.queues.unwrap_or(Ok(Served::All))?,
            wait_when_full: self.wait_when_full,
            retention: self.retention.or(usual.retention),
            require_metadata: self.require_metadata,
            ..usual
        };
        Ok((self.store, options))
    }
}

fn check_queues(names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::new(Code::InvalidOption, "queues is empty: nothing would ever run")
            .hint("leave it out to serve all queues"));
    }
    for (place, name) in names.iter().enumerate() {
        check_name("queue", name)?;
        if names[..place].contains(name) {
            return Err(Error::new(Code::InvalidOption, format!("queue {name:?} is named twice")));
        }
    }
    Ok(())
}
