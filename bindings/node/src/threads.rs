//! Handlers that compute, in threads of JavaScript that the package owns.
//!
//! To the engine such a handler is a *blocking* one: one of its worker threads claims the task when that thread is free,
//! so tasks wait in their queue and not here. The worker hands the attempt to an idle thread of the app's [`Pool`] and
//! waits for what comes of it; so there are as many tasks in threads as the engine has workers, and as many threads.
//!
//! JavaScript starts and ends the threads, since only it can: the environment of the app (the *owner*) is told when one
//! is wanted, and when one is to be ended. A thread has an environment of its own with a seat at the same engine, by
//! which its handlers log, save checkpoints and submit children like any others.
//!
//! A handler that waits for another task lends its place: its worker is another one's in the engine, and there may be one
//! thread more. So a parent can wait for its child in a pool of one.
//!
//! # What it owns
//! The pool knows which threads are idle and which are at work, each of these with a [`Ticket`], the place where the
//! waiting worker finds the outcome.
//!
//! # Invariants
//! * A ticket is ended once: by the handler, by the thread's death, or by the pool's end, whichever comes first.
//! * A thread is idle, or at work, or unknown here. One that JavaScript was told to end is given no more tasks, though its
//!   handler may return before that happens.
//! * No lock is held while the engine is called, nor while a thread's environment is given a task.
//!
//! # What can fail
//! * A thread dies (`process.exit`, an exception that nobody catches, no memory left): its owner says so, and the attempt
//!   is a crash. One that dies before it has served fails a task that waits for it in the same way, so that a thread that
//!   cannot start is no endless loop.
//! * An attempt is called off: the handler is told, and if it has not ended when the engine reminds it for the
//!   [`PATIENCE`]th time, its thread is ended.
//! * The owner's environment ends: the pool is closed, and what ran or waited is given back.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use napi_derive::napi;
use parking_lot::{Condvar, Mutex};
use taskloom_engine::{Attempt, Blocking, Handle, Outcome};
use taskloom_model::{Code, Error, Fence, TaskId};

use crate::exchange::Port;
use crate::failures::{no_app, thrown};
use crate::lane::{NodeHandler, Route};
use crate::port::{End, News, Port as Inner};
use crate::seat::Seat;

/// So often an attempt is told that it was called off; then its thread is ended. The engine takes some 60 ms for it.
const PATIENCE: u32 = 3;

/// What an owner is asked to do.
#[derive(Clone, Copy)]
pub(crate) enum Errand {
    /// A task waits for a thread.
    Start,
    /// This thread is to be ended.
    End(u32),
}

/// The place where a worker finds what came of an attempt that it gave to a thread.
#[derive(Default)]
pub(crate) struct Ticket {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Default)]
struct Told {
    outcome: Option<Outcome>,
    /// What the handler waits for at present, doing nothing meanwhile.
    awaited: Option<Handle>,
}

impl Ticket {
    /// The attempt is over; only the first one to say so is heard.
    pub(crate) fn end(&self, outcome: Outcome) {
        self.told.lock().outcome.get_or_insert(outcome);
        self.changed.notify_all();
    }

    /// The handler waits for this task, or for none any more.
    fn awaits(&self, awaited: Option<Handle>) {
        let before = std::mem::replace(&mut self.told.lock().awaited, awaited);
        self.changed.notify_all();
        // Without the lock: it may be the last of its task.
        drop(before);
    }

    /// For the worker: waits for the outcome. While the handler waits for another task, so does the worker, and lends its
    /// place.
    fn wait(&self) -> Outcome {
        loop {
            let mut told = self.told.lock();
            while told.outcome.is_none() && told.awaited.is_none() {
                self.changed.wait(&mut told);
            }
            if let Some(outcome) = told.outcome.take() {
                return outcome;
            }
            let Some(awaited) = told.awaited.clone() else { continue };
            drop(told);
            awaited.lending(|| {
                let mut told = self.told.lock();
                while told.outcome.is_none() && told.awaited.is_some() {
                    self.changed.wait(&mut told);
                }
            });
        }
    }
}

/// A thread that serves.
struct Member {
    thread: u32,
    port: Arc<Inner>,
    /// The number of its seat in its own environment.
    app: u32,
    /// How many tasks it has had.
    tasks: u64,
}

/// An attempt in a thread.
struct Work {
    ticket: Arc<Ticket>,
    port: Weak<Inner>,
    id: TaskId,
    fence: Fence,
    /// How often it was told that it was called off.
    told: u32,
    /// Whether its handler waits for another task: then there may be one thread more.
    awaits: bool,
}

