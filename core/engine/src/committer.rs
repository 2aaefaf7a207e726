//! The way into the store.
//!
//! On a *resident* store a change is made on the calling thread, and its effects follow there ([`crate::inline`]).
//!
//! On others one thread makes all changes. It gathers what submitters, workers and timers hand it, adds a claim if
//! lanes run low ([`crate::claims`]), and writes all of it as one transaction: one disk sync for as many tasks as came
//! while the last one was under way (*group commit*). Then, and only then, it lets the effects follow and answers
//! whoever waits.
//!
//! A request that comes alone need not wait for that thread: whoever made it writes it, see [`crate::own_write`].
//!
//! # Invariants
//! * One writes at a time, whichever thread it is on.
//! * What is handed in is answered: committed, refused, or failed. A worker's report, for which nobody waits, is kept
//!   and tried again while the store fails, at growing intervals; a task is not lost to a full disk. Somebody who
//!   waits is answered at once, by an error if need be.
//! * The thread waits only when there is nothing to do, or a moment for more of a group ([`crate::gathering`]). Whatever it
//!   looks at is changed under its lock, or followed by a look under it ([`Committer::look_again`]), so it cannot miss a
//!   change.
//! * Effects run on the thread that wrote, and observers with them. One that submits or cancels would wait for the thread that
//!   it is on; its request is written then and there instead, as a transaction of its own.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use taskloom_model::{Code, Effects, Error, Operation, Result, Timestamp};
use taskloom_store::{Commit, Insert, Task};
use taskloom_sync::Bell;

use crate::answer::{Answer, Reply};
use crate::batch::{self, Origin, Work};
use crate::claims::{More, room};
use crate::core::Core;
use crate::inbox::{Inbox, Waits};
use crate::inline::{change_inline, follow_inline};
use crate::{edge, shutdown};

/// The shortest and the longest pause between two tries while the store fails.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Why something could not be handed in, and what it was.
type Refused = Box<(Error, Inbox)>;

pub(crate) struct Committer {
    resident: bool,
    pub(crate) inbox: Mutex<Inbox>,
    pub(crate) arrived: Condvar,
    /// Held by whoever writes.
    pub(crate) writing: Mutex<()>,
    /// How many requests the last transaction had.
    pub(crate) company: AtomicUsize,
    /// Where there is no thread: the pause since the store failed, and until when on the monotonic clock.
    pause: Mutex<(Duration, Duration)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

thread_local! {
    /// The core whose committer this thread is.
    static COMMITTER_OF: Cell<*const Core> = const { Cell::new(std::ptr::null()) };
}

/// For as long as it lives, what follows from a write runs on this thread as it does on the committer's own.
pub(crate) struct Here(*const Core);

impl Here {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self(COMMITTER_OF.replace(Arc::as_ptr(core)))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        COMMITTER_OF.set(self.0);
    }
}

impl Committer {
    pub(crate) fn new(resident: bool) -> Self {
        Self {
            resident,
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            writing: Mutex::new(()),
            company: AtomicUsize::new(0),
            pause: Mutex::default(),
            thread: Mutex::new(None),
        }
    }

    // ── from any thread ─────────────────────────────────────────────────────────────────────────────────────────

    /// Inserts tasks, all or none, and tells `reply` when that is settled. Not for a resident store. `waits`: the calling
    /// thread will wait for it, on what is returned, and may as well do it; if not, somebody else does.
    pub(crate) fn insert(
        &self,
        core: &Arc<Core>,
        tasks: Vec<Arc<Task>>,
        waits: bool,
        reply: Reply<Vec<Arc<Task>>>,
    ) -> Option<Arc<Bell>> {
        // Findable before they are committed, so that nobody who reads them makes a second copy; but a task that is
        // here already must stay the one that is found, as these may be refused for having its id.
        for task in &tasks {
            core.live.adopt(Arc::clone(task));
        }
        let insert = Insert { tasks, verdict: None };
        let waits = if waits { Waits::Here } else { Waits::Elsewhere };
        let handed_in = self.hand_in(core, waits, |inbox| {
            inbox.inserts.push((insert, reply));
            inbox.more = More::ALL;
        });
        handed_in.unwrap_or_else(|refused| {
            let (error, inbox) = *refused;
            for (insert, reply) in inbox.inserts {
                insert.tasks.iter().for_each(|task| core.live.forget(task));
                reply.give(Err(error.duplicate()));
            }
            None
        })
    }

