//! Schedules: tasks at times.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use taskloom_model::{
    CatchUp, Code, Cron, Error, Options, Overlap, Priority, Result, RetryPolicy, Rule, ScheduleRow,
    ScheduleSpec, TaskId, Template, Version, When,
};

use crate::execute::encode;
use crate::submit::in_place;
use crate::time::{system_time, timestamp};
use crate::{App, Handle};

/// The next times at which a cron expression fires after `start`, on the clocks of a time zone.
///
/// The expression has five fields (minute, hour, day of month, month, day of week), or six with the second first; names,
/// lists, ranges, steps, `L`, `W`, `#` and nicknames such as `@daily` are understood. `docs/schedules.md` says what happens
/// when clocks are set forward and back.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// // The last Friday of each month, nine in the morning in Rome.
/// let start = UNIX_EPOCH + Duration::from_secs(1_772_323_200); // 2026-03-01T00:00:00Z
/// let next = taskloom::next_firings("0 9 * * FRIL", "Europe/Rome", start, 2)?;
/// assert_eq!(next[0], UNIX_EPOCH + Duration::from_secs(1_774_598_400)); // 2026-03-27T08:00:00Z
/// assert_eq!(next[1], UNIX_EPOCH + Duration::from_secs(1_777_014_000)); // 2026-04-24T07:00:00Z
/// assert!(taskloom::next_firings("0 0 30 2 *", "UTC", start, 1).is_err()); // there is no 30 February
/// # Ok::<(), taskloom::Error>(())
/// ```
///
/// Errors: `InvalidSchedule` for an expression that cannot be read or never fires, and for an unknown zone.
pub fn next_firings(expression: &str, tz: &str, start: SystemTime, count: usize) -> Result<Vec<SystemTime>> {
    let firings = Cron::new(expression, tz)?.firings(timestamp(start), count)?;
    Ok(firings.into_iter().map(system_time).collect())
}

impl App {
    /// A schedule by a cron expression: see [`next_firings`] for what it may be, and [`ScheduleBuilder`].
    pub fn cron(&self, expression: &str) -> ScheduleBuilder<'_> {
        let (expression, tz) = (expression.to_owned(), "UTC".to_owned());
        ScheduleBuilder::new(self, Rule::Cron { expression, tz })
    }

    /// A schedule at a fixed interval of at least a millisecond: from its start if it has one, else from now on.
    pub fn every(&self, interval: Duration) -> ScheduleBuilder<'_> {
        ScheduleBuilder::new(self, Rule::Every(interval))
    }

    /// A schedule that fires once; at once, if that time is past.
    pub fn at(&self, at: SystemTime) -> ScheduleBuilder<'_> {
        ScheduleBuilder::new(self, Rule::Once(timestamp(at)))
    }

    /// The schedules of the app's store; see [`Schedules`].
    pub fn schedules(&self) -> Schedules<'_> {
        Schedules(self)
    }
}

/// A schedule about to be made.
///
/// ```
/// use std::time::Duration;
/// use taskloom::{App, CatchUp, Context, Overlap, TaskError};
///
/// let app = App::open("memory:")?;
/// app.task("report", |month: String, _: &Context| -> Result<(), TaskError> { Ok(drop(month)) }).register()?;
/// let nightly = app
///     .cron("0 3 * * MON-FRI")
///     .name("nightly")
///     .tz("Europe/Rome")
///     .overlap(Overlap::Queue)
///     .catch_up(CatchUp::All(5))
///     .jitter(Duration::from_secs(60))
///     .input("last")
///     .retries(3)
///     .schedule("report")?;
/// assert_eq!((nightly.name.as_str(), nightly.handler.as_str(), nightly.runs), ("nightly", "report", 0));
/// assert_eq!(app.schedules().next("nightly", 5)?.len(), 5);
/// # Ok::<(), taskloom::Error>(())
/// ```
#[must_use = "call schedule()"]
pub struct ScheduleBuilder<'a> {
    app: &'a App,
    name: Option<String>,
    rule: Rule,
    overlap: Overlap,
    catch_up: CatchUp,
    jitter: Duration,
    start: Option<SystemTime>,
    end: Option<SystemTime>,
    payload: Option<Result<Box<[u8]>>>,
    version: Option<Result<Version>>,
    options: Options,
}

impl<'a> ScheduleBuilder<'a> {
    fn new(app: &'a App, rule: Rule) -> Self {
        Self {
            app,
            name: None,
            rule,
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
            jitter: Duration::ZERO,
            start: None,
            end: None,
            payload: None,
            version: None,
            options: Options::default(),
        }
    }

