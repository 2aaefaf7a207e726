//! What a supervisor of worker processes decides: a state machine without processes, clocks and chance.
//!
//! # What it owns
//! [`Supervisor`] knows for each of its *places* (as many as there are to be processes) which processes there are, and
//! what is to become of them. [`Supervisor::step`] is told the time and what happened ([`Event`]), and answers with what
//! is to be done ([`Action`]). [`Supervisor::next_wake`] is when it wants to be called though nothing has happened.
//! `worker::processes` does what it says.
//!
//! # The life of a process
//! *starting* → *ready* → *leaving* → gone. It is starting until it says that it is ready: by then it has imported the
//! user's code. It is leaving when it was told to. An end that it was not told to make is one of its own.
//!
//! # Invariants
//! * A place has at most one starting and one ready process, however many are leaving it.
//! * The first place starts alone: what is wrong with the user's code is told once. If that process ends before it was
//!   ready, so does the command, with its exit code. Nothing that fails at once is started over and over.
//! * Who ends by itself is followed by another: after a wait that doubles with each end in a row and begins anew once a
//!   process was healthy for a time. The waits of the places have nothing to do with each other.
//! * A ready process that is to be replaced (reload, maximum of tasks, much memory) goes on until its successor is ready.
//!   A reload replaces one place after another, and each only when the one before is done, so there is never more than
//!   one process too many on its account. It is given up when a new process ends before it is ready: what runs then goes
//!   on.
//! * Whoever was told to leave is killed when it has not by its deadline. A process whose memory has passed the bound is
//!   killed at once.
//! * After a stop nothing is started. The first signal lets processes finish, the second has them end at once, the third
//!   kills them; each is also a deadline for the one before.
//! * `Exit` comes once, when there is no process left, and nothing comes after it.

mod backoff;
mod notice;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) use backoff::Backoff;
pub(crate) use notice::{Notice, Who};

/// What a process that leaves is given beyond the grace of its tasks: to tell subscribers, and for the language to end.
pub(crate) const MARGIN: Duration = Duration::from_secs(5);

/// What a process that is to end at once is given, to give back what it has.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(2);

/// After how long somebody is told that a process is still starting.
const SLOW: Duration = Duration::from_secs(30);

/// From which part of the bound of its memory on a process is replaced, in tenths: before it has to be killed.
const MUCH: u64 = 9;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many processes there are to be; at least one.
    pub(crate) processes: usize,
    /// After how many tasks a process is replaced.
    pub(crate) max_tasks: Option<u64>,
    /// How many bytes of memory a process may have.
    pub(crate) max_memory: Option<u64>,
    /// How long what runs may go on when a process is to leave.
    pub(crate) grace: Duration,
    /// When to start again.
    pub(crate) backoff: Backoff,
}

/// A process: no number is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChildId(pub(crate) u64);

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With an exit code.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// It could not be started at all.
    NotStarted(String),
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Time went by.
    Tick,
    /// The supervisor is to stop, by this signal.
    Stop(i32),
    /// All processes are to be replaced.
    Reload,
    /// A process runs tasks of these handlers now.
    Ready {
        /// Which one.
        child: ChildId,
        /// The names of its handlers.
        handlers: BTreeSet<String>,
        /// Its store.
        store: String,
    },
    /// So many attempts have ended in a process.
    Tasks {
        /// Which one.
        child: ChildId,
        /// Since its start.
        ended: u64,
    },
    /// A process has so much memory.
    Memory {
        /// Which one.
        child: ChildId,
        /// How much of it is resident.
        bytes: u64,
    },
    /// A process has ended.
    Ended {
        /// Which one.
        child: ChildId,
        /// How.
        how: Ending,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Start a process.
    Start(ChildId),
    /// Tell a process to finish what it runs, and to end.
    Terminate(ChildId),
    /// Tell a process to give back what it runs, and to end.
    Interrupt(ChildId),
    /// Kill a process and all that it has started.
    Kill(ChildId),
    /// Tell people.
    Say(Notice),
    /// End the command with this exit code.
    Exit(u8),
}

/// Why a process is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The supervisor stops.
    Stop,
    /// All are replaced.
    Reload,
    /// It has run as many tasks as it may.
    MaxTasks,
    /// Its memory is near its bound.
    MuchMemory,
    /// Its memory has passed its bound.
    TooMuchMemory,
}

#[derive(Clone, Debug)]
enum Stage {
    Starting { since: Duration, told: bool },
    Ready { since: Duration },
    Leaving { why: Why, deadline: Duration, killed: bool },
}

#[derive(Clone, Debug)]
struct Child {
    place: usize,
    generation: u64,
    stage: Stage,
    handlers: BTreeSet<String>,
}

