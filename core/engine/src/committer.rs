//! The way into the store.
//!
//! On a *resident* store a change is made on the calling thread, and its effects follow there.
//!
//! On others one thread makes all changes. It gathers what submitters, workers and timers hand it, adds a claim if
//! lanes run low, and writes all of it as one transaction: one disk sync for as many tasks as came while the last one
//! was under way (*group commit*). Then, and only then, it lets the effects follow and answers whoever waits.
//!
//! # Invariants
//! * What is handed in is answered: committed, refused, or failed. A worker's report, for which nobody waits, is kept
//!   and tried again while the store fails, at growing intervals; a task is not lost to a full disk.
//! * The thread waits only when there is nothing to do. `poke` and `ask_for_more` change what it looks at under its
//!   lock, so it cannot miss them.
//! * `more` says that the store may hold eligible tasks that nobody here has claimed. It is lowered before a claim is
//!   made and raised again if the claim got all that it asked for, so a task that becomes eligible meanwhile is seen.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use taskloom_model::{Code, Effects, Error, Operation, Result, Timestamp};
use taskloom_store::{Batch, Claim, Commit, Insert, Task};
use taskloom_sync::Latch;

use crate::core::Core;
use crate::edge;
use crate::queues::Route;

/// How many claimed tasks a lane holds ready at most. Those beyond what runs are lost to other processes for as
/// long, so not too many; each claim costs a part of a transaction, so not too few.
const LANE: usize = 512;

/// A lane is filled up when this much room is in it.
const REFILL: usize = LANE / 2;

/// The longest pause between two tries while the store fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is told when an insert is committed, or is not.
pub(crate) type InsertReply = Box<dyn FnOnce(Result<()>) + Send>;

/// What is told when a change is committed, or is not.
type ChangeReply = Box<dyn FnOnce(Result<Effects>) + Send>;

pub(crate) struct Committer {
    resident: bool,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Inbox {
    inserts: Vec<(Insert, InsertReply)>,
    commits: Vec<(Commit, Origin)>,
    running: bool,
    stopping: bool,
    poked: bool,
    more: bool,
}

/// Who asked for a change.
enum Origin {
    /// A worker reports; nobody waits.
    Worker,
    /// Somebody waits for the answer.
    Caller(ChangeReply),
    /// A handler told its progress.
    Progress,
}

/// A place where one thread leaves an answer for another.
pub(crate) struct Answer<T> {
    latch: Latch,
    value: Mutex<Option<T>>,
}

impl<T> Answer<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { latch: Latch::new(), value: Mutex::new(None) })
    }

    pub(crate) fn give(&self, value: T) {
        *self.value.lock() = Some(value);
        self.latch.set();
    }

    pub(crate) fn wait(&self) -> T {
        self.latch.wait();
        self.value.lock().take().expect("an answer is given once and taken once")
    }
}

impl Committer {
    pub(crate) fn new(resident: bool) -> Self {
        Self { resident, inbox: Mutex::default(), arrived: Condvar::new(), thread: Mutex::new(None) }
    }

    // ── from any thread ─────────────────────────────────────────────────────────────────────────────────────────

    /// Inserts tasks, all or none, and tells `reply` when that is settled: at once on a resident store.
    pub(crate) fn insert(&self, core: &Arc<Core>, tasks: Vec<Arc<Task>>, reply: InsertReply) {
        let insert = Insert { tasks, verdict: None };
        let put = |inbox: &mut Inbox| {
            inbox.inserts.push((insert, reply));
            inbox.more = true;
        };
        match self.hand_in(core, put) {
            Ok(()) => {}
            Err((error, inserts)) => {
                if let Some((_, reply)) = inserts {
                    reply(Err(error));
                }
            }
        }
    }

    /// Makes a change and waits for it.
    pub(crate) fn change(&self, core: &Arc<Core>, task: &Arc<Task>, operation: Operation) -> Result<Effects> {
        let commit = Commit { task: Arc::clone(task), operation, spawn: Vec::new() };
        if core.capability.resident {
            return commit_inline(core, commit, core.clock.now());
        }
        let answer = Answer::new();
        let giver = Arc::clone(&answer);
        let origin = Origin::Caller(Box::new(move |effects| giver.give(effects)));
        self.start(core)?;
        {
            let mut inbox = self.inbox.lock();
            if inbox.stopping {
                return Err(stopped());
            }
            inbox.commits.push((commit, origin));
        }
        self.arrived.notify_one();
        answer.wait()
    }