    /// Its name, unique in the store; that of its handler if not given.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The time zone of a cron expression, by its IANA name; `UTC`. Other rules have none: it is refused then, when the
    /// schedule is made.
    pub fn tz(mut self, name: &str) -> Self {
        match &mut self.rule {
            Rule::Cron { tz, .. } => name.clone_into(tz),
            Rule::Every(_) | Rule::Once(_) => {
                self.payload = Some(Err(Error::new(
                    Code::InvalidSchedule,
                    format!("tz is {name:?}, and the schedule is by {}", self.rule.kind()),
                )
                .hint("a zone is for cron expressions")));
            }
        }
        self
    }

    /// What happens when a firing comes while the last one's task has not ended; it is left out.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// What happens to firings that nobody was there for: the newest one is made up for.
    pub fn catch_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }

    /// At most so much is added at random to each firing, and never so much that the next one would be reached; nothing.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// No firing before this time.
    pub fn start(mut self, at: SystemTime) -> Self {
        self.start = Some(at);
        self
    }

    /// No firing after this time.
    pub fn end(mut self, at: SystemTime) -> Self {
        self.end = Some(at);
        self
    }

    /// What the handler is given each time; `null` if left out.
    pub fn input<I: Serialize + ?Sized>(mut self, input: &I) -> Self {
        if !matches!(self.payload, Some(Err(_))) {
            self.payload = Some(encode("the input of a schedule", input));
        }
        self
    }

    /// The queue of its tasks.
    pub fn queue(mut self, queue: &str) -> Self {
        self.options.queue = Some(queue.to_owned());
        self
    }

    /// The priority of its tasks.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = Some(priority);
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// How long a task may take in total, from its firing on.
    pub fn deadline(mut self, span: Duration) -> Self {
        self.options.deadline = Some(When::In(span));
        self
    }

    /// A task that has not started so long after its firing expires.
    pub fn expires(mut self, span: Duration) -> Self {
        self.options.expires = Some(When::In(span));
        self
    }

    /// How many failures are followed by another attempt.
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = Some(retries);
        self
    }

    /// The waits between attempts.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(policy);
        self
    }

    /// Words to find its tasks by.
    pub fn tags<'t>(mut self, tags: impl IntoIterator<Item = &'t str>) -> Self {
        self.options.tags.extend(tags.into_iter().map(str::to_owned));
        self
    }

    /// A fact to find and explain its tasks by; call it once for each.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.options.metadata.retain(|(own, _)| own != key);
        self.options.metadata.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The version of the handler that runs its tasks; the newest if not given.
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.parse());
        self
    }

    /// Makes it, for a handler that is registered. If the store has a schedule of this name, that is given what is asked
    /// for now and keeps its history: counts, last firing, whether it is enabled, and its next time too unless the rule,
    /// the start or the end is another. So a program makes its schedules each time that it starts.
    ///
    /// Within one app a name stands for one schedule: the same may be asked for again, something else under its name is
    /// refused.
    ///
    /// Errors: `InvalidSchedule` for one that makes no sense, never fires, or has the name of another; `UnknownHandler`, with the nearest name;
    /// `InvalidOption`; `NotEncodable`; `MissingMetadata`; `StoreFailed`.
    pub fn schedule(self, handler: &str) -> Result<Schedule> {
        let mut options = self.options;
        options.version = self.version.transpose()?;
        let payload = self.payload.unwrap_or_else(|| Ok(Box::from(*b"null")))?;
        let spec = ScheduleSpec {
            name: self.name.unwrap_or_else(|| handler.to_owned()),
            rule: self.rule,
            overlap: self.overlap,
            catch_up: self.catch_up,
            jitter: self.jitter,
            start: self.start.map(timestamp),
            end: self.end.map(timestamp),
            template: Template { handler: handler.to_owned(), payload, options },
        };
        let engine = &self.app.shared.engine;
        let put = |spec| in_place(engine.is_durable(), || engine.put_schedule(spec));
        self.app.shared.declared.put(spec, put).map(|row| Schedule::from_row(&row))
    }
}

impl std::fmt::Debug for ScheduleBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScheduleBuilder").field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// A schedule, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub rule: Rule,
    /// The handler of its tasks.
    pub handler: String,
    /// What that is given, as JSON.
    pub input: Vec<u8>,
    /// The options of its tasks.
    pub options: Options,
    /// What happens when a firing comes while the last one's task has not ended.
    pub overlap: Overlap,
    /// What happens to missed firings.
    pub catch_up: CatchUp,
    /// At most so much is added at random to each firing.
    pub jitter: Duration,
    /// No firing before it.
    pub start: Option<SystemTime>,
    /// No firing after it.
    pub end: Option<SystemTime>,
    /// Whether it fires.
    pub enabled: bool,
    /// When it was made.
    pub created: SystemTime,
    /// Its next time, by its rule; none once it is over.
    pub next: Option<SystemTime>,
    /// Its last time, by its rule; or when it was last triggered.
    pub last: Option<SystemTime>,
    /// Its last task.
    pub last_task: Option<TaskId>,
    /// How many tasks it has submitted.
    pub runs: u64,
    /// How many of them failed, timed out or expired.
    pub failures: u64,
    /// How many firings were left out, since an earlier one's task had not ended.
    pub skipped: u64,
    /// How many firings wait for the last one's task to end.
    pub waiting: usize,
}

