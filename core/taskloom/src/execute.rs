//! From a typed function to what the engine runs: decoding, middleware, encoding.
//!
//! A blocking handler runs on the worker's own stack. Only where there is middleware is it wrapped into a future, so
//! that one middleware fits both kinds of handler; the worker thread then runs that future to its end.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use taskloom_engine::{Attempt, Handler, Outcome};
use taskloom_model::{Code, Error, Result};

use crate::app::WeakApp;
use crate::finite;
use crate::retry_if::{RetryIf, RetryIfSlot};
use crate::waiting::block_on;
use crate::{Context, TaskError};

/// What a handler's run comes to.
pub(crate) type Answer = std::result::Result<Returned, TaskError>;

/// A handler's run.
pub(crate) type Run = Pin<Box<dyn Future<Output = Answer> + Send>>;

type Inner = Arc<dyn Fn(Context) -> Run + Send + Sync>;
type Layer = Arc<dyn Fn(Context, Next) -> Run + Send + Sync>;

/// What a handler returned, encoded as JSON.
///
/// ```
/// use taskloom::Returned;
/// let returned = Returned::new(&[1, 2])?;
/// assert_eq!(returned.json(), "[1,2]");
/// assert_eq!(returned.get::<Vec<u32>>()?, [1, 2]);
/// assert!(returned.get::<String>().is_err());
/// # Ok::<(), taskloom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned(pub(crate) Box<[u8]>);

impl Returned {
    /// Encodes a value.
    ///
    /// Errors: `ResultNotEncodable` for what JSON cannot say.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let what = format_args!("the result of type {}", std::any::type_name::<T>());
        Ok(Self(write(Code::ResultNotEncodable, &what, value)?))
    }

    /// Decodes it.
    ///
    /// Errors: `WrongType` if it is not a `T`.
    pub fn get<T: DeserializeOwned>(&self) -> Result<T> {
        decode("the result", &self.0)
    }

    /// The JSON.
    pub fn json(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Decodes what a store keeps, naming what it is and what was wanted.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| {
        let wanted = std::any::type_name::<T>();
        Error::new(Code::WrongType, format!("{what} is not a {wanted}: {error}")).caused_by(error)
    })
}

/// Encodes a payload, a checkpoint or the like.
pub(crate) fn encode<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Box<[u8]>> {
    write(Code::NotEncodable, &what, value)
}

fn write<T: Serialize + ?Sized>(code: Code, what: &dyn Display, value: &T) -> Result<Box<[u8]>> {
    let (json, has_null) = finite::to_vec(value).map_err(|error| {
        Error::new(code, format!("{what} cannot be written as JSON: {error}"))
            .hint("JSON has no keys but strings")
            .caused_by(error)
    })?;
    if has_null && let Some(found) = finite::find(value) {
        return Err(Error::new(code, format!("{what} at {found} is not JSON"))
            .hint("JSON has finite numbers only; an Option can say that there is none"));
    }
    Ok(json.into_boxed_slice())
}

/// The rest of an execution, as a middleware sees it: the middleware below it, and the handler.
///
/// See [`App::middleware`](crate::App::middleware).
pub struct Next {
    layers: Arc<[Layer]>,
    place: usize,
    inner: Inner,
    context: Context,
}

impl Next {
    /// Runs it. A middleware that does not call it decides the outcome itself.
    pub async fn run(self) -> std::result::Result<Returned, TaskError> {
        self.start().await
    }

    fn start(mut self) -> Run {
        match self.layers.get(self.place).cloned() {
            Some(layer) => {
                self.place += 1;
                layer(self.context.clone(), self)
            }
            None => (self.inner)(self.context),
        }
    }
}

