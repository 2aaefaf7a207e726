//! One environment of JavaScript: what is on its way there, what it runs, and what it waits for.
//!
//! # What it owns
//! * **News**: what JavaScript is to hear at its next crossing, in the order in which it came.
//! * **Jobs**: attempts whose handlers run in this environment; `jobs` has their life.
//! * **Slots**: tasks whose outcome somebody in this environment waits for; `slots` has theirs.
//! * **Seats**: the apps of this environment.
//!
//! # Waking
//! Whoever leaves news raises `woken`, and calls the environment if it was down. A crossing raises it too, so that
//! nobody calls while JavaScript is here anyway; when all is written it lowers it, and then looks once more. So either
//! the crossing finds what came last, or whoever brought it finds the flag down and calls.
//!
//! # The end
//! The environment goes before the process does when it is a worker thread's, and the handlers that ran there never
//! return. [`Port::close`] calls them off: on a file their tasks go to whoever is left, in memory to another environment
//! that has the handler. News for a closed port are dropped, and nobody calls it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::Value;
use taskloom_engine::Moment;
use taskloom_model::{Error, Result, TaskId};

use crate::listening::Listening;
use crate::seat::Seat;
use crate::slab::Slab;
use crate::threads::Errand;
use crate::watchdog::{Blocked, Pulse};

mod homes;
mod jobs;
mod slots;

pub(crate) use jobs::End;
use jobs::Job;
use slots::{OwnEnd, Slot};

/// A task that was accepted, by its slot.
pub(crate) type Accepted = (u32, TaskId);

/// What there is to hear.
#[derive(Default)]
pub(crate) struct Heard {
    /// Told first: of a task that is not known to be accepted nothing else is told.
    accepted: VecDeque<Accepted>,
    news: VecDeque<News>,
}

/// A thing to hear, besides what was accepted.
pub(crate) enum News {
    /// A submit was refused.
    Refused(u32, Error),
    /// A handler is to run.
    Start(u32),
    /// A task that was submitted for a slot has an outcome.
    OwnSettled(OwnEnd),
    /// Any other that is waited for has one.
    Settled(u32),
    /// An attempt no longer counts.
    CallOff(u32, &'static str),
    /// What came of a request.
    Answer(u32, Result<Value>),
    /// Events for a subscription.
    Events(u32),
    /// An attempt of a handler with hooks has ended.
    Hook(Told),
    /// A handler blocked the loop.
    Blocked(Blocked),
    /// The pool of an app wants a thread started or ended.
    Thread(u32, Errand),
}

/// What a hook is told.
pub(crate) struct Told {
    pub(crate) app: u32,
    pub(crate) moment: Moment,
    pub(crate) id: TaskId,
    pub(crate) name: &'static str,
}

/// The crossing that this thread is in: what settles in it is told together.
struct Crossing {
    /// The number of the environment whose it is; zero if there is no crossing.
    port: u32,
    settled: Vec<OwnEnd>,
}

thread_local! {
    static CROSSING: RefCell<Crossing> =
        const { RefCell::new(Crossing { port: 0, settled: Vec::new() }) };
}

impl Crossing {
    /// A task of a slot has settled: if this thread is in a crossing of its port, it will tell of that; otherwise it is
    /// still to be told.
    fn settled(port: u32, end: OwnEnd) -> Option<OwnEnd> {
        let mut end = Some(end);
        // A thread that ends may drop what settles tasks after its own variables.
        let _ = CROSSING.try_with(|crossing| {
            let mut crossing = crossing.borrow_mut();
            if crossing.port == port {
                crossing.settled.extend(end.take());
            }
        });
        end
    }
}

/// An environment. See the module's essay.
pub(crate) struct Port {
    /// Its own among all of the process; zero if there are too many. See `homes`.
    number: u32,
    heard: Mutex<Heard>,
    woken: AtomicBool,
    /// An engine has tasks for an event loop.
    tasks_wait: AtomicBool,
    call: Box<dyn Fn() + Send + Sync>,
    jobs: Mutex<Slab<Job>>,
    in_flight: AtomicUsize,
    slots: Mutex<Vec<Slot>>,
    seats: Mutex<Slab<Arc<Seat>>>,
    pub(crate) listeners: Mutex<Slab<Arc<Listening>>>,
    closed: AtomicBool,
    /// Whether this is a thread of a pool.
    is_thread: AtomicBool,
    pub(crate) pulse: Arc<Pulse>,
    own: Weak<Self>,
    /// How often JavaScript came, how often it was called, how many tasks it was handed.
    pub(crate) crossings: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) started: AtomicU64,
}

impl Port {
    /// `call` has JavaScript cross soon. It is called on any thread and must not wait.
    pub(crate) fn new(call: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        let port = Arc::new_cyclic(|own| Self {
            number: homes::take(),
            heard: Mutex::default(),
            woken: AtomicBool::new(false),
            tasks_wait: AtomicBool::new(false),
            call,
            jobs: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            slots: Mutex::default(),
            seats: Mutex::default(),
            listeners: Mutex::default(),
            closed: AtomicBool::new(false),
            is_thread: AtomicBool::new(false),
            pulse: Arc::default(),
            own: own.clone(),
            crossings: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            started: AtomicU64::new(0),
        });
        homes::enter(&port);
        port
    }

