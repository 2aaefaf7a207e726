//! The events of the core: a closed set. This table is the only place where one is written down.
//!
//! Order matters to nobody but a running process: the number of a kind is a bit in the sets that the bus keeps, and is
//! never stored or sent. A new event goes where a reader of `docs/events.md` would look for it.

use super::catalog::{Category, EventInfo, Field, FieldType};

macro_rules! kinds {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident $name:literal $category:ident $of:ident $fired:literal
            [$($field:expr),* $(,)?] $example:literal;
    )+) => {
        /// Which event of the catalogue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum EventKind { $($(#[doc = $doc])+ $variant,)+ }

        impl EventKind {
            /// All of them, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        pub(super) static CATALOG: &[EventInfo] = &[$(EventInfo {
            kind: EventKind::$variant,
            name: $name,
            category: Category::$category,
            description: concat!($($doc),+).trim_ascii_start(),
            fired: $fired,
            has_task: kinds!(@$of),
            fields: &[$($field),*],
            example: $example,
        },)+];
    };
    (@of_task) => { true };
    (@of_none) => { false };
}

const NAME: Field = Field::new("name", FieldType::Text, "the handler's name");
const QUEUE: Field = Field::new("queue", FieldType::Text, "the queue");
const ATTEMPT: Field = Field::new("attempt", FieldType::Count, "which attempt, from 1");
const FAILURES: Field = Field::new("failures", FieldType::Count, "failed attempts so far");
const ERROR: Field = Field::new("error", FieldType::Failure, "the attempt's error");
const DURATION: Field = Field::new("duration", FieldType::Seconds, "how long the attempt ran, in seconds");
const RAN: Field = DURATION.optional();
const REASON: Field = Field::new("reason", FieldType::Text, "why, if somebody said so").optional();
const WORKER: Field = Field::new("worker", FieldType::Count, "the number of the worker thread");
const SCHEDULE: Field = Field::new("schedule", FieldType::Text, "its name");
const NEXT: Field = Field::new("next", FieldType::Time, "when it is due next, if ever").optional();
const HANDLER: Field = Field::new("handler", FieldType::Text, "the handler's name");
const HANDLER_KIND: Field =
    Field::new("kind", FieldType::Word(&["blocking", "async"]), "what runs it: a thread, or an event loop");
const STORE: Field = Field::new("store", FieldType::Text, "the kind of store: memory, sqlite, postgresql");
const WAITING_FOR: Field = Field::new(
    "waiting_for",
    FieldType::Word(&["eta", "dependencies", "signal", "sleep", "key"]),
    "what it waits for, if it does",
)
.optional();