impl Child {
    fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. })
    }

    fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Starting { .. })
    }

    fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. })
    }
}

#[derive(Clone, Debug, Default)]
struct Place {
    /// Processes that ended by themselves, in a row.
    ends: u32,
    /// Nothing is started before.
    not_before: Duration,
    /// Why its process is to be replaced.
    due: Option<Why>,
}

#[derive(Clone, Debug)]
enum Phase {
    Running,
    Stopping { signals: u32, code: u8 },
    Done,
}

/// See the module's essay.
pub(crate) struct Supervisor {
    plan: Plan,
    random: fastrand::Rng,
    phase: Phase,
    places: Vec<Place>,
    children: BTreeMap<ChildId, Child>,
    next: u64,
    /// It counts reloads: processes that are started from now on are of this generation.
    generation: u64,
    /// Whether older generations are being replaced.
    reloading: bool,
    /// Whether any process has ever been ready.
    begun: bool,
}

impl Supervisor {
    /// One that has not started anything: its first [`Supervisor::step`] does.
    pub(crate) fn new(plan: Plan, seed: u64) -> Self {
        let places = vec![Place::default(); plan.processes.max(1)];
        Self {
            plan,
            random: fastrand::Rng::with_seed(seed),
            phase: Phase::Running,
            places,
            children: BTreeMap::new(),
            next: 1,
            generation: 0,
            reloading: false,
            begun: false,
        }
    }

