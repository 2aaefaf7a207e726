//! What `node/src/worker.ts` needs of native code: the process's tie to its supervisor, and an app's settings from outside.
#![cfg_attr(test, allow(dead_code, reason = "Node calls it, and tests have no Node"))]

use napi_derive::napi;
use serde_json::Value as Json;
use taskloom_bridge::{Value, change_settings};
use taskloom_model::Result;

use crate::exchange::Port;
use crate::failures::{no_app, parsed, thrown};
use crate::options::value_of;

/// A worker process's tie to its supervisor: `taskloom_cli::Lifeline`.
#[cfg(unix)]
#[napi]
pub struct Lifeline(taskloom_cli::Lifeline);

#[cfg(unix)]
#[napi]
impl Lifeline {
    /// Takes standard input. Throws if nobody supervises this process.
    #[napi(constructor)]
    pub fn new() -> napi::Result<Self> {
        Ok(Self(taskloom_cli::Lifeline::take()?))
    }

    /// The app runs tasks of these handlers now; if `counts`, the supervisor is told from now on how many have ended.
    #[napi]
    pub fn ready(&self, port: &Port, app: u32, handlers: Vec<String>, counts: bool) -> napi::Result<()> {
        let seat = port.inner.app(app).ok_or_else(no_app).map_err(thrown)?;
        self.0.ready(handlers, &seat.url());
        if counts {
            self.0.count(Box::new(move || Some(seat.current()?.attempts_ended())))?;
        }
        Ok(())
    }

    /// The last thing that the process does.
    #[napi]
    pub fn leave(&self) {
        self.0.leave();
    }
}

/// Has an app take other settings than its own, before it is used: a store, and settings by name, as JSON.
#[napi]
pub(crate) fn serve_with(port: &Port, app: u32, store: Option<String>, line: String) -> napi::Result<()> {
    let serve = || -> Result<()> {
        let seat = port.inner.app(app).ok_or_else(no_app)?;
        let json = parsed(&line)?;
        let values: Vec<(String, Value)> = json
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value): (&String, &Json)| (name.clone(), value_of(value)))
            .collect();
        seat.serve_with(|mut base| {
            base.url = store.unwrap_or(base.url);
            change_settings(base, &values)
        })
    };
    serve().map_err(thrown)
}
