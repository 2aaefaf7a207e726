//! What happened: a hash of all of it, and the last lines.
//!
//! Two runs of one seed must be the same to the last bit; their hashes tell. The lines are for people who look for the
//! cause of a failure, so only the last ones are kept, and they are written out only when somebody asks.

use std::collections::VecDeque;
use std::fmt;

use taskloom_model::{State, TaskId, Timestamp};

/// So many events are kept.
const TAIL: usize = 120;

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When, by the virtual clock of the day.
    pub at: Timestamp,
    /// In which process, from one; zero is the world.
    pub process: u32,
    /// What.
    pub what: &'static str,
    /// To which task.
    pub task: Option<TaskId>,
    /// Where it was, and where it is.
    pub states: Option<(Option<State>, State)>,
    /// Its attempt, or another number.
    pub number: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} p{} {} {}", self.at, self.process, self.what, self.number)?;
        if let Some(task) = self.task {
            write!(f, " {task}")?;
        }
        if let Some((from, to)) = self.states {
            write!(f, " {} → {to}", from.map_or("new", State::as_str))?;
        }
        Ok(())
    }
}

/// See the module's essay.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    count: u64,
    tail: VecDeque<Event>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, count: 0, tail: VecDeque::new() }
    }
}

impl Trace {
    /// A word at a time: of two traces that differ anywhere, the hashes are to differ, and nobody forges one.
    fn mix(&mut self, value: u64) {
        let product =
            u128::from(self.hash ^ 0x9E37_79B9_7F4A_7C15) * u128::from(value ^ 0xF39C_C060_5CED_C835);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }

    fn mix_bytes(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            self.mix(word.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        }
    }

    /// Something happened.
    pub fn add(&mut self, event: Event) {
        self.mix(event.at.micros().cast_unsigned());
        self.mix(u64::from(event.process) ^ event.number.rotate_left(32));
        self.mix_bytes(event.what.as_bytes());
        if let Some(task) = event.task {
            self.mix_bytes(task.as_bytes());
        }
        if let Some((from, to)) = event.states {
            self.mix(from.map_or(99, |from| from.number().into()) << 8 | u64::from(to.number()));
        }
        self.count += 1;
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(event);
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How much happened.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        self.tail.iter().map(|event| format!("  {event}\n")).collect()
    }
}
