//! Which tasks are asked for, and how many there are.

use taskloom_model::{Name, State, TaskId, Timestamp};

/// Which tasks to list.
#[derive(Clone, Debug)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// In this queue.
    pub queue: Option<Name>,
    /// For this handler.
    pub name: Option<Name>,
    /// With this tag.
    pub tag: Option<String>,
    /// Only those that have not ended.
    pub unfinished: bool,
    /// Only dead letters: those that ended, and neither succeeded nor were skipped ([`State::is_dead`]).
    pub dead: bool,
    /// Only those that were changed at this time or later.
    pub changed_since: Option<Timestamp>,
    /// The highest id first: the newest task, unless somebody sets ids of his own.
    pub newest_first: bool,
    /// Only ids after this one, in the order of the list.
    pub after: Option<TaskId>,
    /// At most so many.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            state: None,
            queue: None,
            name: None,
            tag: None,
            unfinished: false,
            dead: false,
            changed_since: None,
            newest_first: false,
            after: None,
            limit: 100,
        }
    }
}

impl Filter {
    /// Whether it lists tasks in this state.
    pub fn fits(&self, state: State) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
            && !(self.unfinished && state.is_terminal())
            && (!self.dead || state.is_dead())
    }

    /// Whether an id has its place in the list after [`Filter::after`].
    pub fn is_after(&self, id: TaskId) -> bool {
        self.after.is_none_or(|after| if self.newest_first { id < after } else { id > after })
    }

    /// Whether the state does not matter.
    pub fn takes_any_state(&self) -> bool {
        self.state.is_none() && !self.unfinished && !self.dead
    }
}

/// How many tasks are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; State::ALL.len()]);

impl Counts {
    /// How many are in this state.
    pub fn get(&self, state: State) -> u64 {
        self.0[usize::from(state.number())]
    }

    /// Counts some more.
    pub fn add(&mut self, state: State, more: u64) {
        self.0[usize::from(state.number())] += more;
    }

    /// Counts as many more as another.
    pub fn add_all(&mut self, other: Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own += other;
        }
    }

    /// How many have not ended.
    pub fn unfinished(&self) -> u64 {
        State::ALL.iter().filter(|state| !state.is_terminal()).map(|state| self.get(*state)).sum()
    }
}
