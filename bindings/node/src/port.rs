//! One environment of JavaScript: what is on its way there, what it runs, and what it waits for.
//!
//! # What it owns
//! * **News**: what JavaScript is to hear at its next crossing, in the order in which it came.
//! * **Jobs**: attempts whose handlers run in this environment, each with its one-shot completion.
//! * **Slots**: tasks whose outcome somebody in this environment waits for. JavaScript numbers them: it has an object in
//!   the same place. A slot is given back by the message that tells the outcome, and only by that.
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
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::Value;
use taskloom_engine::{Attempt, Completion, Handle, LentPlace, Moment, Outcome};
use taskloom_model::{Error, Fence, Result, State, TaskId};
use taskloom_store::{Host, HostData};

use crate::lane::Route;
use crate::listening::Listening;
use crate::seat::Seat;
use crate::slab::Slab;
use crate::threads::{Errand, Ticket};
use crate::watchdog::{Blocked, Pulse};

/// A task that was accepted, by its slot.
pub(crate) type Accepted = (u32, TaskId);

/// What there is to hear.
#[derive(Default)]
pub(crate) struct Heard {
    /// Told first: of a task that is not known to be accepted nothing else is told.
    accepted: Vec<Accepted>,
    news: VecDeque<News>,
}

/// A thing to hear, besides what was accepted.
pub(crate) enum News {
    /// A submit was refused.
    Refused(u32, Error),
    /// A handler is to run.
    Start(u32),
    /// A task has an outcome here.
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

/// An attempt whose handler runs here.
pub(crate) struct Job {
    pub(crate) attempt: Attempt,
    completion: End,
    pub(crate) route: Route,
    called_off: bool,
    /// Whether JavaScript runs it with the input that it kept, and will keep its result.
    has_own: bool,
    /// Its place in flight, while it waits for a child.
    lent: Option<LentPlace>,
}

/// What is handed to an environment to be run.
pub(crate) type Dealt = (Attempt, End, Route);

/// Where the outcome of a job goes, once.
pub(crate) enum End {
    /// To the engine.
    Loop(Completion),
    /// To the worker that waits for this thread.
    Thread(Arc<Ticket>),
}

impl End {
    pub(crate) fn complete(self, outcome: Outcome) {
        match self {
            Self::Loop(completion) => completion.complete(outcome),
            Self::Thread(ticket) => ticket.end(outcome),
        }
    }

    /// The same for one of many, which are completed together.
    pub(crate) fn complete_with(self, outcome: Outcome, others: &mut Vec<(Completion, Outcome)>) {
        match self {
            Self::Loop(completion) => others.push((completion, outcome)),
            Self::Thread(ticket) => ticket.end(outcome),
        }
    }

    /// Its handler was not begun.
    fn give_back(self) {
        match self {
            Self::Loop(completion) => completion.give_back(),
            Self::Thread(ticket) => ticket.end(Outcome::GivenBack),
        }
    }

    /// Its environment ends. How a thread died is for its owner to say.
    fn leave(self) {
        if let Self::Loop(completion) = self {
            completion.give_back();
        }
    }
}

/// A task that is waited for.
pub(crate) enum Slot {
    /// Nobody waits in this place.
    Free,
    /// Its outcome is on its way. With it, whether it was submitted for this slot: JavaScript may have kept input and
    /// result there.
    Waits(Handle, bool),
}

/// Somebody here expects the outcome.
const EXPECTED: u8 = 1;
/// There is one.
const SETTLED: u8 = 2;
/// JavaScript has kept the result of the first attempt.
const KEPT: u8 = 4;

/// What goes with a task of a memory store: which environment submitted it, and for which slot. It spares an observer,
/// and lets JavaScript keep input and result at home if the handler runs there, too.
///
/// The outcome is told by whoever comes second: the end of the task, or the one who expects it.
struct Submitted {
    port: Weak<Port>,
    slot: u32,
    marks: AtomicU8,
}

impl Host for Submitted {
    fn settled(&self) {
        if self.marks.fetch_or(SETTLED, Ordering::SeqCst) & EXPECTED != 0
            && !Crossing::settled(self.port.as_ptr(), self.slot)
            && let Some(port) = self.port.upgrade()
        {
            port.tell(News::Settled(self.slot));
        }
    }
}

/// The crossing that this thread is in: what settles in it is told together.
struct Crossing {
    /// Whose it is; to be compared, and for nothing else.
    port: *const Port,
    settled: Vec<u32>,
}

thread_local! {
    static CROSSING: RefCell<Crossing> =
        const { RefCell::new(Crossing { port: std::ptr::null(), settled: Vec::new() }) };
}

impl Crossing {
    /// A task of a slot has settled; whether this thread is in a crossing of its port, and will tell of it.
    fn settled(port: *const Port, slot: u32) -> bool {
        // A thread that ends may drop what settles tasks after its own variables.
        let note = |crossing: &RefCell<Self>| {
            let mut crossing = crossing.borrow_mut();
            let is_it = std::ptr::eq(crossing.port, port);
            if is_it {
                crossing.settled.push(slot);
            }
            is_it
        };
        CROSSING.try_with(note).unwrap_or(false)
    }
}

/// An environment. See the module's essay.
pub(crate) struct Port {
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
        Arc::new_cyclic(|own| Self {
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
        })
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
        CROSSING.with_borrow_mut(|crossing| crossing.port = std::ptr::from_ref(self));
    }

