//! The application: handlers, submits, handles, with values instead of bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use taskloom_engine::{Attempt, Engine, EngineOptions, Failed, Handler, HandlerEntry, Outcome, Stop};
use taskloom_model::{Admission, Code, Error, Options, Priority, Result, RetryPolicy, State, TaskId, When};

use crate::open::{Durability, open_store};

/// Settings of an [`App`].
#[derive(Debug, Default)]
pub struct AppBuilder {
    workers: Option<usize>,
    durability: Durability,
}

impl AppBuilder {
    /// How many worker threads; as many as the cores and four more, at most 32.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// What "accepted" means on a file: on disk (the default), or safe from a crash of the process only.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Opens the store and makes the application.
    pub fn open(self, url: &str) -> Result<App> {
        if self.workers == Some(0) {
            return Err(Error::new(Code::InvalidOption, "workers is 0: nothing would ever run")
                .hint("an app that only submits needs no workers: do not start it"));
        }
        let mut options = EngineOptions::default();
        if let Some(workers) = self.workers {
            options.workers = workers;
        }
        Ok(App { engine: Arc::new(Engine::new(open_store(url, self.durability)?, options)?) })
    }
}

/// Handlers and the tasks for them, over one store.
#[derive(Clone)]
pub struct App {
    engine: Arc<Engine>,
}

impl App {
    /// An application with the usual settings. See [`crate::open_store`] for the URLs.
    pub fn open(url: &str) -> Result<Self> {
        Self::builder().open(url)
    }

    /// Settings first.
    pub fn builder() -> AppBuilder {
        AppBuilder::default()
    }

    /// A handler: a function of the input and the context. It is there once [`TaskRegistration::register`] is called.
    pub fn task<I, O, F>(&self, name: &str, handler: F) -> TaskRegistration<'_>
    where
        I: DeserializeOwned,
        O: Serialize,
        F: Fn(I, &Context) -> Result<O, TaskError> + Send + Sync + 'static,
    {
        TaskRegistration {
            app: self,
            name: name.to_owned(),
            options: Options::default(),
            handler: Handler::Blocking(Box::new(move |attempt: &Attempt| run(&handler, attempt))),
        }
    }

    /// Starts the workers. They stop when the guard is told to, or dropped.
    pub fn start(&self) -> Result<Running> {
        self.engine.start()?;
        Ok(Running { engine: Some(Arc::clone(&self.engine)) })
    }

    /// Submits a task with its handler's options.
    pub fn submit<I: Serialize + ?Sized>(&self, name: &str, input: &I) -> Result<Handle> {
        let entry = self.engine.handler(name)?;
        let payload = encode(name, input)?;
        Ok(Handle(self.engine.submit(&entry, entry.admission(), payload, None, false)?))
    }

    /// Submits many tasks of one handler: all or none, in one transaction.
    pub fn submit_many<I: Serialize>(&self, name: &str, inputs: &[I]) -> Result<Vec<Handle>> {
        let entry = self.engine.handler(name)?;
        let payloads = inputs.iter().map(|input| encode(name, input)).collect::<Result<Vec<_>>>()?;
        let payloads = payloads.into_iter().map(|payload| (payload, None));
        Ok(self
            .engine
            .submit_many(&entry, entry.admission(), payloads, false)?
            .into_iter()
            .map(Handle)
            .collect())
    }

    /// Submits a task with options of its own.
    pub fn build<'a>(&'a self, name: &'a str) -> TaskBuilder<'a> {
        TaskBuilder { app: self, name, payload: None, options: Options::default() }
    }

    /// Cancels a task. True if it was or will be cancelled, false if it had ended.
    pub fn cancel(&self, id: TaskId, reason: Option<&str>) -> Result<bool> {
        self.engine.cancel(id, reason)
    }

    /// A handle for a task, from its id.
    pub fn get(&self, id: TaskId) -> Result<Option<Handle>> {
        Ok(self.engine.get(id)?.map(Handle))
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

fn encode<I: Serialize + ?Sized>(name: &str, input: &I) -> Result<Box<[u8]>> {
    serde_json::to_vec(input).map(Vec::into_boxed_slice).map_err(|error| {
        Error::new(Code::NotEncodable, format!("the input for {name} cannot be written as JSON: {error}"))
            .hint("JSON has no NaN and no keys but strings")
            .caused_by(error)
    })
}

fn run<I: DeserializeOwned, O: Serialize>(
    handler: &impl Fn(I, &Context) -> Result<O, TaskError>,
    attempt: &Attempt,
) -> Outcome {
    let input = match serde_json::from_slice(&attempt.task().spec().payload) {
        Ok(input) => input,
        Err(error) => {
            return TaskError::permanent(format!("the payload is not what the handler takes: {error}"))
                .of_kind("InvalidPayload")
                .into_outcome();
        }
    };
    let context = Context { attempt: attempt.clone() };
    match handler(input, &context) {
        Ok(output) => match serde_json::to_vec(&output) {
            Ok(result) => Outcome::success(result),
            Err(error) => TaskError::permanent(format!("the result cannot be written as JSON: {error}"))
                .of_kind("InvalidPayload")
                .into_outcome(),
        },
        Err(error) => error.into_outcome(),
    }
}

/// A handler about to be registered.
#[must_use = "call register()"]
pub struct TaskRegistration<'a> {
    app: &'a App,
    name: String,
    options: Options,
    handler: Handler,
}

impl TaskRegistration<'_> {
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

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Registers it.
    pub fn register(self) -> Result<()> {
        self.app.engine.register(&self.name, self.options, self.handler).map(|_: Arc<HandlerEntry>| ())
    }
}

