//! What is logged, for the `tracing` of the program that Taskloom is embedded in (the feature `tracing`).
//!
//! Nothing is installed here: whether anybody collects, and what, is the program's affair. Without a collector a line costs
//! a load. The lines of handlers are forwarded as they are said, on their thread and inside of its spans, with the target
//! `taskloom::task`; events of the engine only if the app asks for them ([`App::trace`]), with the target `taskloom`.

use taskloom_engine::Attempt;

use crate::{App, Event, Result, Subscriber};

/// Says something at a level that is only known now; the macros want to know it as they are compiled.
macro_rules! say {
    ($level:expr, $($said:tt)+) => {
        match $level {
            "trace" => tracing::trace!($($said)+),
            "debug" => tracing::debug!($($said)+),
            "warning" | "warn" => tracing::warn!($($said)+),
            "error" | "critical" | "fatal" => tracing::error!($($said)+),
            _ => tracing::info!($($said)+),
        }
    };
}

/// Forwards a line of a handler's.
pub(crate) fn line(attempt: &Attempt, level: &str, message: &str) {
    let spec = attempt.task().spec();
    say!(
        level,
        target: "taskloom::task",
        task_id = %spec.id,
        task_name = spec.name.as_str(),
        attempt = attempt.fence().attempt,
        "{message}"
    );
}

impl App {
    /// Forwards the events whose name fits a pattern to `tracing`, from now on: `*.failed`, `worker.stuck`, `*`. (With the
    /// feature `tracing`.)
    ///
    /// Each is a `tracing` event of the target `taskloom`, with the fields `event`, `event_id`, `task_id` (if it is about a
    /// task) and `data` (JSON); its message is its name. The level is `ERROR` for what failed, `WARN` for what is tried
    /// again, took too long, was lost, late, stuck or dropped, or blocks a loop, and `INFO` for all others. What handlers
    /// log with [`Context::log`](crate::Context::log) is forwarded in any case, and left out here.
    ///
    /// Dropping what is returned ends it. See [`App::on`], also for its errors.
    ///
    /// ```
    /// let app = taskloom::App::open("memory:")?;
    /// app.trace("*")?.forever(); // to whichever collector the program has installed
    /// # Ok::<(), taskloom::Error>(())
    /// ```
    pub fn trace(&self, pattern: &str) -> Result<Subscriber> {
        self.on(pattern, forward)
    }
}

fn forward(event: &Event) {
    let name = event.name();
    if name == "task.log" {
        return;
    }
    let level = match name.rsplit('.').next().unwrap_or_default() {
        "failed" => "error",
        "retrying" | "timed_out" | "lost" | "late" | "stuck" | "blocked" | "dropped" => "warning",
        _ => "info",
    };
    let task = event.task_id().map(tracing::field::display);
    say!(
        level,
        target: "taskloom",
        event = name,
        event_id = %event.id(),
        task_id = task,
        data = event.data_json(),
        "{name}"
    );
}
