//! What JavaScript sees of this crate: the class `Port`, and its crossings.
//!
//! A crossing first lets happen what JavaScript asks, in its order; then it takes the tasks that this environment may
//! run; then it writes down the news. What an engine does at once on a memory store (accept a task, start it, end it) is
//! therefore heard in the crossing that caused it, without a call between threads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use napi::bindgen_prelude::{
    Function, JsObjectValue, Object, Uint8ArraySlice, Uint32Array, Uint32ArraySlice,
};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, JsString};
use napi_derive::napi;
use taskloom_model::{Code, Error, Result};

use crate::commands::listen;
use crate::failures::{no_app, parsed, thrown};
use crate::lane::Dispatcher;
use crate::options::{options_of, settings};
use crate::port::{Heard, Port as Inner};
use crate::seat::{Seat, Shared};
use crate::telling::{accept, write};
use crate::wire::{Reader, Writer};
use crate::{describe, outbox, schedules, words};

/// One environment's way to the engines of this process.
#[napi]
pub struct Port {
    pub(crate) inner: Arc<Inner>,
    /// Kept for its room.
    heard: Heard,
}

#[napi]
impl Port {
    /// `wake` is called, on JavaScript's own thread, when there is something to hear.
    #[napi(constructor)]
    pub fn new(env: &Env, wake: Function<'_, (), ()>) -> napi::Result<Self> {
        let call = wake.build_threadsafe_function::<()>().callee_handled::<false>().weak::<true>().build()?;
        let inner = Inner::new(Box::new(move || {
            // A call that cannot be delivered is one to an environment that ends.
            let _ = call.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }));
        let own = Arc::clone(&inner);
        env.add_env_cleanup_hook((), move |()| own.close())?;
        Ok(Self { inner, heard: Heard::default() })
    }

