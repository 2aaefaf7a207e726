//! A handler on its way into the registry.

use std::sync::Arc;
use std::time::Duration;

use taskloom_engine::{Handler, Hook, Registration};
use taskloom_model::{Options, Priority, Rate, Result, RetryPolicy, Version, When};

use crate::hooks::{HandlerHooks, HookFn};
use crate::retry_if::{RetryIf, RetryIfSlot};
use crate::{Again, App, TaskError, TaskInfo};

/// A handler about to be registered, with the options that its tasks have where a submit says nothing else.
///
/// ```
/// use std::time::Duration;
/// use taskloom::{App, Context, Priority, RetryPolicy, TaskError};
///
/// let app = App::open("memory:")?;
/// app.task("mail/send", |to: String, _: &Context| -> Result<(), TaskError> { Ok(drop(to)) })
///     .version("1.2.0")
///     .queue("mail")
///     .priority(Priority::High)
///     .retries(3)
///     .retry(RetryPolicy { base: Duration::from_millis(100), ..RetryPolicy::default() })
///     .timeout(Duration::from_secs(10))
///     .on_failure(|task| eprintln!("{} failed: {:?}", task.id, task.errors.last()))
///     .register()?;
/// assert_eq!(app.handlers()[0].version.to_string(), "1.2.0");
/// # Ok::<(), taskloom::Error>(())
/// ```
#[must_use = "call register()"]
pub struct TaskRegistration<'a> {
    app: &'a App,
    name: String,
    version: Result<Version>,
    replace: bool,
    options: Options,
    handler: Handler,
    hooks: HandlerHooks,
    retry_if: Option<RetryIf>,
    retry_if_slot: RetryIfSlot,
}

impl<'a> TaskRegistration<'a> {
    pub(crate) fn new(app: &'a App, name: &str, handler: Handler, retry_if_slot: RetryIfSlot) -> Self {
        Self {
            app,
            name: name.to_owned(),
            version: Ok(Version::default()),
            replace: false,
            options: Options::default(),
            handler,
            hooks: HandlerHooks::new(Arc::clone(&app.shared.hooks)),
            retry_if: None,
            retry_if_slot,
        }
    }