#[derive(Default)]
struct State {
    idle: Vec<Member>,
    work: HashMap<u32, Work>,
    /// How many workers wait for a thread.
    waiting: usize,
    /// The threads that have begun to serve and are still there.
    served: HashSet<u32>,
    /// How threads died that had not: each is for one of those who wait.
    stillborn: VecDeque<String>,
    /// After so many tasks a thread is ended.
    max_tasks: Option<u64>,
    closed: bool,
}

/// The threads of an app. See the module's essay.
pub(crate) struct Pool {
    owner: Weak<Inner>,
    app: u32,
    state: Mutex<State>,
    changed: Condvar,
}

impl Pool {
    /// The pool of an app of this environment.
    pub(crate) fn new(owner: Weak<Inner>, app: u32) -> Self {
        Self { owner, app, state: Mutex::default(), changed: Condvar::new() }
    }

    fn ask(&self, errand: Errand) {
        if let Some(owner) = self.owner.upgrade() {
            owner.tell(News::Thread(self.app, errand));
        }
    }

    /// Runs one attempt in a thread, and waits for what comes of it.
    fn run(&self, attempt: &Attempt, handler: u32) -> Outcome {
        let ticket = Arc::new(Ticket::default());
        let mut member = match self.hire(attempt, &ticket) {
            Ok(member) => member,
            Err(outcome) => return outcome,
        };
        let route = Route { app: member.app, handler };
        let end = End::Thread(Arc::clone(&ticket), attempt.clone());
        member.port.begin_all(std::iter::once(end), route);
        let outcome = ticket.wait();
        let mut state = self.state.lock();
        // Unless it has died, or JavaScript was told to end it.
        let work = state.work.remove(&member.thread);
        if work.is_some_and(|work| work.told < PATIENCE) && !member.port.is_closed() {
            member.tasks += 1;
            if state.max_tasks.is_some_and(|max| member.tasks >= max) {
                drop(state);
                self.ask(Errand::End(member.thread));
            } else {
                state.idle.push(member);
                self.changed.notify_one();
            }
        }
        match outcome {
            // What ended the thread was that the attempt did not count any more.
            Outcome::Lost { .. } if attempt.is_cancelled() => Outcome::GivenBack,
            outcome => outcome,
        }
    }

    /// Waits for an idle thread; what is to become of the attempt if there will be none.
    fn hire(&self, attempt: &Attempt, ticket: &Arc<Ticket>) -> Result<Member, Outcome> {
        let mut state = self.state.lock();
        let mut asked = false;
        loop {
            if state.closed || attempt.is_cancelled() {
                return Err(Outcome::GivenBack);
            }
            if let Some(member) = state.idle.pop() {
                let (id, fence) = (attempt.task().id(), attempt.fence());
                let (ticket, port) = (Arc::clone(ticket), Arc::downgrade(&member.port));
                state.work.insert(member.thread, Work { ticket, port, id, fence, told: 0, awaits: false });
                return Ok(member);
            }
            if let Some(cause) = state.stillborn.pop_front() {
                return Err(Outcome::Lost { cause });
            }
            state.waiting += 1;
            if !asked {
                asked = true;
                self.ask(Errand::Start);
            }
            self.changed.wait(&mut state);
            state.waiting -= 1;
        }
    }

    /// A thread can take tasks.
    fn join(&self, thread: u32, port: &Arc<Inner>, app: u32) {
        let mut state = self.state.lock();
        if !state.closed {
            state.served.insert(thread);
            state.idle.push(Member { thread, port: Arc::clone(port), app, tasks: 0 });
            self.changed.notify_one();
        }
    }

    /// A thread is gone: of what `cause`, unless that was wanted. Whether somebody waits for another.
    fn lost(&self, thread: u32, cause: Option<String>) -> bool {
        let mut state = self.state.lock();
        state.idle.retain(|member| member.thread != thread);
        let (work, served) = (state.work.remove(&thread), state.served.remove(&thread));
        let waits = state.waiting > 0;
        match (&work, cause) {
            (Some(work), cause) => {
                work.ticket.end(cause.map_or(Outcome::GivenBack, |cause| Outcome::Lost { cause }))
            }
            (None, Some(cause)) if !served && waits => {
                state.stillborn.push_back(cause);
                self.changed.notify_one();
            }
            (None, _) => {}
        }
        waits
    }

    /// The handler in a thread waits for another task, or for none any more.
    fn awaits(&self, thread: u32, awaited: Option<Handle>) {
        let mut state = self.state.lock();
        let Some(work) = state.work.get_mut(&thread) else { return };
        work.awaits = awaited.is_some();
        let (ticket, lends) = (Arc::clone(&work.ticket), work.awaits && state.waiting > 0);
        drop(state);
        ticket.awaits(awaited);
        if lends {
            self.ask(Errand::Start);
        }
    }

    /// How many threads there may be above the size of the pool, since so many wait.
    fn lent(&self) -> usize {
        self.state.lock().work.values().filter(|work| work.awaits).count()
    }