    /// Makes a change and waits for it.
    pub(crate) fn change(&self, core: &Arc<Core>, task: &Arc<Task>, operation: Operation) -> Result<Effects> {
        let mut verdicts = self.change_all(core, vec![(Arc::clone(task), operation)]);
        verdicts.pop().expect("one verdict for each change")
    }

    /// Makes a change that may bring new tasks with it, and waits for it.
    pub(crate) fn commit(&self, core: &Arc<Core>, commit: Commit) -> Result<Effects> {
        if self.resident {
            let now = core.clock.now();
            let mut consequences = Vec::new();
            let task = Arc::clone(&commit.task);
            let effects = core.store.commit(commit, &mut consequences, now)?;
            return Ok(follow_inline(core, &task, effects, consequences, false));
        }
        let (answer, reply) = Answer::new();
        let bell = self.hand_in_commits(core, [(commit, Origin::Caller(reply))]);
        answer.wait_in(bell.as_deref())
    }

    /// Makes changes, together where the store writes in transactions, and waits for them: a verdict for each.
    pub(crate) fn change_all(
        &self,
        core: &Arc<Core>,
        changes: Vec<(Arc<Task>, Operation)>,
    ) -> Vec<Result<Effects>> {
        self.change_all_as(core, changes, Origin::Caller)
    }

    /// Gives back tasks that were claimed ahead and have not begun, and waits until that is committed. Those that were
    /// cancelled meanwhile stay so; if the store fails, they come back when this process ends.
    pub(crate) fn give_back_unbegun(&self, core: &Arc<Core>, changes: Vec<(Arc<Task>, Operation)>) {
        let _ = self.change_all_as(core, changes, Origin::Unbegun);
    }

    fn change_all_as(
        &self,
        core: &Arc<Core>,
        changes: Vec<(Arc<Task>, Operation)>,
        origin: fn(Reply<Effects>) -> Origin,
    ) -> Vec<Result<Effects>> {
        let changes = changes.into_iter();
        if self.resident {
            let now = core.clock.now();
            return changes
                .map(|(task, operation)| change_inline(core, &task, operation, false, now))
                .collect();
        }
        let mut answers = Vec::new();
        let commits: Vec<_> = changes
            .map(|(task, operation)| {
                let (answer, reply) = Answer::new();
                answers.push(answer);
                (Commit { task, operation, spawn: Vec::new() }, origin(reply))
            })
            .collect();
        let bell = self.hand_in_commits(core, commits);
        answers.into_iter().map(|answer| answer.wait_in(bell.as_deref())).collect()
    }

    /// Hands in changes for which the calling thread will wait, on what is returned.
    fn hand_in_commits(
        &self,
        core: &Arc<Core>,
        commits: impl IntoIterator<Item = (Commit, Origin)>,
    ) -> Option<Arc<Bell>> {
        self.hand_in(core, Waits::Here, |inbox| inbox.commits.extend(commits)).unwrap_or_else(|refused| {
            let (error, inbox) = *refused;
            for (_, origin) in inbox.commits {
                origin.refuse(&error);
            }
            None
        })
    }

    /// Makes changes that a worker reports, in one transaction. Reports that come too late are counted and forgotten.
    /// A task that this ended here and now is returned, and is still to be settled. Where there is `held`, the calling worker
    /// may write it itself: see [`crate::own_write`].
    #[must_use = "whoever waits for the task hears of its end when it is settled"]
    pub(crate) fn report(
        &self,
        core: &Arc<Core>,
        task: Arc<Task>,
        operations: impl IntoIterator<Item = Operation>,
        now: Timestamp,
        held: Option<&mut bool>,
    ) -> Option<Arc<Task>> {
        if self.resident {
            let mut ended = false;
            for operation in operations {
                let about = (operation.fence(), operation.name());
                match change_inline(core, &task, operation, true, now) {
                    Ok(effects) => ended |= effects.finished(),
                    Err(_) => core.count_late_report(&task, about),
                }
            }
            return ended.then_some(task);
        }
        let commits = operations.into_iter().map(|operation| Commit {
            task: Arc::clone(&task),
            operation,
            spawn: Vec::new(),
        });
        let mut inbox = self.inbox.lock();
        if inbox.stopping && !inbox.running {
            commits.for_each(|commit| {
                core.count_late_report(&task, (commit.operation.fence(), commit.operation.name()));
            });
            return None;
        }
        inbox.commits.extend(commits.map(|commit| (commit, Origin::Worker)));
        inbox.hurry();
        let alone = inbox.inserts.is_empty() && inbox.commits.len() == 1;
        drop(inbox);
        match held {
            Some(held) if alone && self.may_hold(core) => *held = true,
            _ => self.call(),
        }
        None
    }