    /// Takes in what happened, and says what is to be done, in this order. Events about processes that are gone are
    /// ignored: they were on their way.
    pub(crate) fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if matches!(self.phase, Phase::Done) {
            return actions;
        }
        match event {
            Event::Tick => {}
            Event::Stop(signal) => self.stop(now, signal, &mut actions),
            Event::Reload => self.reload(&mut actions),
            Event::Ready { child, handlers, store } => {
                self.ready(now, child, handlers, store, &mut actions);
            }
            Event::Tasks { child, ended } => self.tasks(child, ended, &mut actions),
            Event::Memory { child, bytes } => self.memory(now, child, bytes, &mut actions),
            Event::Ended { child, how } => self.ended(now, child, &how, &mut actions),
        }
        self.settle(now, &mut actions);
        actions
    }

    /// When it wants to be called next, though nothing happens; `None` if only something that happens can change anything.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let children = self.children.values().filter_map(|child| match child.stage {
            Stage::Leaving { deadline, killed: false, .. } => Some(deadline),
            Stage::Starting { since, told: false } => Some(since + SLOW),
            _ => None,
        });
        let places = self
            .places
            .iter()
            .enumerate()
            .filter(|(place, _)| self.lacks(*place).is_some())
            .map(|(_, place)| place.not_before);
        children.chain(places).min()
    }

    /// Whether there is a process of this number that has not ended.
    #[cfg(test)]
    pub(crate) fn knows(&self, child: ChildId) -> bool {
        self.children.contains_key(&child)
    }

    fn who(&self, child: ChildId) -> Who {
        Who { child, place: self.children.get(&child).map_or(0, |child| child.place) + 1 }
    }

    fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    fn of_place(&self, place: usize) -> impl Iterator<Item = (ChildId, &Child)> {
        self.children.iter().filter(move |(_, child)| child.place == place).map(|(id, child)| (*id, child))
    }

    // ── what happened ───────────────────────────────────────────────────────────────────────────────────────────────

    fn stop(&mut self, now: Duration, signal: i32, actions: &mut Vec<Action>) {
        let signals = match self.phase {
            Phase::Running => 0,
            Phase::Stopping { signals, .. } => signals,
            Phase::Done => return,
        };
        match signals {
            0 => {
                let processes = self.children.len();
                actions.push(Action::Say(Notice::Stopping { signal, processes, grace: self.plan.grace }));
                self.phase = Phase::Stopping { signals: 1, code: 0 };
                self.leave_all(now, actions);
            }
            1 => {
                actions.push(Action::Say(Notice::AtOnce { signal }));
                self.phase = Phase::Stopping { signals: 2, code: by_signal(signal) };
                let deadline = now + AT_ONCE;
                for (id, child) in &mut self.children {
                    if let Stage::Leaving { deadline: until, .. } = &mut child.stage {
                        *until = deadline.min(*until);
                    }
                    actions.push(Action::Interrupt(*id));
                }
            }
            _ => {
                for child in self.children.values_mut() {
                    if let Stage::Leaving { deadline, .. } = &mut child.stage {
                        *deadline = now;
                    }
                }
            }
        }
    }

    /// Tells everybody to leave.
    fn leave_all(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.reloading = false;
        let staying: Vec<ChildId> =
            self.children.iter().filter(|(_, child)| !child.is_leaving()).map(|(id, _)| *id).collect();
        for id in staying {
            self.leave(now, id, Why::Stop, actions);
        }
    }

    fn leave(&mut self, now: Duration, id: ChildId, why: Why, actions: &mut Vec<Action>) {
        let deadline = now + self.plan.grace + MARGIN;
        if let Some(child) = self.children.get_mut(&id) {
            child.stage = Stage::Leaving { why, deadline, killed: false };
            actions.push(Action::Terminate(id));
        }
    }

    fn reload(&mut self, actions: &mut Vec<Action>) {
        if !self.is_running() {
            return;
        }
        self.generation += 1;
        self.reloading = true;
        for place in &mut self.places {
            // It may be what those that ended were waiting for.
            (place.ends, place.not_before) = (0, Duration::ZERO);
        }
        actions.push(Action::Say(Notice::Reloading { processes: self.places.len() }));
    }

    fn ready(
        &mut self,
        now: Duration,
        id: ChildId,
        handlers: BTreeSet<String>,
        store: String,
        actions: &mut Vec<Action>,
    ) {
        let who = self.who(id);
        let Some(child) = self.children.get_mut(&id).filter(|child| child.is_starting()) else { return };
        child.stage = Stage::Ready { since: now };
        child.handlers.clone_from(&handlers);
        let (place, generation) = (child.place, child.generation);
        self.begun = true;
        actions.push(Action::Say(Notice::Ready { who, handlers: handlers.len(), store }));
        self.compare(id, generation, &handlers, actions);
        let why = self.places[place].due.take().unwrap_or(Why::Reload);
        let older: Vec<ChildId> = self
            .of_place(place)
            .filter(|(other, child)| *other != id && child.is_ready())
            .map(|(other, _)| other)
            .collect();
        for other in older {
            self.leave(now, other, why, actions);
        }
    }

    /// Tells of handlers that differ from those of another process of the same generation.
    fn compare(&self, id: ChildId, generation: u64, handlers: &BTreeSet<String>, actions: &mut Vec<Action>) {
        let other = self.children.iter().find(|(other, child)| {
            **other != id && child.generation == generation && child.is_ready() && child.handlers != *handlers
        });
        if let Some((other, child)) = other {
            actions.push(Action::Say(Notice::Differs {
                who: self.who(id),
                from: self.who(*other),
                lacks: child.handlers.difference(handlers).cloned().collect(),
                alone: handlers.difference(&child.handlers).cloned().collect(),
            }));
        }
    }

    fn tasks(&mut self, id: ChildId, ended: u64, actions: &mut Vec<Action>) {
        if self.plan.max_tasks.is_some_and(|most| ended >= most) {
            self.due(id, Why::MaxTasks, Notice::EnoughTasks { who: self.who(id), ended }, actions);
        }
    }

    fn memory(&mut self, now: Duration, id: ChildId, bytes: u64, actions: &mut Vec<Action>) {
        let Some(bound) = self.plan.max_memory else { return };
        let who = self.who(id);
        let Some(child) = self.children.get_mut(&id) else { return };
        if bytes < bound {
            if bytes >= bound / 10 * MUCH {
                self.due(id, Why::MuchMemory, Notice::MuchMemory { who, bytes, bound }, actions);
            }
            return;
        }
        if !matches!(child.stage, Stage::Leaving { killed: true, .. }) {
            child.stage = Stage::Leaving { why: Why::TooMuchMemory, deadline: now, killed: true };
            actions.push(Action::Say(Notice::TooMuchMemory { who, bytes, bound }));
            actions.push(Action::Kill(id));
        }
    }

    /// A ready process is to be replaced.
    fn due(&mut self, id: ChildId, why: Why, notice: Notice, actions: &mut Vec<Action>) {
        let Some(child) = self.children.get(&id).filter(|child| child.is_ready()) else { return };
        let place = child.place;
        if self.is_running() && self.places[place].due.is_none() {
            self.places[place].due = Some(why);
            actions.push(Action::Say(notice));
        }
    }

    fn ended(&mut self, now: Duration, id: ChildId, how: &Ending, actions: &mut Vec<Action>) {
        let who = self.who(id);
        let Some(child) = self.children.remove(&id) else { return };
        let (how, running) = (how.clone(), self.is_running());
        if running && !self.begun {
            // It was the only one.
            let code = match &how {
                Ending::Exited(code) => u8::try_from(*code).unwrap_or(1).max(1),
                Ending::Signalled(signal) => by_signal(*signal),
                Ending::NotStarted(_) => 1,
            };
            actions.push(Action::Say(Notice::NeverReady { who, how }));
            self.phase = Phase::Stopping { signals: 0, code };
            return;
        }
        match child.stage {
            Stage::Leaving { why, killed, .. } => {
                actions.push(Action::Say(Notice::Left { who, why, how, killed }));
                if running && why == Why::TooMuchMemory {
                    self.wait(now, child.place);
                }
            }
            Stage::Starting { .. } => {
                let given_up = self.reloading && child.generation == self.generation;
                self.reloading &= !given_up;
                let wait = self.wait(now, child.place);
                let again_in = self.is_to_be_filled(child.place).then_some(wait);
                actions.push(Action::Say(Notice::Ended { who, how, again_in, was_ready: false }));
                if given_up {
                    let ready = self.children.values().filter(|child| child.is_ready());
                    let (new, old): (Vec<_>, Vec<_>) =
                        ready.partition(|child| child.generation == self.generation);
                    actions.push(Action::Say(Notice::NotReloaded { who, new: new.len(), old: old.len() }));
                }
            }
            Stage::Ready { since } => {
                if now.saturating_sub(since) >= self.plan.backoff.healthy {
                    self.places[child.place].ends = 0;
                }
                let again_in = Some(self.wait(now, child.place));
                actions.push(Action::Say(Notice::Ended { who, how, again_in, was_ready: true }));
            }
        }
    }

    /// Nothing is started in a place for a while; for how long.
    fn wait(&mut self, now: Duration, place: usize) -> Duration {
        let chance = self.random.f64();
        let place = &mut self.places[place];
        place.ends = place.ends.saturating_add(1);
        let wait = self.plan.backoff.delay(place.ends, chance);
        place.not_before = now + wait;
        wait
    }

    // ── what follows ────────────────────────────────────────────────────────────────────────────────────────────────

    fn settle(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (id, child) in &mut self.children {
            let who = Who { child: *id, place: child.place + 1 };
            match &mut child.stage {
                Stage::Leaving { deadline, killed, .. } if !*killed && *deadline <= now => {
                    *killed = true;
                    actions.push(Action::Say(Notice::TooLate { who }));
                    actions.push(Action::Kill(*id));
                }
                Stage::Starting { since, told } if !*told && *since + SLOW <= now => {
                    *told = true;
                    actions.push(Action::Say(Notice::Slow { who, since: SLOW }));
                }
                _ => {}
            }
        }
        match self.phase {
            Phase::Running => self.fill(now, actions),
            Phase::Stopping { code, .. } if self.children.is_empty() => {
                self.phase = Phase::Done;
                actions.push(Action::Exit(code));
            }
            Phase::Stopping { .. } | Phase::Done => {}
        }
    }

    /// Starts what is lacking.
    fn fill(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.reloading && self.next_to_reload().is_none() {
            self.reloading = false;
            actions.push(Action::Say(Notice::Reloaded));
        }
        for place in 0..self.places.len() {
            if self.places[place].not_before > now || self.lacks(place).is_none() {
                continue;
            }
            let id = ChildId(self.next);
            self.next += 1;
            let stage = Stage::Starting { since: now, told: false };
            let child = Child { place, generation: self.generation, stage, handlers: BTreeSet::new() };
            self.children.insert(id, child);
            actions.push(Action::Start(id));
            actions.push(Action::Say(Notice::Started { who: self.who(id) }));
        }
    }

    /// Whether a process has to be started in a place, and what for: `Some(None)` if there is none.
    fn lacks(&self, place: usize) -> Option<Option<Why>> {
        if !self.is_running() || self.of_place(place).any(|(_, child)| child.is_starting()) {
            return None;
        }
        if !self.begun {
            return (place == 0 && self.children.is_empty()).then_some(None);
        }
        if !self.of_place(place).any(|(_, child)| child.is_ready()) {
            return Some(None);
        }
        // A process that is due is replaced when the one before it has gone: no more than two at a time.
        if self.of_place(place).any(|(_, child)| child.is_leaving()) {
            return None;
        }
        let due = self.places[place].due;
        due.or_else(|| (self.reloading && self.next_to_reload() == Some(place)).then_some(Why::Reload))
            .map(Some)
    }

    /// Whether another process is to be started in a place, sooner or later.
    fn is_to_be_filled(&self, place: usize) -> bool {
        let goes_on = self.of_place(place).any(|(_, child)| child.is_ready());
        self.is_running() && (!goes_on || self.reloading || self.places[place].due.is_some())
    }

    /// The first place that has a process of an older generation, or none that is ready.
    fn next_to_reload(&self) -> Option<usize> {
        (0..self.places.len()).find(|place| {
            let mut current = false;
            let old = self.of_place(*place).any(|(_, child)| {
                current |= child.is_ready() && child.generation == self.generation;
                child.generation < self.generation
            });
            old || !current
        })
    }
}

/// The exit code that a shell gives to what a signal has ended.
fn by_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal.clamp(0, 127)).unwrap_or(u8::MAX)
}