    /// Makes a change that a worker reports. A report that comes too late is counted and forgotten. Returns the task
    /// if it has ended and is still to be settled.
    pub(crate) fn report(
        &self,
        core: &Core,
        task: Arc<Task>,
        operation: Operation,
        now: Timestamp,
    ) -> Option<Arc<Task>> {
        let commit = Commit { task: Arc::clone(&task), operation, spawn: Vec::new() };
        if core.capability.resident {
            let mut consequences = Vec::new();
            match core.store.commit(commit, &mut consequences, now) {
                Ok(effects) if effects.finished() => {
                    core.follow_all(&mut consequences);
                    return Some(task);
                }
                Ok(effects) => core.follow(&task, effects, true),
                Err(_) => core.count_late_report(),
            }
            core.follow_all(&mut consequences);
            return None;
        }
        let mut inbox = self.inbox.lock();
        if inbox.stopping && !inbox.running {
            core.count_late_report();
            return None;
        }
        inbox.commits.push((commit, Origin::Worker));
        drop(inbox);
        self.arrived.notify_one();
        None
    }

    /// There may be eligible tasks in the store that nobody here has claimed.
    pub(crate) fn ask_for_more(&self) {
        if self.resident {
            return;
        }
        let mut inbox = self.inbox.lock();
        if inbox.running && !inbox.more {
            inbox.more = true;
            drop(inbox);
            self.arrived.notify_one();
        } else {
            inbox.more = true;
        }
    }

    /// There is progress to write.
    pub(crate) fn poke(&self, core: &Arc<Core>) {
        if self.start(core).is_ok() {
            self.inbox.lock().poked = true;
            self.arrived.notify_one();
        }
    }

    #[allow(clippy::type_complexity, reason = "what could not be handed in goes back to the caller")]
    fn hand_in(
        &self,
        core: &Arc<Core>,
        put: impl FnOnce(&mut Inbox),
    ) -> std::result::Result<(), (Error, Option<(Insert, InsertReply)>)> {
        let mut inbox = match self.start(core) {
            Ok(()) => self.inbox.lock(),
            Err(error) => {
                let mut refused = Inbox::default();
                put(&mut refused);
                return Err((error, refused.inserts.pop()));
            }
        };
        if inbox.stopping {
            let mut refused = Inbox::default();
            put(&mut refused);
            return Err((stopped(), refused.inserts.pop()));
        }
        put(&mut inbox);
        drop(inbox);
        self.arrived.notify_one();
        Ok(())
    }

    // ── life ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Starts the thread, if the store needs one and there is none.
    pub(crate) fn start(&self, core: &Arc<Core>) -> Result<()> {
        if core.capability.resident {
            return Ok(());
        }
        {
            let mut inbox = self.inbox.lock();
            if inbox.running || inbox.stopping {
                return Ok(());
            }
            inbox.running = true;
            inbox.more = true;
        }
        let own = Arc::clone(core);
        match edge::spawn("taskloom-committer".into(), move || own.committer.live(&own)) {
            Ok(handle) => {
                *self.thread.lock() = Some(handle);
                Ok(())
            }
            Err(error) => {
                self.inbox.lock().running = false;
                Err(Error::new(Code::StoreFailed, "the system would not start the committer thread").caused_by(error))
            }
        }
    }