    /// There may be eligible tasks in the store that nobody here has claimed.
    pub(crate) fn ask_for_more(&self) {
        if !self.resident {
            self.inbox.lock().more = More::ALL;
            self.arrived.notify_one();
        }
    }

    /// A lane may have run low without a report: its tasks were called off before they began.
    pub(crate) fn look_again(&self, core: &Core) {
        if !self.resident && room(core, self.inbox.lock().more).is_some() {
            self.arrived.notify_one();
        }
    }

    /// Settles a task that another process has ended, after all that this one has written is told.
    pub(crate) fn settle_in_turn(&self, core: &Arc<Core>, task: Arc<Task>) {
        if self.is_here(core) {
            // In the midst of a turn, whose end may be to tell of this one; after it, it is looked whether there is more.
            let mut inbox = self.inbox.lock();
            if !inbox.stopping {
                inbox.ended.push(task);
                return;
            }
        }
        if let Err(refused) = self.hand_in(core, Waits::Nobody, |inbox| inbox.ended.push(task)) {
            refused.1.ended.iter().for_each(Task::settle);
        }
    }

    /// There is progress to write.
    pub(crate) fn poke(&self, core: &Arc<Core>) {
        // Progress that cannot be written any more is of no use to anybody.
        let _ = self.hand_in(core, Waits::Nobody, |inbox| inbox.poked = true);
    }

    /// Puts something into the inbox; or returns it, in an inbox of its own. If the calling thread will wait, it is told
    /// what for, unless it has happened already.
    fn hand_in(
        &self,
        core: &Arc<Core>,
        waits: Waits,
        put: impl FnOnce(&mut Inbox),
    ) -> std::result::Result<Option<Arc<Bell>>, Refused> {
        let refused = match self.start(core) {
            Ok(()) => {
                let mut inbox = self.inbox.lock();
                if !inbox.stopping {
                    put(&mut inbox);
                    let bell = inbox.put_in(waits);
                    let waits = waits == Waits::Here;
                    let calls = inbox.calls();
                    drop(inbox);
                    if self.is_here(core) {
                        self.turn(core, Turn::Within);
                    } else if core.driver.is_some() {
                        // The rest is written as the driver comes to it.
                        if waits {
                            self.write_driven(core);
                        }
                    } else if !(waits && self.write_here(core)) && calls {
                        self.arrived.notify_one();
                    }
                    return Ok(bell);
                }
                stopped()
            }
            Err(error) => error,
        };
        let mut inbox = Inbox::default();
        put(&mut inbox);
        Err(Box::new((refused, inbox)))
    }

    /// Writes what has been handed in on the thread that drives the engine; whether the store did its part.
    fn write_driven(&self, core: &Arc<Core>) -> bool {
        let _writing = self.writing.lock();
        let _here = Here::new(core);
        self.turn(core, Turn::Prompt)
    }

    /// For an engine that is driven: writes what there is, and says how long it may be until it is to try again.
    pub(crate) fn step(&self, core: &Arc<Core>) -> Duration {
        if self.resident || self.is_here(core) {
            return Duration::MAX;
        }
        let now = core.clock.monotonic();
        let (pause, until) = *self.pause.lock();
        if until > now {
            return until - now;
        }
        if !self.inbox.lock().has_work(core) {
            return Duration::MAX;
        }
        let healthy = self.write_driven(core);
        let pause = if healthy { Duration::ZERO } else { (pause * 2).clamp(PAUSES.0, PAUSES.1) };
        *self.pause.lock() = (pause, now + pause);
        pause
    }

    /// Whether the calling thread is the one that writes.
    pub(crate) fn is_here(&self, core: &Arc<Core>) -> bool {
        COMMITTER_OF.get() == Arc::as_ptr(core)
    }

    // ── life ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Starts the thread, if the store needs one and there is none.
    pub(crate) fn start(&self, core: &Arc<Core>) -> Result<()> {
        if self.resident {
            return Ok(());
        }
        {
            let mut inbox = self.inbox.lock();
            if inbox.running || inbox.stopping {
                return Ok(());
            }
            inbox.running = true;
            inbox.more = More::ALL;
        }
        if core.driver.is_some() {
            return Ok(());
        }
        let own = Arc::clone(core);
        let life = move || {
            let _guard = Dying(&own);
            COMMITTER_OF.set(Arc::as_ptr(&own));
            own.committer.live(&own);
        };
        match edge::spawn("taskloom-committer".into(), life) {
            Ok(handle) => {
                *self.thread.lock() = Some(handle);
                Ok(())
            }
            Err(error) => {
                self.inbox.lock().running = false;
                Err(Error::new(Code::StoreFailed, "the system would not start the committer thread")
                    .caused_by(error))
            }
        }
    }