impl std::fmt::Debug for Next {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

/// An app's middleware, outermost first.
#[derive(Default)]
pub(crate) struct Layers {
    any: AtomicBool,
    list: RwLock<Arc<[Layer]>>,
}

impl Layers {
    pub(crate) fn add<F, Fut>(&self, layer: F)
    where
        F: Fn(Context, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let layer: Layer = Arc::new(move |context, next| Box::pin(layer(context, next)));
        let mut list = self.list.write();
        *list = list.iter().cloned().chain([layer]).collect();
        self.any.store(true, Ordering::Release);
    }

    fn around(&self, inner: &Inner, context: &Context) -> Option<Run> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let layers = Arc::clone(&self.list.read());
        let next = Next { layers, place: 0, inner: Arc::clone(inner), context: context.clone() };
        Some(next.start())
    }
}

/// A handler that runs on a worker thread.
pub(crate) fn blocking<I, O, F>(
    app: WeakApp,
    layers: Arc<Layers>,
    retry_if: RetryIfSlot,
    handler: F,
) -> Handler
where
    I: DeserializeOwned,
    O: Serialize,
    F: Fn(I, &Context) -> std::result::Result<O, TaskError> + Send + Sync + 'static,
{
    let handler = Arc::new(move |context: &Context| -> Answer {
        let input = input_of(context)?;
        answer(&handler(input, context)?)
    });
    let own = Arc::clone(&handler);
    let inner: Inner = Arc::new(move |context| {
        let own = Arc::clone(&own);
        Box::pin(async move { own(&context) })
    });
    Handler::Blocking(Box::new(move |attempt: &Attempt| {
        let context = Context::new(attempt.clone(), app.clone(), None);
        // Also when the handler panics.
        let _ends = EndsBlocking(&context);
        let answer = match layers.around(&inner, &context) {
            Some(run) => block_on(run),
            None => handler(&context),
        };
        outcome(answer, retry_if.get().map(|rule| (rule, &context)))
    }))
}

struct EndsBlocking<'a>(&'a Context);

impl Drop for EndsBlocking<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// A handler that runs as a future: the value that the engine keeps for the lane.
#[cfg(feature = "async")]
pub(crate) struct AsyncHandler {
    layers: Arc<Layers>,
    retry_if: RetryIfSlot,
    inner: Inner,
}

#[cfg(feature = "async")]
impl AsyncHandler {
    pub(crate) fn new<I, O, F, Fut>(layers: Arc<Layers>, retry_if: RetryIfSlot, handler: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(I, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = std::result::Result<O, TaskError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let inner: Inner = Arc::new(move |context| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let input = input_of(&context)?;
                answer(&handler(input, context).await?)
            })
        });
        Self { layers, retry_if, inner }
    }

    /// The run of one attempt. The handler is not called before the future is polled.
    pub(crate) fn start(self: Arc<Self>, context: Context) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(async move {
            let rule = self.retry_if.get().map(|rule| (rule, context.clone()));
            let run = match self.layers.around(&self.inner, &context) {
                Some(run) => run,
                None => (self.inner)(context),
            };
            outcome(run.await, rule.as_ref().map(|(rule, context)| (*rule, context)))
        })
    }
}

fn input_of<I: DeserializeOwned>(context: &Context) -> std::result::Result<I, TaskError> {
    serde_json::from_slice(context.payload()).map_err(|error| {
        TaskError::permanent(format!("the payload is not what the handler takes: {error}"))
            .of_kind("InvalidPayload")
    })
}

fn answer<O: Serialize>(output: &O) -> Answer {
    // Another attempt would return it again.
    Returned::new(output)
        .map_err(|error| TaskError::permanent(error.message().to_owned()).of_kind("InvalidPayload"))
}

fn outcome(answer: Answer, rule: Option<(&RetryIf, &Context)>) -> Outcome {
    match (answer, rule) {
        (Ok(returned), _) => Outcome::success(returned.0),
        (Err(error), Some((rule, context))) => rule.judge(context, error).into_outcome(),
        (Err(error), None) => error.into_outcome(),
    }
}