kinds! {
    // ── task ────────────────────────────────────────────────────────────────────────────────────────────────────
    /// A task was accepted.
    TaskSubmitted "task.submitted" Task of_task
        "The engine that took the submit, once the insert is committed."
        [
            NAME,
            QUEUE,
            Field::new("priority", FieldType::Word(&["low", "normal", "high", "critical"]), "its priority"),
            Field::new("state", FieldType::Word(&["pending", "queued", "expired"]), "its first state"),
            WAITING_FOR,
            Field::new("eta", FieldType::Time, "when it may start, if not now").optional(),
            Field::new("tags", FieldType::Texts, "its tags, if it has any").optional(),
            Field::new("correlation_id", FieldType::Text, "what ties tasks of one request together").optional(),
            Field::new("parent", FieldType::Id, "the task that submitted it").optional(),
            Field::new("schedule", FieldType::Text, "the schedule that submitted it").optional(),
        ]
        r#"{"name": "resize", "queue": "images", "priority": "normal", "state": "pending", "waiting_for": "eta",
"eta": "2026-03-01T08:00:00.000000Z", "tags": ["img"], "correlation_id": "req-81",
"parent": "01956a0c-7d00-7a31-8c55-0a8f3d1c9b02", "schedule": "nightly"}"#;

    /// A task that had waited became eligible: its eta or the end of its backoff came, what it depended on ended, or
    /// it was started over. A task that is eligible when it is submitted has only `task.submitted`.
    TaskQueued "task.queued" Task of_task
        "The engine, once the move is committed."
        [
            NAME,
            QUEUE,
            Field::new(
                "from",
                FieldType::Word(&["pending", "retrying", "failed", "timed_out", "cancelled", "expired"]),
                "the state that it left",
            ),
        ]
        r#"{"name": "resize", "queue": "images", "from": "retrying"}"#;

    /// An attempt began.
    TaskStarted "task.started" Task of_task
        "The engine whose worker or event loop runs it, just before the handler does."
        [
            NAME,
            QUEUE,
            ATTEMPT,
            Field::new("waited", FieldType::Seconds, "how long it was eligible before, in seconds"),
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 1, "waited": 0.000042}"#;

    /// A handler told how far it is. On a durable store several steps may be told as one: the newest.
    TaskProgress "task.progress" Task of_task
        "The engine that runs it, once the progress is committed."
        [
            NAME,
            QUEUE,
            ATTEMPT,
            Field::new("value", FieldType::Number, "how far, from 0 to 1"),
            Field::new("message", FieldType::Text, "what it is doing, if it said so").optional(),
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 1, "value": 0.4, "message": "resizing"}"#;

    /// A handler wrote a line to its task's log.
    TaskLog "task.log" Task of_task
        "The engine that runs it, once the line is committed."
        [
            NAME,
            QUEUE,
            ATTEMPT,
            Field::new("level", FieldType::Text, "how serious, in the words of the handler's language"),
            Field::new("message", FieldType::Text, "the line"),
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 1, "level": "info", "message": "3 of 5 done"}"#;

    /// A task succeeded.
    TaskSucceeded "task.succeeded" Task of_task
        "The engine that ran it, once its result is committed; or the one where an operator resolved it."
        [
            NAME,
            QUEUE,
            Field::new("attempt", FieldType::Count, "which attempt; 0 if none was begun"),
            Field::new("by_hand", FieldType::Flag, "whether an operator gave it its result"),
            Field::new("duration", FieldType::Seconds, "how long the attempt ran, in seconds, unless by hand")
                .optional(),
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 1, "by_hand": false, "duration": 0.183}"#;

    /// An attempt failed or took too long, and there will be another.
    TaskRetrying "task.retrying" Task of_task
        "The engine that ran it, once the failure is committed."
        [
            NAME,
            QUEUE,
            ATTEMPT,
            FAILURES,
            ERROR,
            Field::new("delay", FieldType::Seconds, "how long it waits before the next attempt, in seconds"),
            RAN,
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 1, "failures": 1,
"error": {"type": "OSError", "message": "disk full"}, "delay": 0.71, "duration": 0.02}"#;

    /// A task failed for good: its retries are spent, its error was permanent, or too many of its workers died.
    TaskFailed "task.failed" Task of_task
        "The engine that ran it, or that found its worker dead, once the failure is committed."
        [
            NAME,
            QUEUE,
            ATTEMPT,
            FAILURES,
            ERROR,
            Field::new("crashes", FieldType::Count, "workers that died of it, if any did").optional(),
            RAN,
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 4, "failures": 4,
"error": {"type": "OSError", "message": "disk full"}, "crashes": 1, "duration": 0.02}"#;

    /// A task took too long for good: its last attempt did, or its deadline passed.
    TaskTimedOut "task.timed_out" Task of_task
        "The engine whose timer saw it, once the timeout is committed."
        [
            NAME,
            QUEUE,
            Field::new("attempt", FieldType::Count, "which attempt; 0 if none was begun"),
            Field::new("limit", FieldType::Word(&["timeout", "deadline"]), "which limit it passed"),
            FAILURES,
            RAN,
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 2, "limit": "timeout", "failures": 2, "duration": 30.0}"#;

    /// A task was cancelled.
    TaskCancelled "task.cancelled" Task of_task
        "The engine that was asked to, once the cancellation is committed. Its handler may still be on its way out."
        [
            NAME,
            QUEUE,
            Field::new("attempt", FieldType::Count, "which attempt; 0 if none was begun"),
            Field::new(
                "from",
                FieldType::Word(&["pending", "queued", "running", "retrying"]),
                "the state that it left",
            ),
            REASON,
            RAN,
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 1, "from": "running", "reason": "the user left",
"duration": 1.5}"#;

    /// A task was not started by its expiry.
    TaskExpired "task.expired" Task of_task
        "The engine whose timer or worker saw it, once that is committed; at once if it came too late already."
        [NAME, QUEUE, Field::new("expires", FieldType::Time, "when it should have started")]
        r#"{"name": "resize", "queue": "images", "expires": "2026-03-01T08:00:00.000000Z"}"#;

    /// A task need not run: a workflow or an operator said so.
    TaskSkipped "task.skipped" Task of_task
        "The engine that was asked to, once that is committed."
        [NAME, QUEUE, REASON]
        r#"{"name": "resize", "queue": "images", "reason": "no image in the order"}"#;

    /// An attempt stopped unfinished, at no cost to the task: it was suspended, or given back at shutdown.
    TaskReleased "task.released" Task of_task
        "The engine that ran it, once that is committed."
        [
            NAME,
            QUEUE,
            ATTEMPT,
            Field::new("why", FieldType::Word(&["suspended", "shutdown"]), "why it stopped"),
            WAITING_FOR,
            RAN,
        ]
        r#"{"name": "checkout", "queue": "default", "attempt": 1, "why": "suspended", "waiting_for": "signal",