    /// Its version, such as `1.2.0` or `2`; none if not given. A name may have several: a task is run by the newest,
    /// unless it asks for another.
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.parse();
        self
    }

    /// It may take the place of a handler with the same name and version, which is refused otherwise. Attempts that run
    /// go on with the old one.
    pub fn replace(mut self) -> Self {
        self.replace = true;
        self
    }

    /// The queue of its tasks; `default`.
    pub fn queue(mut self, queue: &str) -> Self {
        self.options.queue = Some(queue.to_owned());
        self
    }

    /// The priority of its tasks; normal.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = Some(priority);
        self
    }

    /// How many failures are followed by another attempt; 0, since only you know whether it may run twice.
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = Some(retries);
        self
    }

    /// The waits between attempts; 1 s, doubled each time, at most 30 s, of which a random part is waited.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(policy);
        self
    }

    /// Whether an error is worth another attempt; while retries are left, every one is.
    ///
    /// The function is given the error, and how often the task has failed, this time included. It returns an [`Again`],
    /// or what becomes one: a `bool`, or the [`Duration`] to wait instead of what [`TaskRegistration::retry`] says (to
    /// which the cap does not apply).
    ///
    /// It is asked while retries are left, about errors that the handler (or a middleware) returned. An error that says
    /// itself what is to follow ([`TaskError::permanent`], [`TaskError::retry_after`]) goes before it; panics, timeouts
    /// and lost workers are no errors in this sense, and are retried as ever. It is called where the handler ran and
    /// should not block. If it panics, that is told on standard error once, and the task is retried as if there were no
    /// function.
    ///
    /// ```
    /// use std::time::Duration;
    /// use taskloom::{Again, App, Context, TaskError};
    ///
    /// let app = App::open("memory:")?;
    /// app.task("fetch", |status: u32, _: &Context| -> Result<(), TaskError> {
    ///     Err(TaskError::new(format!("status {status}")).of_kind(if status < 500 { "Refused" } else { "Down" }))
    /// })
    /// .retries(1)
    /// .retry_if(|error, failures| match error.kind() {
    ///     "Refused" => Again::No,
    ///     _ if failures == 1 => Again::After(Duration::ZERO),
    ///     _ => Again::Yes,
    /// })
    /// .register()?;
    /// # let running = app.start()?;
    /// let (refused, down) = (app.submit("fetch", &404)?, app.submit("fetch", &503)?);
    /// assert!(refused.wait::<()>().is_err() && down.wait::<()>().is_err());
    /// assert_eq!((refused.errors().len(), down.errors().len()), (1, 2));
    /// # running.stop();
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn retry_if<A: Into<Again>>(
        mut self,
        function: impl Fn(&TaskError, u32) -> A + Send + Sync + 'static,
    ) -> Self {
        self.retry_if = Some(RetryIf::new(function));
        self
    }

    /// How long one attempt may take; for ever.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// How long a task may take in total, from its submit, retries included; for ever.
    pub fn deadline(mut self, span: Duration) -> Self {
        self.options.deadline = Some(When::In(span));
        self
    }

    /// A task that has not started so long after its submit expires; never.
    pub fn expires(mut self, span: Duration) -> Self {
        self.options.expires = Some(When::In(span));
        self
    }

    /// Words to find its tasks by.
    pub fn tags<'t>(mut self, tags: impl IntoIterator<Item = &'t str>) -> Self {
        self.options.tags.extend(tags.into_iter().map(str::to_owned));
        self
    }

    /// How many of its tasks run at once; with [`TaskRegistration::keyed`], how many with the same key. No limit.
    ///
    /// It holds for all processes that share the store. [`App::limit`] changes it at run time.
    pub fn concurrency(mut self, most: u32) -> Self {
        self.options.concurrency = Some(most);
        self
    }

    /// How many of its tasks start in a period; with [`TaskRegistration::keyed`], how many with the same key. No limit.
    ///
    /// ```
    /// use taskloom::{App, Context, TaskError};
    /// let app = App::open("memory:")?;
    /// app.task("notify", |user: u32, _: &Context| -> Result<u32, TaskError> { Ok(user) }).rate("10/s".parse()?).register()?;
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn rate(mut self, rate: Rate) -> Self {
        self.options.rate = Some(rate);
        self
    }

    /// Its limits hold for each key by itself, among the tasks that are submitted with [`TaskBuilder::key`].
    ///
    /// [`TaskBuilder::key`]: crate::TaskBuilder::key
    pub fn keyed(mut self) -> Self {
        self.options.per_key = true;
        self
    }

    /// How many lost worker processes make a task fail; 3.
    pub fn max_crashes(mut self, crashes: u8) -> Self {
        self.options.max_crashes = Some(crashes);
        self
    }

    /// Called when a task of this handler that ran here has succeeded.
    ///
    /// Hooks are called after the commit, one after the other on one thread of the app's, so they may block, but then the
    /// others wait. A hook may submit. It should hold the app weakly ([`App::downgrade`]). If it panics, that is told on
    /// standard error once, and all else goes on.
    pub fn on_success(mut self, hook: impl Fn(&TaskInfo) + Send + Sync + 'static) -> Self {
        self.hooks.success = Some(HookFn::new(hook));
        self
    }

    /// Called when an attempt that ran here has failed or timed out, and there will be another. See
    /// [`TaskRegistration::on_success`].
    pub fn on_retry(mut self, hook: impl Fn(&TaskInfo) + Send + Sync + 'static) -> Self {
        self.hooks.retry = Some(HookFn::new(hook));
        self
    }

    /// Called when a task of this handler that ran here has failed or timed out for good. See
    /// [`TaskRegistration::on_success`].
    pub fn on_failure(mut self, hook: impl Fn(&TaskInfo) + Send + Sync + 'static) -> Self {
        self.hooks.failure = Some(HookFn::new(hook));
        self
    }

    /// Registers it.
    ///
    /// Errors: `HandlerExists`; `InvalidOption` for a name, a version or an option that makes no sense.
    pub fn register(self) -> Result<()> {
        #[cfg(feature = "async")]
        let is_async = matches!(self.handler, Handler::Asynchronous(_));
        if let Some(rule) = self.retry_if {
            // Nobody else has the slot but the handler, which does not run yet.
            let _ = self.retry_if_slot.set(rule);
        }
        let registration = Registration {
            version: self.version?,
            replace: self.replace,
            options: self.options,
            handler: self.handler,
            hook: self.hooks.any().then(|| Arc::new(self.hooks) as Arc<dyn Hook>),
        };
        self.app.shared.engine.register_with(&self.name, registration)?;
        #[cfg(feature = "async")]
        if is_async {
            self.app.needs_lane()?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for TaskRegistration<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskRegistration").field("name", &self.name).finish_non_exhaustive()
    }
}