    /// An attempt was called off; whether it is in a thread of this pool.
    pub(crate) fn call_off(&self, id: TaskId, fence: Fence, why: &'static str) -> bool {
        let mut state = self.state.lock();
        // It may be one that waits for a thread.
        self.changed.notify_all();
        let is_it = |work: &Work| work.id == id && work.fence == fence;
        let Some((thread, work)) = state.work.iter_mut().find(|(_, work)| is_it(work)) else { return false };
        work.told += 1;
        let (thread, told, port) = (*thread, work.told, work.port.upgrade());
        drop(state);
        if told == 1
            && let Some(port) = port
        {
            port.call_off(id, fence, why);
        }
        if told == PATIENCE {
            self.ask(Errand::End(thread));
        }
        true
    }

    /// The environment of its owner ends: what is in threads, or waits for one, is given back.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let (idle, work) = (std::mem::take(&mut state.idle), std::mem::take(&mut state.work));
        self.changed.notify_all();
        drop(state);
        work.values().for_each(|work| work.ticket.end(Outcome::GivenBack));
        // Without the lock: with the last reference to an environment goes what it holds.
        drop((idle, work));
    }
}

/// A handler that runs in threads, as the engine has it.
pub(crate) struct InThread(pub(crate) Arc<NodeHandler>);

impl Blocking for InThread {
    fn run(&self, attempt: &Attempt) -> Outcome {
        let place = self.0.place(None).or_else(|| self.0.spare_place());
        let place = place.and_then(|(port, route)| Some((port.app(route.app)?, route.handler)));
        match place {
            Some((seat, handler)) => seat.threads().run(attempt, handler),
            // The last app that had it has just gone, and is about to say so.
            None => Outcome::GivenBack,
        }
    }
}

/// Seats that threads may join, by what they are told to say.
static INVITED: Mutex<Vec<(u32, Weak<Seat>)>> = Mutex::new(Vec::new());
static NEXT: AtomicU32 = AtomicU32::new(1);

#[napi]
impl Port {
    /// The number by which threads of this app's find it; `max_tasks` is after how many tasks a thread is ended.
    #[napi]
    pub fn invite(&self, app: u32, max_tasks: Option<f64>) -> napi::Result<u32> {
        let seat = self.inner.app(app).ok_or_else(|| thrown(no_app()))?;
        seat.threads().state.lock().max_tasks = max_tasks.map(|max| max as u64);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut invited = INVITED.lock();
        invited.retain(|(_, seat)| seat.strong_count() > 0);
        invited.push((number, Arc::downgrade(&seat)));
        Ok(number)
    }

    /// In a thread: takes a seat at the engine of the app that started it; its number here.
    #[napi]
    pub fn join(&self, invitation: u32) -> napi::Result<u32> {
        let host = INVITED
            .lock()
            .iter()
            .find(|(number, _)| *number == invitation)
            .and_then(|(_, seat)| seat.upgrade())
            .ok_or_else(|| thrown(Error::new(Code::ShutDown, "the app that started this thread is gone")))?;
        self.inner.serves();
        Ok(self.inner.seat(|number| Seat::in_thread(number, &self.inner, &host)))
    }

    /// In a thread: takes tasks from now on.
    #[napi]
    pub fn serve(&self, app: u32, thread: u32) -> napi::Result<()> {
        let seat = self.inner.app(app).ok_or_else(|| thrown(no_app()))?;
        if let Some(host) = seat.host() {
            host.threads().join(thread, &self.inner, app);
        }
        Ok(())
    }

    /// In a thread: where a handler of the app is found, as JSON.
    #[napi]
    pub fn module(&self, app: u32, handler: u32) -> Option<String> {
        let registered = self.inner.app(app)?.host()?.registered(handler)?;
        registered.handler.module.clone()
    }

    /// In a thread: its handler waits for the task in this slot, or for none any more.
    #[napi]
    pub fn awaits(&self, app: u32, thread: u32, slot: Option<u32>) {
        let awaited = slot.and_then(|slot| self.inner.slot(slot));
        if let Some(host) = self.inner.app(app).and_then(|seat| seat.host()) {
            host.threads().awaits(thread, awaited);
        }
    }

    /// How many threads of an app wait for others.
    #[napi]
    pub fn lent(&self, app: u32) -> u32 {
        self.inner.app(app).map_or(0, |seat| seat.threads().lent() as u32)
    }

    /// A thread of an app's is gone: of what `cause`, unless that was wanted. Whether a task waits for another one.
    #[napi]
    pub fn thread_ended(&self, app: u32, thread: u32, cause: Option<String>) -> bool {
        self.inner.app(app).is_some_and(|seat| seat.threads().lost(thread, cause))
    }
}
