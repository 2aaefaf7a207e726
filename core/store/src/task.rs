//! A task in memory: one allocation that store, lanes, worker and handle share.
//!
//! # What it owns
//! * the [`Spec`], which never changes;
//! * the [`Row`] as last committed, behind a lock of one byte. In the memory store this is the truth; for a durable
//!   store it is this process's copy, replaced after each commit;
//! * a [`Latch`] that is set once, when the task has *settled* here: its terminal state is committed, or the engine
//!   that would have finished it has shut down;
//! * observers, called once at that moment;
//! * what the submitting language left for its own handler (Python's context variables, say), which is told too.
//!
//! # Invariants
//! * The row's lock is held for a few instructions, never across a user's code: observers are taken out under the
//!   lock and called without it.
//! * `settle` is called after the commit that ended the task, so whoever sees the latch set finds the outcome.
//! * An observer is called exactly once, see [`Ending`]: it is added under the row's lock, which whoever settles the task
//!   takes if there may be one. If it panics, only it ends.
//! * A replay never touches the task that ended: it makes a new one with the same id, so older handles keep their outcome.
//!   The old one is *superseded* from then on: its row stays as it is, settled or not. One that shows its end when another
//!   process replays it takes over no row of the new generation ([`Task::replace_row`]). Of one whose end and replay are
//!   both unheard of, whoever waits hears of the new generation's end.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use parking_lot::Mutex;
use taskloom_model::{
    Bytes, Code, Effects, Error, Fence, Operation, OwnerId, Row, Spec, State, TaskId, Timestamp, WaitingFor,
    apply, apply_here,
};
use taskloom_sync::{Blank, Ending, Latch, Nursery, Step, Stock};

use crate::host::{Host, Keepsake, Note};

type Observer = Box<dyn FnOnce(&Arc<Task>) + Send>;

/// Memory of tasks that were forgotten in lots, for new ones.
static STOCK: LazyLock<Stock<Task>> = LazyLock::new(Stock::new);

thread_local! {
    /// Memory for the tasks that this thread submits next.
    static NURSERY: RefCell<Nursery<Task>> = const { RefCell::new(Nursery::new()) };
}

/// A task in memory.
pub struct Task {
    spec: Spec,
    cell: Mutex<Cell>,
    latch: Latch,
    /// It was eligible from the first and asks for nothing but to be run.
    plain: bool,
    /// Written under the cell's lock. It is not in the cell, where it would take a word.
    superseded: AtomicBool,
    /// Comes a moment before the latch is set.
    end: Ending,
    /// Where the task will lie that its submitter submits next.
    next: Step,
    /// See [`Task::noted_at`].
    noted_at: AtomicU32,
    left: Keepsake,
}

struct Cell {
    row: Row,
    #[allow(
        clippy::box_collection,
        reason = "most tasks have none: one word in each of them instead of three"
    )]
    observers: Option<Box<Vec<Observer>>>,
    /// The attempt that was begun here last.
    begun: u32,
    /// How many children the attempt has submitted that was begun here last.
    children: u32,
}

impl Cell {
    fn is_ahead(&self, owner: OwnerId) -> bool {
        self.row.state == State::Running && self.row.owner == Some(owner) && self.row.attempt != self.begun
    }
}

impl Task {
    /// A task as it was admitted, or as a store has read it. One that has ended already is settled.
    #[inline]
    pub fn new(spec: Spec, row: Row, left: impl Into<Keepsake>) -> Arc<Self> {
        let (place, next) = Self::place();
        let ended = row.state.is_terminal();
        let plain = spec.is_plain() && row.state == State::Queued && row.waiting_for == WaitingFor::Nothing;
        place.fill(Self::of(spec, row, left.into(), ended, plain, next))
    }

