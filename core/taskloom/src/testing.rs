//! Testing mode: an app on a clock that the test turns.
//!
//! The app has the real engine, driven ([`taskloom_engine::Drive::Driven`]), on a memory store. [`Testing`] owns the app and
//! what was submitted to it. Async handlers run on a [lane](crate::lane) that turns only when the engine is driven.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use taskloom_engine::{Clock, Drive, EngineOptions, Stop, Submits, SystemClock, VirtualClock};
use taskloom_model::{Result, Timestamp};

use crate::open::testing_store;
use crate::time::{system_time, timestamp};
use crate::{App, AppBuilder, Handle};

/// An app under a virtual clock.
///
/// Nothing runs by itself: the test turns the clock ([`Testing::advance`]), or has what is eligible run
/// ([`Testing::drain`], or waiting for a handle), and every delay, retry, timeout and expiry happens at its time, in the same
/// order each time, on the thread of the test.
///
/// ```
/// use std::time::Duration;
/// use taskloom::{App, Context, State, TaskError};
///
/// fn register(app: &App) -> taskloom::Result<()> {
///     app.task("remind", |who: String, _: &Context| -> Result<String, TaskError> { Ok(format!("hello {who}")) })
///         .register()
/// }
///
/// let testing = App::testing()?;
/// let app = testing.app();
/// register(app)?;
/// let three_days = Duration::from_secs(3 * 24 * 3600);
/// let handle = app.build("remind").input("Ada").delay(three_days).submit()?;
/// testing.advance(three_days - Duration::from_secs(1))?;
/// assert_eq!(handle.state(), State::Pending);
/// testing.advance(Duration::from_secs(1))?;
/// assert_eq!(handle.result::<String>()?, "hello Ada");
/// assert_eq!(testing.submitted()?[0].name(), "remind");
/// # Ok::<(), taskloom::Error>(())
/// ```
///
/// Async handlers run as well, with two bounds: timers of tokio's go by the real clock, so what is to be tested has its
/// waits as delays or retries; and what a handler awaits besides (sockets, tasks that it spawned) goes on only while the
/// engine is driven.
///
/// When it is dropped, what has not run is dropped too.
pub struct Testing {
    app: App,
    submits: Mutex<Submits>,
}

impl App {
    /// An app in testing mode, with the usual settings.
    pub fn testing() -> Result<Testing> {
        Self::builder().testing()
    }
}

impl AppBuilder {
    /// An app in testing mode, with these settings; in memory.
    ///
    /// Errors: `InvalidOption` for a setting that makes no sense.
    pub fn testing(self) -> Result<Testing> {
        self.testing_with(TestingOptions::default())
    }

    /// The same, as the options say.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use taskloom::{App, Context, State, TaskError, TestingOptions};
    ///
    /// let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_323_200);
    /// let options = TestingOptions { inline: true, start: Some(start), ..TestingOptions::default() };
    /// let testing = App::builder().testing_with(options)?;
    /// testing.app().task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
    /// assert_eq!(testing.app().submit("noop", &())?.state(), State::Succeeded);
    /// assert_eq!(testing.now(), start);
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn testing_with(self, options: TestingOptions) -> Result<Testing> {
        let start = options.start.map_or_else(|| SystemClock.now(), timestamp);
        let drive = Drive::Driven(Arc::new(VirtualClock::new(start)));
        let (store, own) = self.into_parts()?;
        let own = EngineOptions { drive, seed: Some(options.seed), ..own };
        let app = App::make(testing_store(store.capacity), own, options.inline)?;
        app.shared.engine.start()?;
        let submits = Mutex::new(Submits::of(&app.shared.engine)?);
        Ok(Testing { app, submits })
    }
}

/// How an app is put into testing mode.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestingOptions {
    /// A submit runs the task at once, on the calling thread, unless it has to wait for a time.
    pub inline: bool,
    /// When the clock begins; the present, if not given.
    pub start: Option<SystemTime>,
    /// What decides about ids and the jitter of retries: the same seed, the same run.
    pub seed: u64,
}

impl Testing {
    /// The app.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The time on the virtual clock.
    pub fn now(&self) -> SystemTime {
        system_time(self.app.shared.engine.now())
    }

    /// Turns the clock on by a span. Whatever is due meanwhile happens at its time, in order; what is eligible runs first.
    ///
    /// Errors: `WouldDeadlock` if there is no end to what runs at one time.
    pub fn advance(&self, span: Duration) -> Result<()> {
        self.app.shared.engine.advance(span)
    }

    /// Turns the clock to a time. To a later one as by [`Testing::advance`]; to an earlier one the clock of the day is set
    /// back, as somebody might set a wall clock, and no time goes by for timeouts.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let testing = taskloom::App::testing()?;
    /// let before = testing.now() - Duration::from_secs(3600);
    /// testing.set_time(before)?;
    /// assert_eq!(testing.now(), before);
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: those of [`Testing::advance`].
    pub fn set_time(&self, at: SystemTime) -> Result<()> {
        self.app.shared.engine.set_time(timestamp(at))
    }

    /// Runs everything that is eligible, and what becomes so by that, without turning the clock.
    ///
    /// ```
    /// # use taskloom::{App, Context, State, TaskError};
    /// let testing = App::testing()?;
    /// testing.app().task("noop", |_: (), _: &Context| -> Result<(), TaskError> { Ok(()) }).register()?;
    /// let handle = testing.app().submit("noop", &())?;
    /// assert_eq!(handle.state(), State::Queued);
    /// testing.drain()?;
    /// assert_eq!(handle.state(), State::Succeeded);
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    ///
    /// Errors: those of [`Testing::advance`].
    pub fn drain(&self) -> Result<()> {
        self.app.shared.engine.drain().map(drop)
    }

    /// Everything that was submitted, by whomever, oldest first: children too.
    pub fn submitted(&self) -> Result<Vec<Handle>> {
        let mut submits = self.submits.lock();
        let all = submits.all(&self.app.shared.engine)?;
        Ok(all.iter().map(|handle| Handle::new(handle.clone(), self.app.downgrade())).collect())
    }
}

impl Drop for Testing {
    fn drop(&mut self) {
        self.app.shared.engine.stop(Stop::Within(Duration::ZERO));
    }
}

impl fmt::Debug for Testing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Testing").field("now", &Timestamp::to_string(&self.app.shared.engine.now())).finish()
    }
}
