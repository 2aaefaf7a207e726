//! What a seed stands for.

use std::time::Duration;

/// One simulated day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides about everything that is left to chance.
    pub seed: u64,
    /// How many tasks are submitted over the day, children not counted.
    pub tasks: u32,
    /// How long it is.
    pub day: Duration,
    /// How many processes share the store. None: the store is a memory store, of one engine.
    pub processes: Option<u32>,
    /// Processes are killed, and others take their place.
    pub crashes: bool,
    /// Processes stand still for longer than a lease, and go on.
    pub freezes: bool,
    /// The clock of the day is set, back and forth.
    pub jumps: bool,
    /// The store fails now and then.
    pub errors: bool,
    /// Schedules fire.
    pub schedules: bool,
    /// How many slow tasks may run at once.
    pub limit: Option<u32>,
    /// Operators cancel tasks and pause queues.
    pub operators: bool,
}

impl Plan {
    /// The day of a seed: some without faults, some on memory, most with all of them.
    pub fn of(seed: u64) -> Self {
        let calm = seed.is_multiple_of(4);
        let memory = seed.is_multiple_of(3);
        Self {
            seed,
            tasks: 1_500,
            day: Duration::from_secs(24 * 3600),
            processes: (!memory).then_some(if calm { 2 } else { 2 + (seed % 3) as u32 }),
            crashes: !calm && !memory,
            freezes: !calm && !memory,
            jumps: !calm,
            errors: !calm && !memory,
            operators: !calm,
            schedules: true,
            limit: seed.is_multiple_of(2).then_some(2),
        }
    }

    /// A day on a memory store with so many tasks, and nothing that goes wrong: what the engine costs.
    pub fn plain(seed: u64, tasks: u32) -> Self {
        let plan = Self::of(0);
        Self { seed, tasks, processes: None, limit: None, ..plan }
    }

    /// Whether nothing goes wrong that could make a task late.
    pub fn is_calm(&self) -> bool {
        !(self.crashes || self.freezes || self.jumps || self.errors || self.operators)
    }
}