    /// The same for one that is eligible from the first and asks for nothing but to be run. Compiled into its caller: where
    /// that makes the parts, they are written where they are to lie.
    #[inline(always)]
    pub fn plain(spec: Spec, row: Row, left: impl Into<Keepsake>) -> Arc<Self> {
        debug_assert!(
            spec.is_plain() && row.state == State::Queued && row.waiting_for == WaitingFor::Nothing
        );
        let (place, next) = Self::place();
        place.fill(Self::of(spec, row, left.into(), false, true, next))
    }

    /// Where a task is to lie, and how far from there the next one will.
    #[inline]
    fn place() -> (Blank<Self>, Step) {
        // At the end of a thread its own may be gone.
        let place = NURSERY.try_with(|nursery| {
            let mut nursery = nursery.borrow_mut();
            let place = nursery.blank(&STOCK);
            let next = nursery.upcoming(&place);
            (place, next)
        });
        place.unwrap_or_default()
    }

    #[inline(always)]
    fn of(spec: Spec, row: Row, left: Keepsake, ended: bool, plain: bool, next: Step) -> Self {
        let task = Self {
            spec,
            cell: Mutex::new(Cell { row, observers: None, begun: 0, children: 0 }),
            latch: Latch::new(),
            plain,
            superseded: AtomicBool::new(false),
            end: Ending::new(),
            next,
            noted_at: AtomicU32::new(u32::MAX),
            left,
        };
        if ended {
            task.end.end();
            task.latch.set();
        }
        task
    }

    /// Lets go of tasks that a store has forgotten, and has the memory of those that nobody else has used again.
    pub(crate) fn recycle(gone: impl Iterator<Item = Arc<Self>>) {
        let mut lot = Vec::with_capacity(Stock::<Self>::LOT);
        for task in gone {
            lot.extend(Blank::of(task));
            if lot.len() == Stock::<Self>::LOT {
                STOCK.give(std::mem::replace(&mut lot, Vec::with_capacity(Stock::<Self>::LOT)));
            }
        }
        STOCK.give(lot);
    }

    /// Whether it was eligible from the first, and asks for nothing but to be run: nothing is to be seen to but its row.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Has the processor fetch what will most likely be run after this one: tasks are taken in the order of their submits.
    #[inline]
    pub fn fetch_next(&self) {
        self.next.fetch_from(self);
    }

    /// Where the engine that runs it has noted its attempt: a hint, which that engine writes under a lock of its own. Before
    /// the first one it is a place that nothing has.
    #[inline]
    pub fn noted_at(&self) -> u32 {
        self.noted_at.load(Ordering::Relaxed)
    }

    /// See [`Task::noted_at`].
    #[inline]
    pub fn note_at(&self, place: u32) {
        self.noted_at.store(place, Ordering::Relaxed);
    }

    /// What was asked for.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its id.
    pub fn id(&self) -> TaskId {
        self.spec.id
    }

    /// What the submitting language left with it, if that is an object of this type.
    pub fn host<T: Host>(&self) -> Option<&T> {
        self.left.host()
    }

    /// The note that the submitting language left with it, if that is what it left.
    #[inline]
    pub fn note(&self) -> Option<&Note> {
        self.left.note()
    }

    /// Looks at the row as last committed. `look` must be short: it runs under the row's lock.
    pub fn with_row<T>(&self, look: impl FnOnce(&Row) -> T) -> T {
        look(&self.cell.lock().row)
    }

    /// Its state as last committed.
    pub fn state(&self) -> State {
        self.cell.lock().row.state
    }

    /// Whether this attempt is still the one that counts.
    pub fn is_current(&self, fence: Fence) -> bool {
        let cell = self.cell.lock();
        cell.row.state == State::Running
            && cell.row.attempt == fence.attempt
            && cell.row.owner == Some(fence.owner)
    }

    /// For those who run tasks that were claimed ahead: whether it is this owner's and has not begun here.
    pub fn is_ahead(&self, owner: OwnerId) -> bool {
        self.cell.lock().is_ahead(owner)
    }