    // ── news ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Leaves something to hear.
    pub(crate) fn tell(&self, news: News) {
        if self.is_closed() {
            return;
        }
        self.heard.lock().news.push_back(news);
        self.wake();
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) && !self.is_closed() {
            self.calls.fetch_add(1, Ordering::Relaxed);
            (self.call)();
        }
    }

    /// Has the environment come, though there is nothing to hear: to see whether it can.
    pub(crate) fn ping(&self) {
        self.wake();
    }

    /// An engine has tasks that this environment may take.
    pub(crate) fn offer(&self) {
        self.tasks_wait.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The next crossing is to look for tasks; nobody is called.
    pub(crate) fn invite(&self) {
        self.tasks_wait.store(true, Ordering::SeqCst);
    }

    /// JavaScript is here: nobody need call it.
    pub(crate) fn enter(&self) {
        self.crossings.fetch_add(1, Ordering::Relaxed);
        self.woken.store(true, Ordering::SeqCst);
        CROSSING.with_borrow_mut(|crossing| crossing.port = self.number);
    }

    /// Leaves what has settled in this crossing so far to be heard, before anything else that comes of what JavaScript asks.
    pub(crate) fn tell_settled(&self) {
        CROSSING.with_borrow_mut(|crossing| {
            if !crossing.settled.is_empty() {
                self.heard.lock().news.extend(crossing.settled.drain(..).map(News::OwnSettled));
            }
        });
    }

    /// JavaScript is about to leave; whether there is something to come back for at once.
    pub(crate) fn leave(&self) -> bool {
        self.tell_settled();
        CROSSING.with_borrow_mut(|crossing| crossing.port = 0);
        self.woken.store(false, Ordering::SeqCst);
        let is_all_heard = {
            let heard = self.heard.lock();
            heard.accepted.is_empty() && heard.news.is_empty()
        };
        let more = !is_all_heard || self.tasks_wait.load(Ordering::SeqCst);
        if more {
            // It comes back without being called.
            self.woken.store(true, Ordering::SeqCst);
        }
        more
    }

    /// Whether an engine has offered tasks since the last time.
    pub(crate) fn take_offer(&self) -> bool {
        self.tasks_wait.swap(false, Ordering::SeqCst)
    }

    /// Hands out what there is to hear, oldest first. `accept` takes out what it has room for; `write` takes what comes
    /// first out of the news, perhaps with more of its kind, or says that there is no room: what is left is kept for the
    /// next time. `spare` is empty, before and after.
    pub(crate) fn hear<W>(
        &self,
        spare: &mut Heard,
        writer: &mut W,
        accept: impl FnOnce(&mut W, &mut VecDeque<Accepted>),
        mut write: impl FnMut(&mut W, &mut VecDeque<News>) -> bool,
    ) {
        self.tell_settled();
        std::mem::swap(spare, &mut *self.heard.lock());
        accept(writer, &mut spare.accepted);
        while spare.accepted.is_empty() && !spare.news.is_empty() && write(writer, &mut spare.news) {}
        if !spare.accepted.is_empty() || !spare.news.is_empty() {
            let mut heard = self.heard.lock();
            spare.accepted.append(&mut heard.accepted);
            spare.news.append(&mut heard.news);
            std::mem::swap(spare, &mut *heard);
        }
    }

    /// How many submits JavaScript may accept by itself until it comes again.
    pub(crate) fn credit(&self) -> u32 {
        self.seats.lock().iter().filter_map(|(_, seat)| seat.credit()).min().unwrap_or(0)
    }

    // ── seats and subscriptions ─────────────────────────────────────────────────────────────────────────────────

    /// Takes in an app; its number.
    pub(crate) fn seat(&self, make: impl FnOnce(u32) -> Arc<Seat>) -> u32 {
        let mut seats = self.seats.lock();
        // The seat wants to know its number, so its place is found first.
        let number = seats.next();
        seats.insert(make(number))
    }

    /// An app of this environment.
    pub(crate) fn app(&self, app: u32) -> Option<Arc<Seat>> {
        self.seats.lock().get(app).cloned()
    }

    /// All apps of this environment.
    pub(crate) fn apps(&self) -> Vec<Arc<Seat>> {
        self.seats.lock().iter().map(|(_, seat)| Arc::clone(seat)).collect()
    }

    /// An app has gone.
    pub(crate) fn leave_seat(&self, app: u32) -> Option<Arc<Seat>> {
        self.seats.lock().remove(app)
    }

    /// A subscription of this environment.
    pub(crate) fn listening(&self, number: u32) -> Option<Arc<Listening>> {
        self.listeners.lock().get(number).cloned()
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&self, number: u32) {
        let gone = self.listeners.lock().remove(number);
        if let Some(gone) = gone {
            gone.end();
        }
    }

    /// This environment is a thread of a pool.
    pub(crate) fn serves(&self) {
        self.is_thread.store(true, Ordering::Relaxed);
    }

    // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The environment ends: nothing is told any more, its apps leave their engines, and what ran here is over.
    pub(crate) fn close(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        homes::leave(self.number);
        self.pulse.end();
        let seats = self.seats.lock().take_all();
        for seat in &seats {
            seat.leave();
        }
        // Dropped without the locks: settling what they hold may come back here.
        let listeners = self.listeners.lock().take_all();
        listeners.iter().for_each(|listening| listening.end());
        self.leave_jobs();
        let slots = std::mem::take(&mut *self.slots.lock());
        drop(slots);
        let heard = std::mem::take(&mut *self.heard.lock());
        drop(heard);
    }
}