    /// Writes what has been handed in, and ends the thread.
    pub(crate) fn stop(&self, core: &Arc<Core>) {
        self.inbox.lock().stopping = true;
        if core.driver.is_some() {
            while self.inbox.lock().has_work(core) {
                self.write_driven(core);
            }
            self.inbox.lock().running = false;
        }
        self.arrived.notify_all();
        edge::join(&self.thread);
        // Somebody may still be writing what was handed in before.
        drop(self.writing.lock());
    }

    fn live(&self, core: &Arc<Core>) {
        let mut pause = Duration::ZERO;
        while self.wait(core, pause) {
            let writing = self.writing.lock();
            let healthy = self.turn(core, Turn::Patient);
            drop(writing);
            pause = match healthy {
                true => Duration::ZERO,
                false => (pause * 2).clamp(PAUSES.0, PAUSES.1),
            };
        }
    }

    /// Waits until there is something to do; false if that will never be so again.
    fn wait(&self, core: &Arc<Core>, pause: Duration) -> bool {
        let mut inbox = self.inbox.lock();
        if let Some(until) = edge::deadline_in(pause).filter(|_| !pause.is_zero()) {
            // The store failed last time.
            while !inbox.stopping && !inbox.is_awaited() {
                if self.arrived.wait_until(&mut inbox, until).timed_out() {
                    break;
                }
            }
        }
        loop {
            if inbox.has_work(core) {
                return true;
            }
            if inbox.stopping {
                inbox.running = false;
                return false;
            }
            self.arrived.wait(&mut inbox);
        }
    }

    /// Writes what is there now; whether the store did its part.
    pub(crate) fn turn(&self, core: &Arc<Core>, turn: Turn) -> bool {
        let (work, ended, group) = {
            let mut inbox = self.inbox.lock();
            let room = room(core, inbox.more);
            if let Some(room) = &room {
                inbox.more = inbox.more.without(room.routes);
                core.queues.claim_decided();
            }
            inbox.poked = false;
            let work = Work {
                inserts: std::mem::take(&mut inbox.inserts),
                commits: std::mem::take(&mut inbox.commits),
                room,
                last_try: inbox.stopping,
                is_open: true,
            };
            inbox.begin(turn == Turn::Patient && work.commits.is_empty());
            let ended = if turn == Turn::Within { Vec::new() } else { std::mem::take(&mut inbox.ended) };
            (work, ended, inbox.close())
        };
        self.company.store(work.inserts.len() + work.commits.len(), Ordering::Relaxed);
        let began = core.clock.monotonic();
        let left = batch::write(core, work);
        let took = core.clock.monotonic().saturating_sub(began);
        let groups = self.inbox.lock().written(group, took);
        self.company.fetch_max(groups.waiting(), Ordering::Relaxed);
        drop(groups);
        ended.iter().for_each(Task::settle);
        let mut inbox = self.inbox.lock();
        inbox.more = inbox.more.with(left.more);
        if !left.reports.is_empty() {
            inbox.hurry();
        }
        let arrived = std::mem::replace(&mut inbox.commits, left.reports);
        inbox.commits.extend(arrived);
        left.healthy
    }
}

/// How a turn of the committer comes about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The thread may wait for others to join.
    Patient,
    /// Somebody waits for it.
    Prompt,
    /// Within another turn, by somebody who is told of what that one has written. Tasks that are to settle after all has
    /// been told are left to the outer one's successor.
    Within,
}

/// Ends everything if the committer's thread panics: without it nothing would ever be answered.
struct Dying<'a>(&'a Arc<Core>);

impl Drop for Dying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.committer.inbox.lock().running = false;
            die(self.0);
        }
    }
}

pub(crate) fn die(core: &Arc<Core>) {
    let mut inbox = core.committer.inbox.lock();
    inbox.stopping = true;
    let unanswered = (std::mem::take(&mut inbox.inserts), std::mem::take(&mut inbox.commits));
    let group = inbox.close();
    let groups = inbox.written(group, Duration::ZERO);
    drop(inbox);
    drop(unanswered);
    drop(groups);
    shutdown::die(core);
}

fn stopped() -> Error {
    Error::new(Code::ShutDown, "the engine has been stopped")
}