    /// A crossing: `count` words, the lines and `length` bytes of JavaScript's messages, and room for what is answered. The first
    /// word of the answer is how many follow those three; the second whether JavaScript should come again at once; the
    /// third how many submits it may accept by itself until then.
    ///
    /// In the midst of a turn, `in_passing`, only what was accepted is told: nothing that runs code of a user's.
    #[napi]
    #[allow(
        clippy::too_many_arguments,
        reason = "an object of them would have to be taken apart at each crossing"
    )]
    pub fn exchange<'env>(
        &mut self,
        env: &'env Env,
        asked: Uint32ArraySlice<'env>,
        count: u32,
        text: String,
        bytes: Uint8ArraySlice<'env>,
        length: u32,
        room: Uint32ArraySlice<'env>,
        in_passing: bool,
    ) -> napi::Result<JsString<'env>> {
        let port = &self.inner;
        port.enter();
        port.pulse.beat();
        let asked = asked.as_ref().get(..count as usize).unwrap_or_default();
        let bytes = bytes.as_ref().get(..length as usize).unwrap_or_default();
        listen(port, &mut Reader::new(asked, &text, bytes));
        drop(text);
        if !in_passing && port.take_offer() {
            for seat in port.apps() {
                if let Some(engine) = seat.taking() {
                    let tested = seat.is_tested().then_some((&**port, seat.number));
                    Dispatcher::take(&engine, tested);
                }
            }
        }
        let (answer, is_ascii) = words::with(room, |room| {
            let (head, body) = room.split_at_mut(3);
            let mut writer = Writer::new(body);
            port.hear(&mut self.heard, &mut writer, accept, |writer, news| {
                !in_passing && write(port, writer, news)
            });
            let (used, text, is_ascii) = writer.finish();
            head[0] = used as u32;
            head[1] = u32::from(port.leave());
            head[2] = port.credit();
            (text, is_ascii)
        });
        if is_ascii {
            words::ascii(env, &answer)
        } else {
            env.create_string_from_std(String::from_utf8(answer).unwrap_or_default())
        }
    }

    /// Lends the words in which JavaScript says which job's synchronous part runs (its number plus one), and how many
    /// handlers are awaited.
    #[napi]
    pub fn lend(&self, word: Uint32Array) {
        if let Some(word) = words::Lent::new(word) {
            self.inner.pulse.lend(word);
        }
    }

    /// Opens an app; its number. What is wrong with its settings is thrown, as JSON in the message.
    #[napi]
    pub fn open(&self, url: String, line: String) -> napi::Result<u32> {
        let open = || {
            let shared = Shared::open(settings(&url, &parsed(&line)?)?)?;
            Ok(self.inner.seat(|number| Seat::new(number, &self.inner, shared)))
        };
        open().map_err(thrown)
    }

    /// Closes an app that nobody can use any more.
    #[napi]
    pub fn close(&self, app: u32) {
        if let Some(seat) = self.inner.leave_seat(app) {
            seat.leave();
        }
    }

    /// Registers an app's next handler: `name`, `options`, `perKey`, `replace`, `hooks`; and `module`, if it runs in threads.
    #[napi]
    pub fn register(&self, app: u32, line: String) -> napi::Result<()> {
        let register = || {
            let asked = parsed(&line)?;
            let seat = self.inner.app(app).ok_or_else(no_app)?;
            let name = asked["name"].as_str().unwrap_or_default();
            let mut options = options_of(&asked["options"])?;
            let flag = |name: &str| asked[name].as_bool().unwrap_or(false);
            // What it limits is each key by itself.
            options.per_key = flag("perKey");
            let module = asked["module"].is_object().then(|| asked["module"].to_string());
            seat.register(&self.inner, name, options, flag("replace"), flag("hooks"), module)
        };
        register().map_err(thrown)
    }

    /// A submit as the row of an outbox, in JSON: of `name`, `payload`, `options` (in JSON), `allowUnknown`. It is made at
    /// once, since the user's transaction may not outlive the call.
    #[napi]
    pub fn outbox_row(&self, app: u32, line: String) -> napi::Result<String> {
        let row = || outbox::row(self.inner.app(app).ok_or_else(no_app)?.app(), &parsed(&line)?);
        row().map(|row| row.to_string()).map_err(thrown)
    }

    /// The table's statements for a database, and those on it by name, in JSON.
    #[napi]
    pub fn outbox_texts(&self, dialect: String, style: String) -> String {
        outbox::texts(&dialect, &style).to_string()
    }

    /// Adds a schedule: `name`, `handler`, `payload`, `values`.
    #[napi]
    pub fn schedule(&self, app: u32, line: String) -> napi::Result<()> {
        let schedule = || {
            let spec = schedules::made(&parsed(&line)?)?;
            self.inner.app(app).ok_or_else(no_app)?.schedule(spec)
        };
        schedule().map_err(thrown)
    }

    /// The catalogue of events, as JSON.
    #[napi]
    pub fn event_catalog(&self) -> String {
        describe::catalog().to_string()
    }

    /// Refuses a pattern that no event can fit.
    #[napi]
    pub fn check_pattern(&self, pattern: String) -> napi::Result<()> {
        taskloom_engine::Pattern::new(&pattern).map(drop).map_err(thrown)
    }

    /// The next times of a cron expression, in milliseconds since the epoch.
    #[napi]
    pub fn firings(&self, expression: String, tz: String, start: f64, count: u32) -> napi::Result<Vec<f64>> {
        schedules::firings(&expression, &tz, start, count).map_err(thrown)
    }

    /// The state of the task in a slot, as it is known here; `null` if nobody waits there, or nobody knows it any more.
    #[napi]
    pub fn state(&self, slot: u32) -> Option<&'static str> {
        Some(self.inner.state(slot)?.as_str())
    }

    /// Whether a submit may be waiting for a disk.
    #[napi]
    pub fn is_durable(&self, app: u32) -> bool {
        self.inner.app(app).is_some_and(|seat| seat.may_wait())
    }

    /// What a job's context shows, as JSON; `null` if it is over.
    #[napi]
    pub fn job(&self, job: u32) -> Option<String> {
        let attempt = self.inner.attempt(job)?;
        let mut all = describe::task(attempt.task());
        all["now"] = describe::millis(attempt.now()).into();
        all["timeLeft"] = attempt.time_left().map(|left| left.as_secs_f64() * 1e3).into();
        Some(all.to_string())
    }

    /// The time by a job's engine, in milliseconds since the epoch; `null` if it is over.
    #[napi]
    pub fn now(&self, job: u32) -> Option<f64> {
        self.inner.attempt(job).map(|attempt| describe::millis(attempt.now()))
    }

    /// What an earlier attempt saved, as JSON.
    #[napi]
    pub fn checkpoint(&self, job: u32) -> Option<String> {
        let saved = self.inner.attempt(job)?.checkpoint()?;
        String::from_utf8(saved.into()).ok()
    }

    /// A handler that waits for a child lends its place in flight, or takes it back.
    #[napi]
    pub fn lend_place(&self, job: u32, lends: bool) {
        self.inner.lend_place(job, lends);
    }

    /// A handler tells how far it is.
    #[napi]
    pub fn progress(&self, job: u32, value: f64, message: Option<String>) -> napi::Result<()> {
        self.tell(job, |attempt| attempt.progress(value, message))
    }

    /// A handler logs a line.
    #[napi]
    pub fn log(&self, job: u32, level: String, message: String) -> napi::Result<()> {
        self.tell(job, |attempt| attempt.log(&level, message))
    }

    /// A handler notes something beside its result.
    #[napi]
    pub fn note(&self, job: u32, key: String, line: String) -> napi::Result<()> {
        self.tell(job, |attempt| attempt.note_result(&key, &line))
    }

    /// A handler publishes an event of its own.
    #[napi]
    pub fn publish(&self, job: u32, name: String, data: String) -> napi::Result<()> {
        self.tell(job, |attempt| attempt.publish(&name, &data))
    }

    /// Ends a subscription.
    #[napi]
    pub fn unsubscribe(&self, subscription: u32) {
        self.inner.unsubscribe(subscription);
    }

    /// How often JavaScript came, how often it was called, and how many tasks it was handed: for tests.
    #[napi]
    pub fn traffic(&self, env: &Env) -> napi::Result<Object<'_>> {
        let mut all = Object::new(env)?;
        let port = &self.inner;
        for (name, count) in
            [("crossings", &port.crossings), ("calls", &port.calls), ("started", &port.started)]
        {
            all.set_named_property(name, count.load(Ordering::Relaxed) as f64)?;
        }
        Ok(all)
    }
}

impl Port {
    fn tell(&self, job: u32, tell: impl FnOnce(&taskloom_engine::Attempt) -> Result<()>) -> napi::Result<()> {
        let attempt = self.inner.attempt(job).ok_or_else(|| {
            Error::new(Code::LeaseLost, "this attempt is over: what it tells now is not taken")
        });
        attempt.and_then(|attempt| tell(&attempt)).map_err(thrown)
    }
}