    /// Writes what has been handed in, and ends the thread.
    pub(crate) fn stop(&self) {
        self.inbox.lock().stopping = true;
        self.arrived.notify_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // Its panic has been printed; there is nobody to hand it to.
            let _ = thread.join();
        }
    }

    fn live(&self, core: &Arc<Core>) {
        let mut pause = Duration::ZERO;
        loop {
            let work = {
                let mut inbox = self.inbox.lock();
                loop {
                    let wants_claim = inbox.more && room(core).is_some();
                    if !inbox.inserts.is_empty() || !inbox.commits.is_empty() || inbox.poked || wants_claim {
                        break;
                    }
                    if inbox.stopping {
                        inbox.running = false;
                        return;
                    }
                    self.arrived.wait(&mut inbox);
                }
                if !pause.is_zero() {
                    // The store failed last time. New arrivals do not cut the pause short, the end does.
                    let stopping = inbox.stopping;
                    if !stopping {
                        self.arrived.wait_for(&mut inbox, pause);
                    }
                }
                inbox.poked = false;
                Work {
                    inserts: std::mem::take(&mut inbox.inserts),
                    commits: std::mem::take(&mut inbox.commits),
                    claim: inbox.more,
                    last_try: inbox.stopping,
                }
            };
            let healthy = self.step(core, work);
            pause = if healthy {
                Duration::ZERO
            } else {
                (pause * 2).clamp(Duration::from_millis(50), LONGEST_PAUSE)
            };
        }
    }

    /// Writes one batch and lets its effects follow; whether the store did its part.
    fn step(&self, core: &Arc<Core>, work: Work) -> bool {
        let now = core.clock.now();
        let mut batch = Batch::default();
        let (inserts, mut replies): (Vec<_>, Vec<_>) = work.inserts.into_iter().unzip();
        let (commits, mut origins): (Vec<_>, Vec<_>) = work.commits.into_iter().unzip();
        batch.inserts = inserts;
        batch.commits = commits;
        for (_, (task, fence, progress)) in core.progress.lock().drain() {
            let operation = Operation::Progress { fence, progress };
            batch.commits.push(Commit { task, operation, spawn: Vec::new() });
            origins.push(Origin::Progress);
        }
        let room = if work.claim { room(core) } else { None };
        let limit = room.as_ref().map_or(usize::MAX, |room| room.claim.limit);
        if let Some(room) = room {
            self.inbox.lock().more = room.partial;
            batch.claim = Some(room.claim);
        }
        if batch.is_empty() {
            return true;
        }
        if let Err(error) = core.store.write(&mut batch, &core.live, now) {
            self.refuse(&error, batch, replies, origins, work.last_try);
            return false;
        }
        // First what was claimed, so that workers can begin while the rest is told.
        if batch.claimed.len() >= limit {
            self.inbox.lock().more = true;
        }
        for task in batch.claimed.drain(..) {
            core.live.insert(&task);
            core.enqueue(task);
        }
        let mut due = false;
        for (insert, reply) in batch.inserts.iter_mut().zip(replies.drain(..)) {
            due |= insert.tasks.iter().any(|task| task.spec().rare.is_some());
            reply(insert.verdict.take().unwrap_or(Ok(())));
        }
        if due {
            core.timers.look_now();
        }
        self.tell(core, &mut batch, origins);
        true
    }

    fn tell(&self, core: &Core, batch: &mut Batch, origins: Vec<Origin>) {
        for ((commit, verdict), origin) in batch.commits.drain(..).zip(batch.verdicts.drain(..)).zip(origins) {
            match (verdict, origin) {
                (Ok(effects), Origin::Worker | Origin::Progress) => core.follow(&commit.task, effects, true),
                (Ok(effects), Origin::Caller(reply)) => {
                    core.follow(&commit.task, effects, false);
                    reply(Ok(effects));
                }
                (Err(_), Origin::Worker) => core.count_late_report(),
                (Err(_), Origin::Progress) => {}
                (Err(error), Origin::Caller(reply)) => reply(Err(error)),
            }
        }
        core.follow_all(&mut batch.consequences);
    }

    /// The store failed: whoever waits hears of it; reports are kept for another try.
    fn refuse(
        &self,
        error: &Error,
        batch: Batch,
        replies: Vec<InsertReply>,
        origins: Vec<Origin>,
        last_try: bool,
    ) {
        for reply in replies {
            reply(Err(error.duplicate()));
        }
        let mut kept = Vec::new();
        for (commit, origin) in batch.commits.into_iter().zip(origins) {
            match origin {
                Origin::Worker if !last_try => kept.push((commit, Origin::Worker)),
                Origin::Worker | Origin::Progress => {}
                Origin::Caller(reply) => reply(Err(error.duplicate())),
            }
        }
        let mut inbox = self.inbox.lock();
        inbox.more = true;
        kept.append(&mut inbox.commits);
        inbox.commits = kept;
    }
}

struct Work {
    inserts: Vec<(Insert, InsertReply)>,
    commits: Vec<(Commit, Origin)>,
    claim: bool,
    last_try: bool,
}

fn stopped() -> Error {
    Error::new(Code::ShutDown, "the engine has been stopped")
}

/// Commits on the calling thread, and lets the effects follow.
fn commit_inline(core: &Core, commit: Commit, now: Timestamp) -> Result<Effects> {
    let task = Arc::clone(&commit.task);
    let mut consequences = Vec::new();
    let effects = core.store.commit(commit, &mut consequences, now)?;
    core.follow(&task, effects, false);
    core.follow_all(&mut consequences);
    Ok(effects)
}

/// A claim that can be made now.
struct Room {
    claim: Claim,
    /// Whether there are handlers that it leaves out, their lanes being full.
    partial: bool,
}

/// The claim to make now: for the routes that have somebody to run their tasks, and room in their lanes.
fn room(core: &Core) -> Option<Room> {
    if core.capability.resident || !core.is_open() {
        return None;
    }
    let (mut names, mut limit, mut partial) = (Vec::new(), LANE, false);
    for (route, served) in [(Route::Blocking, core.pool.was_started()), (Route::Asynchronous, core.loops.has_host())] {
        let handlers = if served { core.handler_names(route) } else { Vec::new() };
        let room = LANE.saturating_sub(core.queues.len(route));
        if handlers.is_empty() {
            continue;
        } else if room >= REFILL {
            limit = limit.min(room);
            names.extend(handlers);
        } else {
            partial = true;
        }
    }
    let claim = Claim { owner: core.owner(), queues: Arc::new([]), names: names.into(), limit };
    (!claim.names.is_empty()).then_some(Room { claim, partial })
}