impl Schedule {
    fn from_row(row: &ScheduleRow) -> Self {
        let spec = row.spec.clone();
        Self {
            name: spec.name,
            rule: spec.rule,
            handler: spec.template.handler,
            input: spec.template.payload.into(),
            options: spec.template.options,
            overlap: spec.overlap,
            catch_up: spec.catch_up,
            jitter: spec.jitter,
            start: spec.start.map(system_time),
            end: spec.end.map(system_time),
            enabled: row.enabled,
            created: system_time(row.created),
            next: row.next.map(system_time),
            last: row.last.map(system_time),
            last_task: row.last_task,
            runs: row.runs,
            failures: row.failures,
            skipped: row.skipped,
            waiting: row.waiting.len(),
        }
    }
}

/// The schedules of an app's store: what an operator does with them. See [`App::schedules`].
///
/// Every method fails with `StoreFailed` if the store does; those that name a schedule with `UnknownSchedule`, with the
/// nearest name, if there is none.
///
/// ```
/// use std::time::Duration;
/// use taskloom::{App, Context, Overlap, TaskError};
///
/// let app = App::open("memory:")?;
/// app.task("ping", |_: (), _: &Context| -> Result<u32, TaskError> { Ok(1) }).register()?;
/// app.every(Duration::from_secs(60)).schedule("ping")?;
/// let running = app.start()?;
/// let schedules = app.schedules();
/// assert_eq!(schedules.trigger("ping")?.wait::<u32>()?, 1);
/// assert!(schedules.disable("ping")? && schedules.next("ping", 1)?.is_empty());
/// assert!(schedules.enable("ping")?);
/// schedules.update("ping", |spec| spec.overlap = Overlap::Replace)?;
/// assert_eq!(schedules.list()?[0].runs, 1);
/// schedules.remove("ping")?;
/// assert!(schedules.get("ping")?.is_none());
/// running.stop();
/// # Ok::<(), taskloom::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Schedules<'a>(&'a App);

impl Schedules<'_> {
    fn change<T>(self, call: impl FnOnce(&taskloom_engine::Engine) -> Result<T>) -> Result<T> {
        let engine = &self.0.shared.engine;
        in_place(engine.is_durable(), || call(engine))
    }

    /// All of them, by name.
    pub fn list(self) -> Result<Vec<Schedule>> {
        Ok(self.change(taskloom_engine::Engine::schedules)?.iter().map(Schedule::from_row).collect())
    }

    /// The one of this name.
    pub fn get(self, name: &str) -> Result<Option<Schedule>> {
        Ok(self.change(|engine| engine.schedule(name))?.as_ref().map(Schedule::from_row))
    }

    /// Changes what is asked of one; its name stays. Errors: also those of [`ScheduleBuilder::schedule`].
    pub fn update(self, name: &str, change: impl FnOnce(&mut ScheduleSpec)) -> Result<Schedule> {
        self.change(|engine| engine.update_schedule(name, change)).map(|row| Schedule::from_row(&row))
    }

    /// Lets one fire, from now on: what it missed while it was disabled is past. Whether that was new.
    pub fn enable(self, name: &str) -> Result<bool> {
        self.change(|engine| engine.enable_schedule(name))
    }

    /// Stops one from firing, until it is enabled; firings that wait are dropped. Whether that was new.
    pub fn disable(self, name: &str) -> Result<bool> {
        self.change(|engine| engine.disable_schedule(name))
    }

    /// Submits a task of one now, by hand: even if it is disabled, and whatever its last task does. Its next time stays.
    pub fn trigger(self, name: &str) -> Result<Handle> {
        let handle = self.change(|engine| engine.trigger_schedule(name))?;
        Ok(Handle::new(handle, self.0.downgrade()))
    }

    /// Takes one away, with its counts. What it has submitted goes on.
    pub fn remove(self, name: &str) -> Result<()> {
        self.change(|engine| engine.remove_schedule(name))?;
        self.0.shared.declared.forget(name);
        Ok(())
    }

    /// The next times at which one fires, by its rule: none once it is over, or while it is disabled.
    pub fn next(self, name: &str, count: usize) -> Result<Vec<SystemTime>> {
        let firings = self.change(|engine| engine.next_firings(name, count))?;
        Ok(firings.into_iter().map(system_time).collect())
    }
}
