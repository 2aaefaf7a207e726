//! The native half of Taskloom's Python package: `taskloom._native`.
//!
//! A `Task` ([`task`]) submits to an application ([`app`]) and gives a `TaskHandle` ([`handle`]). Handlers run on worker
//! threads ([`handler`], [`runtime`]) or are handed to an event loop ([`lane`]); loops that await are told through
//! [`port`]. The codec ([`plan`], [`check`], [`encode`], [`decode`]) turns calls and results into JSON and back.

#[global_allocator]
static ALLOCATOR: taskloom_allocator::Allocator = taskloom_allocator::Allocator;

mod app;
mod callbacks;
mod check;
mod child;
mod children;
mod command;
mod context;
mod current;
mod decode;
mod encode;
mod entry;
mod errors;
mod events;
mod ffi;
mod handle;
mod handler;
mod host;
mod ids;
mod info;
mod json_logs;
mod lane;
mod operating;
mod outbox;
mod place;
mod plan;
mod port;
mod processes;
mod reference;
mod retry_rules;
mod runtime;
mod scan;
mod schedules;
mod signal;
mod task;
mod testing;
mod told;
mod variables;
mod waiting;
mod worker;

/// The module as Python imports it. Everything in it is private to the `taskloom` package.
#[pyo3::pymodule]
mod _native {
    /// The version of the wheel.
    #[pymodule_export]
    const _VERSION: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use crate::app::NativeApp;
    #[pymodule_export]
    use crate::child::{ChildPort, Job as ChildJob};
    #[pymodule_export]
    use crate::children::child_call;
    #[pymodule_export]
    use crate::command::command;
    #[pymodule_export]
    use crate::context::NativeAttempt;
    #[pymodule_export]
    use crate::context::{Lent, current_attempt};
    #[pymodule_export]
    use crate::decode::py_decode_any;
    #[pymodule_export]
    use crate::encode::py_encode_any;
    #[pymodule_export]
    use crate::events::{
        Listener, PyEvent, PySubscription, check_event_name, event_catalog, listen, loop_blocked, publish,
        report, subscribe_reader,
    };
    #[pymodule_export]
    use crate::handle::TaskHandle;
    #[pymodule_export]
    use crate::json_logs::PyJsonLogs;
    #[pymodule_export]
    use crate::lane::{AsyncLane, Job};
    #[pymodule_export]
    use crate::operating::{
        cancel_all, child_figures, discard, handlers, health, limit, limits, list, purge, replay, run_now,
        set_paused, stats, sweep,
    };
    #[pymodule_export]
    use crate::outbox::{
        is_in_memory, outbox_relay, outbox_row, outbox_row_by_name, outbox_schema, outbox_statements,
        outbox_tell,
    };
    #[pymodule_export]
    use crate::plan::Plan;
    #[pymodule_export]
    use crate::port::Port;
    #[pymodule_export]
    use crate::runtime::leave_python;
    #[pymodule_export]
    use crate::schedules::{
        encode_for, next_firings, put_schedule, remove_schedule, schedule, schedule_firings, schedules,
        set_schedule_enabled, trigger_schedule, update_schedule, zone,
    };
    #[pymodule_export]
    use crate::task::{Accepted, Task};
    #[pymodule_export]
    use crate::testing::NativeTesting;
    #[pymodule_export]
    use crate::told::await_told;
    #[pymodule_export]
    use crate::waiting::Waiter;
    #[pymodule_export]
    use crate::waiting::imported_on_main_thread;
    #[pymodule_export]
    use crate::worker::{Lifeline, serve_with};
}