    /// Begins the attempt that the task is in, if it is this owner's and has not begun here. A task that was lost and
    /// claimed again can be handed to workers twice.
    ///
    /// With the fence comes since when the task was eligible.
    pub fn begin(&self, owner: OwnerId) -> Option<(Fence, Timestamp)> {
        let mut cell = self.cell.lock();
        if !cell.is_ahead(owner) {
            return None;
        }
        cell.begun = cell.row.attempt;
        cell.children = 0;
        Some((Fence { owner, attempt: cell.begun }, cell.row.eligible))
    }

    /// The place of the next child that an attempt submits: each one once.
    pub fn next_child(&self, attempt: u32) -> u32 {
        let mut cell = self.cell.lock();
        if cell.begun != attempt {
            // It is over; what it submits is refused.
            return 0;
        }
        let place = cell.children;
        cell.children += 1;
        place
    }

    /// The child of this place was refused: the next one gets the place, unless another has been submitted since.
    pub fn give_back_child(&self, attempt: u32, place: u32) {
        let mut cell = self.cell.lock();
        if cell.begun == attempt && cell.children == place + 1 {
            cell.children = place;
        }
    }

    /// For stores whose rows live here: applies an operation to the row itself.
    pub fn apply(&self, operation: Operation, now: Timestamp) -> Result<Effects, Error> {
        let mut cell = self.cell.lock();
        self.check_newest()?;
        apply(operation, &self.spec, &mut cell.row, now)
    }

    /// For stores whose rows live here: claims it for `owner`, and calls `note` with the fence of the attempt, which
    /// counts as begun, and since when it was eligible. Nobody can change the task in between, and `note` must not look at it.
    pub(crate) fn claim(
        &self,
        owner: OwnerId,
        now: Timestamp,
        note: impl FnOnce(Fence, Timestamp),
    ) -> Result<(), Error> {
        let mut cell = self.cell.lock();
        self.check_newest()?;
        apply_here(Operation::Claim { owner }, &self.spec, &mut cell.row, now)?;
        cell.begun = cell.row.attempt;
        cell.children = 0;
        note(Fence { owner, attempt: cell.begun }, cell.row.eligible);
        Ok(())
    }

    /// For stores whose rows live here: ends it as its worker says. The same as [`Task::apply`], only quicker.
    pub(crate) fn succeed(&self, fence: Fence, result: Bytes, now: Timestamp) -> Result<Effects, Error> {
        let mut cell = self.cell.lock();
        self.check_newest()?;
        let succeed = Operation::Succeed { fence, result, metadata: None };
        apply_here(succeed, &self.spec, &mut cell.row, now)
    }

    /// For stores whose rows live here: the task that a replay of this one makes, and what that did. This one is
    /// superseded from then on.
    pub fn start_over(&self, now: Timestamp) -> Result<(Arc<Self>, Effects), Error> {
        let cell = self.cell.lock();
        self.check_newest()?;
        let mut row = cell.row.clone();
        let effects = apply(Operation::Replay, &self.spec, &mut row, now)?;
        self.superseded.store(true, Ordering::Release);
        drop(cell);
        // What its submitter left for the handler has been told of the end, and is gone.
        Ok((Self::new(self.spec.clone(), row, None), effects))
    }

    #[inline]
    fn check_newest(&self) -> Result<(), Error> {
        if self.is_superseded() { Err(self.is_older()) } else { Ok(()) }
    }

    /// Why something is not done to this one: there is a later generation of the task.
    #[cold]
    pub fn is_older(&self) -> Error {
        let message = format!("task {} was started over since, and has another generation", self.spec.id);
        Error::new(Code::IllegalTransition, message).hint("ask for the task by its id to get the newest")
    }

    /// For stores whose rows live elsewhere: takes over the row that was committed there; or returns it, if this one's
    /// stays as it is.
    pub fn replace_row(&self, row: Row) -> Option<Row> {
        let mut cell = self.cell.lock();
        let revives =
            row.generation == cell.row.generation && cell.row.state.is_terminal() && !row.state.is_terminal();
        if revives || !self.may_become(&cell, row.generation) {
            return Some(row);
        }
        let old = std::mem::replace(&mut cell.row, row);
        drop(cell);
        drop(old);
        None
    }

