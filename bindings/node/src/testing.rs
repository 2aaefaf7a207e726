//! An app in testing mode, as `node/src/testing_mode.ts` drives it.
//!
//! The engine is driven on the environment's own thread, between crossings: it steps its services there, and what they
//! make eligible is taken by the next crossing, as ever. So handlers run where they always do. What waits for the event
//! loop (handlers, timers) is for JavaScript to see to: it turns the clock only when nothing is left that could go on.
//!
//! Times are microseconds: since the epoch, or of a clock that only goes forward.

use std::sync::Arc;

use napi_derive::napi;
use serde_json::{Value, json};
use taskloom_bridge::Testing;
use taskloom_engine::Handle;
use taskloom_model::{Code, Error, Result};

use crate::describe;
use crate::exchange::Port;
use crate::failures::{no_app, parsed, thrown};

#[napi]
impl Port {
    /// Puts an app into testing mode: `start` (the present, if not given), `seed`.
    #[napi]
    pub fn begin_testing(&self, app: u32, line: String) -> napi::Result<()> {
        let begin = || {
            let asked = parsed(&line)?;
            let seat = self.inner.app(app).ok_or_else(no_app)?;
            seat.begin_testing(asked["start"].as_i64(), asked["seed"].as_u64().unwrap_or(0))
        };
        begin().map_err(thrown)
    }

    /// Ends it: what runs is called off, and what has not run never will.
    #[napi]
    pub fn end_testing(&self, app: u32) {
        if let Some(seat) = self.inner.app(app) {
            seat.end_testing();
        }
    }

    /// Lets happen what is due, and the next crossing take what may be run; how long it is until more is due, or -1.
    #[napi]
    pub fn drive(&self, app: u32) -> napi::Result<f64> {
        let next = self.testing(app).and_then(|testing| testing.drain()).map_err(thrown)?;
        if let Some(seat) = self.inner.app(app) {
            seat.let_take();
            self.inner.invite();
        }
        Ok(next.map_or(-1.0, |next| next as f64))
    }

    /// Turns the clock on, and nothing else.
    #[napi]
    pub fn turn(&self, app: u32, span: f64) -> napi::Result<()> {
        self.testing(app).map(|testing| testing.turn(span as u64)).map_err(thrown)
    }

    /// Turns the clock of the day to a time.
    #[napi]
    pub fn set_time(&self, app: u32, at: f64) -> napi::Result<()> {
        self.testing(app).and_then(|testing| testing.set_time(at as i64)).map_err(thrown)
    }

    /// The time of day, and the time on the clock that only goes forward.
    #[napi]
    pub fn times(&self, app: u32) -> napi::Result<Vec<f64>> {
        let testing = self.testing(app).map_err(thrown)?;
        Ok(vec![testing.now() as f64, testing.monotonic() as f64])
    }

    /// What was submitted, but for so many that are known already, as JSON: every field of the task, and its input.
    #[napi]
    pub fn submitted(&self, app: u32, known: u32) -> napi::Result<String> {
        let new = self.testing(app).and_then(|testing| testing.submitted_after(known as usize));
        Ok(new.map_err(thrown)?.iter().map(submitted).collect::<Value>().to_string())
    }
}

impl Port {
    fn testing(&self, app: u32) -> Result<Arc<Testing>> {
        let testing = self.inner.app(app).and_then(|seat| seat.testing());
        testing.ok_or_else(|| {
            Error::new(Code::NotTesting, "the clock is the real one: the app is not in testing mode any more")
                .hint("await using t = app.testing(); and keep to the inside of its block")
        })
    }
}

fn submitted(handle: &Handle) -> Value {
    let mut all = describe::task(handle.task());
    all["input"] = json!(describe::raw(&handle.task().spec().payload));
    all
}