    /// Leaves what has settled in this crossing so far to be heard, before anything else that comes of what JavaScript asks.
    pub(crate) fn tell_settled(&self) {
        CROSSING.with_borrow_mut(|crossing| {
            if !crossing.settled.is_empty() {
                self.heard.lock().news.extend(crossing.settled.drain(..).map(News::Settled));
            }
        });
    }

    /// JavaScript is about to leave; whether there is something to come back for at once.
    pub(crate) fn leave(&self) -> bool {
        self.tell_settled();
        CROSSING.with_borrow_mut(|crossing| crossing.port = std::ptr::null());
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
        accept: impl FnOnce(&mut W, &mut Vec<Accepted>),
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

    // ── slots ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// Tasks were accepted: their outcomes go to these slots.
    pub(crate) fn accepted(self: &Arc<Self>, slots: &[u32], handles: Vec<Handle>) {
        if self.is_closed() {
            return;
        }
        // First this, so that nothing is heard of a task before it is accepted.
        self.heard
            .lock()
            .accepted
            .extend(slots.iter().zip(&handles).map(|(slot, handle)| (*slot, handle.id())));
        self.wake();
        let (mut settled, mut others) = (Vec::new(), Vec::new());
        {
            let mut all = self.slots.lock();
            for (slot, handle) in slots.iter().zip(handles) {
                let marks = self.mark(*slot, &handle);
                match marks {
                    Some(true) => settled.push(*slot),
                    Some(false) => {}
                    None => others.push((*slot, handle.clone())),
                }
                fill(&mut all, *slot, Slot::Waits(handle, marks.is_some()));
            }
        }
        settled.into_iter().for_each(|slot| self.tell(News::Settled(slot)));
        others.into_iter().for_each(|(slot, handle)| self.observe(slot, &handle));
    }

    /// Has the outcome of a task told to a slot.
    pub(crate) fn expect(self: &Arc<Self>, slot: u32, handle: Handle) {
        let marks = self.mark(slot, &handle);
        fill(&mut self.slots.lock(), slot, Slot::Waits(handle.clone(), marks.is_some()));
        match marks {
            Some(true) => self.tell(News::Settled(slot)),
            Some(false) => {}
            None => self.observe(slot, &handle),
        }
    }

    /// Notes that the outcome of a task is expected, if that was submitted for this slot: whether it has one already.
    fn mark(&self, slot: u32, handle: &Handle) -> Option<bool> {
        // Who is done before the mark either told its host before, or was never alive.
        let done = handle.is_done();
        // The first who expects it is the one who submitted it; whoever comes later may have the slot's number by chance.
        let own = handle.task().host::<Submitted>()?;
        if own.slot != slot || own.port.as_ptr() != self.own.as_ptr() {
            return None;
        }
        let marks = own.marks.fetch_or(EXPECTED, Ordering::SeqCst);
        (marks & EXPECTED == 0).then_some(marks & SETTLED != 0 || done)
    }

    fn observe(self: &Arc<Self>, slot: u32, handle: &Handle) {
        let port = Arc::downgrade(self);
        handle.observe(move |_| {
            if let Some(port) = port.upgrade() {
                port.tell(News::Settled(slot));
            }
        });
    }

    /// What a task that is submitted from here to a memory store has with it.
    pub(crate) fn host_for(&self, slot: u32) -> HostData {
        Box::new(Submitted { port: self.own.clone(), slot, marks: AtomicU8::new(0) })
    }

    /// The task of a slot; `None` if nobody waits there.
    pub(crate) fn slot(&self, slot: u32) -> Option<Handle> {
        match self.slots.lock().get(slot as usize)? {
            Slot::Free => None,
            Slot::Waits(handle, _) => Some(handle.clone()),
        }
    }

    /// Gives back a slot: the task that it was for, and whether that was submitted for it.
    pub(crate) fn free_slot(&self, slot: u32) -> Option<(Handle, bool)> {
        match std::mem::replace(self.slots.lock().get_mut(slot as usize)?, Slot::Free) {
            Slot::Free => None,
            Slot::Waits(handle, is_own) => Some((handle, is_own)),
        }
    }

    // ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Has a handler run here.
    pub(crate) fn begin(&self, attempt: Attempt, completion: End, route: Route) {
        self.begin_all(&mut vec![(attempt, completion, route)]);
    }

    /// Has handlers run here: all that is given, which is taken out.
    pub(crate) fn begin_all(&self, dealt: &mut Vec<Dealt>) {
        let count = dealt.len();
        self.in_flight.fetch_add(count, Ordering::Relaxed);
        let numbers: Vec<u32> = {
            let mut jobs = self.jobs.lock();
            let job = |(attempt, completion, route)| Job {
                attempt,
                completion,
                route,
                called_off: false,
                has_own: false,
                lent: None,
            };
            dealt.drain(..).map(|one| jobs.insert(job(one))).collect()
        };
        if self.is_closed() {
            // It closed meanwhile, and nobody else will look.
            return numbers.into_iter().filter_map(|number| self.end(number)).for_each(End::give_back);
        }
        self.started.fetch_add(count as u64, Ordering::Relaxed);
        // A thread of a pool is there to be blocked.
        if !self.is_thread.load(Ordering::Relaxed) {
            self.pulse.begin(&self.own, &self.pulse);
        }
        self.heard.lock().news.extend(numbers.into_iter().map(News::Start));
        self.wake();
    }

    /// Looks at a job.
    pub(crate) fn with_job<T>(&self, job: u32, look: impl FnOnce(&Job) -> T) -> Option<T> {
        self.jobs.lock().get(job).map(look)
    }

    /// The attempt of a job that runs.
    pub(crate) fn attempt(&self, job: u32) -> Option<Attempt> {
        self.with_job(job, |job| job.attempt.clone())
    }

    /// Takes the jobs to start that come next out of the news, for as long as `tell` says that there is room: it is
    /// asked with nothing first. Each job is told by it. If its task was submitted here, for a slot that is still its
    /// own, and this is its first attempt: with the slot, where JavaScript has kept the input.
    pub(crate) fn start_all(
        &self,
        news: &mut VecDeque<News>,
        mut tell: impl FnMut(Option<(u32, &Job, Option<u32>)>) -> bool,
    ) {
        if !matches!(news.front(), Some(News::Start(_))) {
            return;
        }
        let mut jobs = self.jobs.lock();
        let slots = self.slots.lock();
        while let Some(News::Start(number)) = news.front()
            && tell(None)
        {
            let number = *number;
            news.pop_front();
            let Some(job) = jobs.get_mut(number) else { continue };
            let own = self.own_input(job, &slots);
            job.has_own = own.is_some();
            tell(Some((number, job, own)));
        }
    }

    fn own_input(&self, job: &Job, slots: &[Slot]) -> Option<u32> {
        if job.attempt.fence().attempt != 1 {
            return None;
        }
        let own = job.attempt.task().host::<Submitted>()?;
        if own.port.as_ptr() != self.own.as_ptr() {
            return None;
        }
        match slots.get(own.slot as usize)? {
            Slot::Waits(handle, true) if Arc::ptr_eq(handle.task(), job.attempt.task()) => Some(own.slot),
            _ => None,
        }
    }

    /// Handlers of jobs have returned; JavaScript has kept what, where it had kept the input. Each that is known is handed
    /// to `end`, with its place among those that were given.
    pub(crate) fn succeeded(&self, numbers: impl Iterator<Item = u32>, mut end: impl FnMut(usize, End)) {
        let gone: Vec<(usize, Job)> = {
            let mut jobs = self.jobs.lock();
            let take = |(place, number)| Some((place, jobs.remove(number)?));
            numbers.enumerate().filter_map(take).collect()
        };
        self.in_flight.fetch_sub(gone.len(), Ordering::Relaxed);
        for (place, job) in gone {
            if job.has_own
                && let Some(own) = job.attempt.task().host::<Submitted>()
            {
                own.marks.fetch_or(KEPT, Ordering::SeqCst);
            }
            end(place, job.completion);
        }
    }

    /// Takes those tasks that have settled and come next out of the news, for as long as `tell` says that there is room
    /// (it is asked with nothing first), and as JavaScript has kept their results: only the slot is told.
    pub(crate) fn settle_own(&self, news: &mut VecDeque<News>, mut tell: impl FnMut(Option<u32>) -> bool) {
        if !matches!(news.front(), Some(News::Settled(_))) {
            return;
        }
        // Dropped without the lock.
        let mut gone = Vec::new();
        let mut slots = self.slots.lock();
        while let Some(News::Settled(slot)) = news.front()
            && let Some(place) = slots.get_mut(*slot as usize)
            && let Slot::Waits(handle, true) = place
            && self.has_result(handle)
            && tell(None)
        {
            tell(Some(*slot));
            gone.push(std::mem::replace(place, Slot::Free));
            news.pop_front();
        }
        drop(slots);
    }

    /// Whether JavaScript has kept the result of a task that has succeeded.
    pub(crate) fn has_result(&self, handle: &Handle) -> bool {
        let task = handle.task();
        task.host::<Submitted>().is_some_and(|own| {
            own.marks.load(Ordering::SeqCst) & KEPT != 0 && own.port.as_ptr() == self.own.as_ptr()
        }) && task.with_row(|row| row.state == State::Succeeded && row.attempt == 1)
    }

    /// A job's handler has ended: where its outcome goes.
    pub(crate) fn end(&self, job: u32) -> Option<End> {
        Some(self.take_job(job)?.completion)
    }

    fn take_job(&self, job: u32) -> Option<Job> {
        let job = self.jobs.lock().remove(job)?;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        Some(job)
    }

    /// A job's handler waits for a child, and lends its place meanwhile; or it goes on.
    pub(crate) fn lend_place(&self, job: u32, lends: bool) {
        if self.is_thread.load(Ordering::Relaxed) {
            // It has no place in flight; what it lends, its pool knows of.
            return;
        }
        let Some(attempt) = self.attempt(job) else { return };
        let lent = lends.then(|| attempt.lend_place());
        // What it had lent is taken back without the lock.
        let before = match self.jobs.lock().get_mut(job) {
            Some(job) => std::mem::replace(&mut job.lent, lent),
            None => lent,
        };
        drop(before);
    }

    /// How many handlers run here.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Tells JavaScript, once, that an attempt no longer counts; whether it runs here.
    pub(crate) fn call_off(&self, id: TaskId, fence: Fence, why: &'static str) -> bool {
        let found = {
            let mut jobs = self.jobs.lock();
            let own = |job: &Job| job.attempt.task().id() == id && job.attempt.fence() == fence;
            let Some((number, job)) = jobs.iter_mut().find(|(_, job)| own(job)) else { return false };
            (!std::mem::replace(&mut job.called_off, true)).then_some(number)
        };
        if let Some(number) = found {
            self.tell(News::CallOff(number, why));
        }
        true
    }

    /// The handlers that run here, each once, with one of its tasks and its app.
    pub(crate) fn in_flight_by_handler(&self) -> Vec<(&'static str, TaskId, u32)> {
        let mut all: Vec<(&'static str, TaskId, u32)> = Vec::new();
        for (_, job) in self.jobs.lock().iter() {
            let task = job.attempt.task();
            if all.iter().all(|(name, ..)| *name != task.spec().name.as_str()) {
                all.push((task.spec().name.as_str(), task.id(), job.route.app));
            }
        }
        all
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
        self.pulse.end();
        let seats = self.seats.lock().take_all();
        for seat in &seats {
            seat.leave();
        }
        // Dropped without the locks: settling what they hold may come back here.
        let listeners = self.listeners.lock().take_all();
        listeners.iter().for_each(|listening| listening.end());
        let jobs = self.jobs.lock().take_all();
        jobs.into_iter().for_each(|job| job.completion.leave());
        let slots = std::mem::take(&mut *self.slots.lock());
        drop(slots);
        let heard = std::mem::take(&mut *self.heard.lock());
        drop(heard);
    }
}

fn fill(slots: &mut Vec<Slot>, slot: u32, with: Slot) {
    let place = slot as usize;
    if place >= slots.len() {
        slots.resize_with(place + 1, || Slot::Free);
    }
    slots[place] = with;
}