    /// Whether it can take over a row of this generation.
    pub fn may_show(&self, generation: u16) -> bool {
        self.may_become(&self.cell.lock(), generation)
    }

    /// Whether it is of a later generation than that, and may still change.
    pub fn is_later_than(&self, generation: u16) -> bool {
        !self.is_final() && is_later(self.cell.lock().row.generation, generation)
    }

    /// Of one that has ended, a later generation is another task, also if the end has not been told here yet.
    fn may_become(&self, cell: &Cell, generation: u16) -> bool {
        let own = cell.row.generation;
        let other = is_later(own, generation) || cell.row.state.is_terminal() && own != generation;
        !(other || self.is_superseded() || self.end.has_come())
    }

    /// For stores whose rows live elsewhere: the task was started over, and the last row of its generation was this. (If
    /// it has settled, it shows that already, or what its handles were told.)
    pub fn supersede(&self, last: Row) {
        let mut cell = self.cell.lock();
        let another = cell.row.state.is_terminal() && cell.row.generation != last.generation;
        if !self.superseded.swap(true, Ordering::AcqRel) && !self.end.has_come() && !another {
            cell.row = last;
        }
    }

    /// Whether there is a later generation of the task, which is another [`Task`] with this id.
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Whether its row stays as it is, whatever becomes of the id: it has settled, or was started over.
    pub fn is_final(&self) -> bool {
        self.is_superseded() || self.is_settled()
    }

    /// Lets everybody know that nothing more will happen to the task here. The first call counts.
    pub fn settle(self: &Arc<Self>) {
        let succeeded = self.with_row(|row| (row.state == State::Succeeded).then_some(row.attempt));
        self.settle_as(succeeded);
    }

    /// The same for whoever knows by which attempt it has succeeded, if it has.
    #[inline]
    pub fn settle_as(self: &Arc<Self>, succeeded: Option<u32>) {
        let Some(watched) = self.end.end() else { return };
        self.left.ended(self, succeeded);
        self.latch.set();
        if watched {
            self.tell_observers();
        }
    }

    #[cold]
    fn tell_observers(self: &Arc<Self>) {
        let observers = self.cell.lock().observers.take();
        for observer in observers.into_iter().flat_map(|all| *all) {
            // Its panic has been printed, and is its own: it must not take the settling thread with it.
            let _ = catch_unwind(AssertUnwindSafe(|| observer(self)));
        }
    }

    /// Whether nothing more will happen to it here. If its state is not terminal then, its engine was shut down.
    pub fn is_settled(&self) -> bool {
        self.latch.is_set()
    }

    /// Blocks until it has settled.
    pub fn wait(&self) {
        self.latch.wait();
    }

    /// Blocks until it has settled, or until `deadline`; whether it has.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        self.latch.wait_until(deadline)
    }

    /// Calls `observer` once when the task settles: on the thread that settles it, or here if it has. It must not
    /// block.
    pub fn observe(self: &Arc<Self>, observer: impl FnOnce(&Arc<Self>) + Send + 'static) {
        {
            let mut cell = self.cell.lock();
            if self.end.watch() {
                cell.observers.get_or_insert_default().push(Box::new(observer));
                return;
            }
        }
        // Whoever is called finds it settled.
        self.latch.wait();
        observer(self);
    }
}

/// Generations are counted round and round.
fn is_later(generation: u16, than: u16) -> bool {
    matches!(generation.wrapping_sub(than), 1..=0x7fff)
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({} {} {})", self.spec.id, self.spec.name, self.state())
    }
}

/// With the two counts of its references it fits into four lines of cache. What a pending task takes in all is bounded by
/// `benches/rust/benches/memory.rs`.
const _: () = assert!(size_of::<Task>() <= 232);
