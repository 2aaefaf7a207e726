//! What a monitor asks for: the state of queues, handlers and workers in figures, and whether all is well.

use std::time::Duration;

use taskloom_model::{Name, Result, TaskId, Timestamp};
use taskloom_store::{Counts, Unserved};

use crate::meter::Figures;
use crate::registry::RegistryStats;
use crate::{Engine, meter};

/// Of how many damaged rows `health` tells one by one.
const TOLD: usize = 5;

/// An engine in figures.
#[derive(Clone, Debug)]
pub struct Stats {
    /// When they were taken.
    pub at: Timestamp,
    /// Tasks in each state, in the whole store.
    pub tasks: Counts,
    /// Each queue that has tasks, or had any here.
    pub queues: Vec<QueueStats>,
    /// Each handler that ran here.
    pub handlers: Vec<HandlerStats>,
    /// All that ran here.
    pub total: Figures,
    /// Each worker thread that is in a handler, and each attempt in flight on an event loop.
    pub running: Vec<RunningStats>,
    /// Worker threads.
    pub workers: usize,
    /// Of those, the ones that cannot take tasks: they wait for another task, or are stuck.
    pub away: usize,
    /// Of those, the ones that do not come back from a handler that was called off.
    pub stuck: usize,
    /// Attempts in flight on event loops and in a pool of foreign workers.
    pub in_flight: usize,
    /// Reports that came too late and were refused.
    pub late_reports: u64,
    /// What is registered.
    pub registry: RegistryStats,
    /// Subscriptions to events.
    pub subscribers: usize,
}

/// A queue in figures.
#[derive(Clone, Debug)]
pub struct QueueStats {
    /// Its name.
    pub name: Name,
    /// Its tasks in each state, in the whole store.
    pub tasks: Counts,
    /// Whether it is paused.
    pub paused: bool,
    /// What ran here.
    pub figures: Figures,
}

/// A handler in figures.
#[derive(Clone, Debug)]
pub struct HandlerStats {
    /// Its name.
    pub name: Name,
    /// What ran here.
    pub figures: Figures,
}

/// An attempt in progress.
#[derive(Clone, Debug)]
pub struct RunningStats {
    /// The worker thread's number; `None` on an event loop.
    pub worker: Option<usize>,
    /// Its task.
    pub task: TaskId,
    /// The handler.
    pub name: Name,
    /// Which attempt.
    pub attempt: u32,
    /// For how long.
    pub running_for: Duration,
    /// Whether it was called off and does not end: its thread, or its place in flight, was given to others.
    pub stuck: bool,
}

/// Whether all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it is: no problem is listed.
    pub ok: bool,
    /// Whether tasks that are submitted now would be run: it is started, and not stopping.
    pub ready: bool,
    /// What is wrong, in words.
    pub problems: Vec<String>,
    /// What somebody should look at, in words, though this process is well: queued tasks that no process runs, rows of the
    /// store that make no sense.
    pub warnings: Vec<String>,
    /// Queued tasks that no process which is there now runs: of handlers that none of them has registered. Each is among
    /// the warnings too.
    pub unserved: Vec<Unserved>,
}

impl Engine {
    /// The engine in figures. Counts of tasks come from the store, which looks at every one; the rest is at hand.
    ///
    /// Errors: `StoreFailed`.
    pub fn stats(&self) -> Result<Stats> {
        let core = &self.core;
        core.check_process()?;
        let now = core.clock.now();
        let counts = core.store.queue_counts()?;
        let paused = core.store.paused()?;
        let mut tasks = Counts::default();
        counts.iter().for_each(|(_, counts)| tasks.add_all(*counts));

        let ran = core.meters.all(now);
        let mut queues: Vec<Name> = counts.iter().map(|(name, _)| *name).collect();
        queues.extend(paused.iter().copied());
        queues.extend(ran.iter().map(|(queue, _, _)| *queue).filter(|queue| queue.as_str() != meter::OTHER));
        queues.sort_unstable();
        queues.dedup();
        let mut handlers: Vec<Name> = ran.iter().map(|(_, handler, _)| *handler).collect();
        handlers.sort_unstable();
        handlers.dedup();

        let (workers, away) = core.pool.size();
        Ok(Stats {
            at: now,
            tasks,
            queues: queues
                .into_iter()
                .map(|name| QueueStats {
                    name,
                    tasks: counts
                        .iter()
                        .find(|(other, _)| *other == name)
                        .map_or_else(Counts::default, |(_, counts)| *counts),
                    paused: paused.contains(&name),
                    figures: core.meters.queue(name, now),
                })
                .collect(),
            handlers: handlers
                .into_iter()
                .map(|name| HandlerStats { name, figures: core.meters.handler(name, now) })
                .collect(),
            total: core.meters.total(now),
            running: core.running.stats(now),
            workers,
            away,
            stuck: core.running.stuck(),
            in_flight: core.loops.in_flight() + core.pooled.in_flight(),
            late_reports: core.late_reports(),
            registry: core.registry.stats(),
            subscribers: core.events.subscribers(),
        })
    }

    /// How many attempts have ended here, one way or another. The store is not asked.
    pub fn attempts_ended(&self) -> u64 {
        self.core.meters.total(self.core.clock.now()).ended()
    }

    /// Whether all is well, and what is not.
    pub fn health(&self) -> Health {
        let core = &self.core;
        let mut problems = Vec::new();
        if let Err(error) = core.check_process() {
            problems.push(error.message().to_owned());
        }
        if core.is_stopped() {
            problems.push("the engine has stopped".to_owned());
        } else if !core.is_open() {
            problems.push("the engine is stopping".to_owned());
        }
        let (mut unserved, mut warnings) = (Vec::new(), Vec::new());
        if problems.is_empty() {
            if let Err(error) = core.store.check() {
                problems.push(error.message().to_owned());
            }
            if core.pool.was_started() {
                // What can be run no longer may not be noted yet.
                core.note_handlers();
            }
            match core.store.unserved() {
                Ok(found) => unserved = [found, core.all_aside()].concat(),
                Err(error) => problems.push(format!("the store does not answer: {}", error.message())),
            }
            for Unserved { name, count, since } in &unserved {
                warnings.push(format!(
                    "no process runs tasks for the handler {name:?}: {count} queued, the first since {since}"
                ));
            }
            let damaged = core.store.damaged().unwrap_or_default();
            warnings.extend(damaged.iter().take(TOLD).map(|error| error.message().to_owned()));
            if damaged.len() > TOLD {
                warnings.push(format!("rows that make no sense, beside those: {}", damaged.len() - TOLD));
            }
            let given_up = core.running.given_up_on_loops();
            if given_up > 0 {
                warnings.push(format!(
                    "handlers on an event loop that do not end although they were called off: {given_up}"
                ));
            }
            let stuck = core.running.stuck();
            if stuck > 0 {
                problems.push(format!(
                    "worker threads that do not come back from handlers that were called off: {stuck}"
                ));
            }
            if core.pool.was_started() && core.pool.size().0 == 0 {
                problems.push("no worker thread could be started".to_owned());
            }
        }
        let here = core.check_process().is_ok();
        let ready = here && core.is_open() && core.pool.was_started();
        Health { ok: problems.is_empty(), ready, problems, warnings, unserved }
    }
}
