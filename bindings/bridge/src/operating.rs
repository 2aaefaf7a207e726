//! What an operator does with an application, from plain values.

use taskloom_engine::{Attempt, Engine};
use taskloom_model::{Code, Error, LimitFor, LimitRow, Name, Result, SetBy, TaskId};
use taskloom_store::Filter;

/// A limit that is set, in plain values.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The handler whose tasks it limits.
    pub name: Option<&'static str>,
    /// The queue whose tasks it limits.
    pub queue: Option<&'static str>,
    /// The key whose tasks it limits.
    pub key: Option<String>,
    /// How many may run at once.
    pub concurrency: Option<u32>,
    /// How many may start in a period, such as `10/s`.
    pub rate: Option<String>,
    /// Whether the handler declares it; otherwise an operator has set it.
    pub declared: bool,
}

/// What is limited: a handler, a queue, a key, or the tasks of a handler with a key. One of a queue has neither name nor
/// key, which is the caller's to see to.
pub fn limit_for(name: Option<&str>, queue: Option<&str>, key: Option<String>) -> LimitFor {
    match (name, queue, key) {
        (Some(name), _, None) => LimitFor::Handler(Name::new(name)),
        (Some(name), _, Some(key)) => LimitFor::HandlerKey(Name::new(name), key),
        (None, Some(queue), _) => LimitFor::Queue(Name::new(queue)),
        (None, None, key) => LimitFor::Key(key.unwrap_or_default()),
    }
}

/// The limits that are set.
pub fn limits(engine: &Engine) -> Result<Vec<Limit>> {
    Ok(engine.limits()?.into_iter().map(plain).collect())
}

fn plain(LimitRow { what, by, limit }: LimitRow) -> Limit {
    let (name, queue, key) = match what {
        LimitFor::Handler(name) => (Some(name.as_str()), None, None),
        LimitFor::Queue(queue) => (None, Some(queue.as_str()), None),
        LimitFor::Key(key) => (None, None, Some(key)),
        LimitFor::HandlerKey(name, key) => (Some(name.as_str()), None, Some(key)),
    };
    let rate = limit.rate.map(|rate| rate.to_string());
    Limit { name, queue, key, concurrency: limit.concurrency, rate, declared: by == SetBy::Handler }
}

/// Refuses a child whose handler is another engine's than the parent's: it would be inserted beside its parent, where
/// nobody may run it.
pub fn check_child(attempt: &Attempt, engine: &Engine, handler: &str) -> Result<()> {
    if attempt.runs_in(engine) {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidOption,
        format!("{handler:?} is a task of another app, and cannot be a child of {}", attempt.task().id()),
    )
    .hint("a child is written with its parent, into the same store; submit it by itself, as any task"))
}

/// Replays one task, or the dead letters that a filter fits; how many.
pub fn replay(engine: &Engine, id: Option<TaskId>, filter: &Filter) -> Result<usize> {
    match id {
        Some(id) => engine.replay(id).map(|_| 1),
        None => engine.replay_all(filter),
    }
}

/// Forgets one task that has ended, or the dead letters that a filter fits; how many.
pub fn discard(engine: &Engine, id: Option<TaskId>, filter: &Filter) -> Result<usize> {
    match id {
        Some(id) => engine.discard(id).map(|()| 1),
        None => engine.discard_all(filter),
    }
}