"duration": 0.4}"#;

    /// A task's worker died. It goes back to its queue, or fails if that has happened too often.
    TaskLost "task.lost" Task of_task
        "The engine that found the worker's process dead, or a thread or child process of its own, once that is committed."
        [
            NAME,
            QUEUE,
            ATTEMPT,
            Field::new("owner", FieldType::Count, "the number of the process among the owners of the store"),
            Field::new("crashes", FieldType::Count, "workers that died of it so far"),
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 1, "owner": 7, "crashes": 1}"#;

    // ── queues, handlers ────────────────────────────────────────────────────────────────────────────────────────
    /// A queue was paused: nothing is claimed from it.
    QueuePaused "queue.paused" Observability of_none
        "The engine that was asked to, once that is committed."
        [QUEUE]
        r#"{"queue": "images"}"#;

    /// A paused queue goes on.
    QueueResumed "queue.resumed" Observability of_none
        "The engine that was asked to, once that is committed."
        [QUEUE]
        r#"{"queue": "images"}"#;

    /// The tasks that waited in a queue were cancelled.
    QueuePurged "queue.purged" Observability of_none
        "The engine that was asked to, after the `task.cancelled` of each."
        [QUEUE, Field::new("count", FieldType::Count, "how many tasks")]
        r#"{"queue": "images", "count": 120}"#;

    /// A schedule was made.
    ScheduleCreated "schedule.created" Observability of_none
        "The engine that was asked to, once that is committed."
        [SCHEDULE, NEXT]
        r#"{"schedule": "nightly", "next": "2026-03-01T02:00:00.000000Z"}"#;

    /// A schedule was given other options or another rule, or its next time was worked out anew since the clock was
    /// set back.
    ScheduleUpdated "schedule.updated" Observability of_none
        "The engine that did it, once that is committed."
        [SCHEDULE, NEXT]
        r#"{"schedule": "nightly", "next": "2026-03-01T02:00:00.000000Z"}"#;

    /// A schedule that was disabled fires again.
    ScheduleEnabled "schedule.enabled" Observability of_none
        "The engine that was asked to, once that is committed."
        [SCHEDULE, NEXT]
        r#"{"schedule": "nightly", "next": "2026-03-01T02:00:00.000000Z"}"#;

    /// A schedule fires no longer, until it is enabled.
    ScheduleDisabled "schedule.disabled" Observability of_none
        "The engine that was asked to, once that is committed."
        [SCHEDULE]
        r#"{"schedule": "nightly"}"#;

    /// A schedule was taken away.
    ScheduleRemoved "schedule.removed" Observability of_none
        "The engine that was asked to, once that is committed."
        [SCHEDULE]
        r#"{"schedule": "nightly"}"#;

    /// A schedule has submitted a task.
    ScheduleFired "schedule.fired" Observability of_task
        "The engine that fired it, after the `task.submitted` of its task."
        [
            SCHEDULE,
            NAME,
            Field::new("tick", FieldType::Time, "the time that its rule says; or when it was triggered"),
            Field::new("by_hand", FieldType::Flag, "whether it was triggered by hand"),
        ]
        r#"{"schedule": "nightly", "name": "report", "tick": "2026-03-01T02:00:00.000000Z", "by_hand": false}"#;

    /// A firing of a schedule was left out: the task of an earlier one still lived, or nobody was there in time.
    ScheduleSkipped "schedule.skipped" Observability of_none
        "The engine that would have fired it, once that is committed."
        [SCHEDULE, Field::new("why", FieldType::Word(&["overlap", "missed"]), "why")]
        r#"{"schedule": "nightly", "why": "overlap"}"#;

    /// A handler was registered.
    HandlerRegistered "handler.registered" Observability of_none
        "The engine that it was registered with."
        [HANDLER, HANDLER_KIND, QUEUE]
        r#"{"handler": "resize", "kind": "blocking", "queue": "images"}"#;

    /// A handler took the place of another with its name.
    HandlerReplaced "handler.replaced" Observability of_none
        "The engine that it was registered with. Attempts that run already end with the old one."
        [HANDLER, HANDLER_KIND, QUEUE]
        r#"{"handler": "resize", "kind": "blocking", "queue": "images"}"#;

    // ── workers, engine ─────────────────────────────────────────────────────────────────────────────────────────
    /// A worker thread does not come back from a handler whose attempt was called off. Another takes its place.
    WorkerStuck "worker.stuck" Observability of_task
        "The engine, 200 ms after it called the attempt off."
        [WORKER, HANDLER, ATTEMPT]
        r#"{"worker": 3, "handler": "resize", "attempt": 1}"#;

    /// A worker thread that was stuck has come back.
    WorkerRecovered "worker.recovered" Observability of_task
        "The engine, when the handler has returned."
        [WORKER, HANDLER, ATTEMPT]
        r#"{"worker": 3, "handler": "resize", "attempt": 1}"#;

    /// An engine started.
    EngineStarted "engine.started" Observability of_none
        "The engine, when its workers can take tasks."
        [
            STORE,
            Field::new("workers", FieldType::Count, "how many worker threads"),
            Field::new("process", FieldType::Count, "the id of its process"),
        ]
        r#"{"store": "memory", "workers": 6, "process": 4711}"#;

    /// An engine was told to stop: it takes no more submits and finishes what runs.
    EngineStopping "engine.stopping" Observability of_none
        "The engine, before it waits for what runs."
        [Field::new("within", FieldType::Seconds, "how long it may take, in seconds, if that was said").optional()]
        r#"{"within": 10.0}"#;

    /// An engine has stopped. It is the last event of its stream.
    EngineStopped "engine.stopped" Observability of_none
        "The engine, when its threads have ended."
        [Field::new("unfinished", FieldType::Count, "attempts that were called off at the deadline")]
        r#"{"unfinished": 0}"#;

    // ── outbox ──────────────────────────────────────────────────────────────────────────────────────────────────
    /// A row of an outbox cannot become a task. It is kept there, marked with the error.
    OutboxRefused "outbox.refused" Observability of_none
        "The relay that has read it, once it is marked."
        [
            Field::new("row", FieldType::Text, "the row's id"),
            Field::new("name", FieldType::Text, "the handler's name, as the row has it"),
            Field::new("code", FieldType::Text, "the code of the error"),
            Field::new("error", FieldType::Text, "what is wrong with it"),
        ]
        r#"{"row": "01980a2b-7c3d-7e4f-8a1b-2c3d4e5f6071", "name": "emial", "code": "TL1101", "error": "no handler \"emial\""}"#;

    /// A relay cannot read its outbox: the database does not answer, say. It tries again until it can.
    OutboxInterrupted "outbox.interrupted" Observability of_none
        "The relay, once for each time."
        [Field::new("error", FieldType::Text, "what the database's driver said")]
        r#"{"error": "OperationalError: the connection is closed"}"#;

    /// A relay that could not read its outbox reads it again.
    OutboxResumed "outbox.resumed" Observability of_none
        "The relay, after the first rows that it could read."
        []
        r#"{}"#;

    // ── what should not happen ──────────────────────────────────────────────────────────────────────────────────
    /// A handler keeps its event loop from turning: every other task of that loop waits for it.
    LoopBlocked "loop.blocked" Observability of_task
        "The watchdog, once for each time that a loop is blocked."
        [HANDLER, Field::new("blocked", FieldType::Seconds, "for how long so far, in seconds")]
        r#"{"handler": "fetch", "blocked": 0.25}"#;

    /// A report came after its attempt had been called off, and was refused.
    ReportLate "report.late" Observability of_task
        "The engine that refused it."
        [
            NAME,
            QUEUE,
            ATTEMPT,
            Field::new("report", FieldType::Text, "what it reported: succeed, fail, progress…"),
        ]
        r#"{"name": "resize", "queue": "images", "attempt": 1, "report": "succeed"}"#;

    /// A subscriber was too slow, and missed events. It finds this in the place of those, whatever it subscribed to.
    EventsDropped "events.dropped" Observability of_none
        "The subscription, when its reader comes to that place; to other subscribers, at that moment."
        [
            Field::new("subscriber", FieldType::Text, "the subscription's name"),
            Field::new("pattern", FieldType::Text, "what it subscribed to"),
            Field::new("dropped", FieldType::Count, "how many events it missed here"),
            Field::new("total", FieldType::Count, "how many it has missed up to here"),
        ]
        r#"{"subscriber": "subscriber-1", "pattern": "task.*", "dropped": 250, "total": 250}"#;
}