/// A task about to be submitted.
#[must_use = "call submit()"]
pub struct TaskBuilder<'a> {
    app: &'a App,
    name: &'a str,
    payload: Option<Result<Box<[u8]>>>,
    options: Options,
}

impl TaskBuilder<'_> {
    /// What the handler is given; `null` if left out.
    pub fn input<I: Serialize + ?Sized>(mut self, input: &I) -> Self {
        self.payload = Some(encode(self.name, input));
        self
    }

    /// Its own id.
    pub fn id(mut self, id: TaskId) -> Self {
        self.options.id = Some(id);
        self
    }

    /// Its queue.
    pub fn queue(mut self, queue: &str) -> Self {
        self.options.queue = Some(queue.to_owned());
        self
    }

    /// Its priority.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = Some(priority);
        self
    }

    /// Not before this time from now.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.options.eta = Some(When::In(delay));
        self
    }

    /// Expired if not started in this time from now.
    pub fn expires(mut self, span: Duration) -> Self {
        self.options.expires = Some(When::In(span));
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// How many failures are followed by another attempt.
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = Some(retries);
        self
    }

    /// Submits it.
    pub fn submit(self) -> Result<Handle> {
        let engine = &self.app.engine;
        let entry = engine.handler(self.name)?;
        let admission: Admission = engine.admission(&self.options.over(entry.options()))?;
        let payload = self.payload.unwrap_or_else(|| Ok(Box::from(*b"null")))?;
        Ok(Handle(engine.submit(&entry, &admission, payload, None, false)?))
    }
}

/// What a handler may ask and tell while it works.
pub struct Context {
    attempt: Attempt,
}

impl Context {
    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.attempt.task().id()
    }

    /// Which attempt this is, from one.
    pub fn attempt(&self) -> u32 {
        self.attempt.fence().attempt
    }

    /// Whether the task was cancelled or timed out: the handler should stop.
    pub fn is_cancelled(&self) -> bool {
        self.attempt.is_cancelled()
    }

    /// Tells how far it is, from 0 to 1.
    pub fn progress(&self, value: f64, message: impl Into<String>) -> Result<()> {
        self.attempt.progress(value, Some(message.into()))
    }

    /// Saves where the next attempt can go on from.
    pub fn save_checkpoint<T: Serialize>(&self, value: &T) -> Result<()> {
        self.attempt.save_checkpoint(Some(encode("a checkpoint", value)?))
    }

    /// What an earlier attempt saved.
    pub fn load_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let Some(bytes) = self.attempt.checkpoint() else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Error::new(Code::WrongType, format!("the checkpoint is of another type: {error}"))
                .caused_by(error)
        })
    }
}

/// Why a handler failed.
#[derive(Clone, Debug)]
pub struct TaskError(Failed);

impl TaskError {
    /// An error that is retried while retries are left.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Failed {
            kind: "TaskError".into(),
            message: message.into(),
            backtrace: String::new(),
            permanent: false,
            retry_after: None,
        })
    }

    /// An error after which another attempt would be pointless.
    pub fn permanent(message: impl Into<String>) -> Self {
        let mut error = Self::new(message);
        error.0.permanent = true;
        error
    }

    /// Asks for the next attempt after this time, instead of the backoff.
    #[must_use]
    pub fn retry_after(mut self, span: Duration) -> Self {
        self.0.retry_after = Some(span);
        self
    }

    /// Names its type, for those who look at the task.
    #[must_use]
    pub fn of_kind(mut self, kind: &str) -> Self {
        self.0.kind = kind.to_owned();
        self
    }

    fn into_outcome(self) -> Outcome {
        Outcome::Failed(self.0)
    }
}

impl<E: std::error::Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::new(error.to_string()).of_kind(std::any::type_name::<E>())
    }
}

/// A submitted task.
#[derive(Clone, Debug)]
pub struct Handle(taskloom_engine::Handle);

impl Handle {
    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.0.id()
    }

    /// Where the task is in its life.
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// Whether there is an outcome.
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }

    /// Waits for the result, at most so long.
    ///
    /// Errors: `WaitTimeout`, or how the task ended: `TaskFailed`, `TaskTimedOut`, `TaskCancelled`, `TaskExpired`,
    /// `ShutDown`; `WrongType` if the result is not a `T`.
    pub fn wait_for<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T> {
        self.0.wait(Some(timeout))?;
        self.value()
    }

    /// Waits for the result.
    pub fn wait<T: DeserializeOwned>(&self) -> Result<T> {
        self.0.wait(None)?;
        self.value()
    }

    fn value<T: DeserializeOwned>(&self) -> Result<T> {
        let bytes = self.0.outcome()?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let wanted = std::any::type_name::<T>();
            Error::new(Code::WrongType, format!("the result is not a {wanted}: {error}")).caused_by(error)
        })
    }

    /// Calls `done` once when there is an outcome: on the thread that brings it, or here if it is there. It must not
    /// block.
    pub fn on_done(&self, done: impl FnOnce(&Self) + Send + 'static) {
        let own = self.clone();
        self.0.task().observe(move |_| done(&own));
    }
}

/// Running workers. They are stopped, gracefully, when this is dropped.
#[must_use = "the workers stop when this is dropped"]
pub struct Running {
    engine: Option<Arc<Engine>>,
}

impl Running {
    /// Finishes what is eligible and stops.
    pub fn stop(mut self) {
        self.end(Stop::Finish);
    }

    /// Finishes what it can in this time, and stops.
    pub fn stop_within(mut self, span: Duration) {
        self.end(Stop::Within(span));
    }

    fn end(&mut self, how: Stop) {
        if let Some(engine) = self.engine.take() {
            engine.stop(how);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Stop::Finish);
    }
}
