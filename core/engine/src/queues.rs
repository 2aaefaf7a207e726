//! The lanes: eligible tasks of each queue, in memory, and the order in which queues are served.
//!
//! A queue has three sets of four priority lanes: one for tasks that a worker thread runs, one for those that an event
//! loop takes, and one for those of a pool of foreign workers, so that none ever has to step over another's. Threads take
//! one task each, and many at the same time; a loop and a pool take lots, one at a time: their lanes are of another make.
//! On a resident store a lane holds tasks that are `queued` and are claimed when popped; on others it holds tasks that
//! this process has claimed already. A task that was cancelled meanwhile stays where it is: whoever pops it finds out by
//! its row.
//!
//! Queues come into being when they are first named and are never taken away, so the list only grows. Readers keep a
//! snapshot and look at a version number, one relaxed load, to see whether it is stale. A queue is in the list before
//! its first task is pushed, and the push is followed by the fence of the wake protocol: a worker that misses the new
//! version before it sleeps is woken after.
//!
//! # Order
//! [`Served`] says which queues this engine serves and how. *All*: each in turn, so that none starves. *In order*: the
//! first one that has a task; every [`FLOOR`]th pop begins at a later one, in turn, so that even the last is served in
//! the long run. *By weight*: of pops from busy queues each gets a share by its weight (smooth weighted round robin,
//! reckoned by each reader for itself). A queue that is empty costs its turn nothing: the next one is asked.
//!
//! # Pauses
//! A paused queue, or one that is not served, counts as empty for those who pop, and for a worker that asks whether it
//! may sleep; what is in it stays there. Whoever lets it go on writes the flag and then wakes the workers, as a push
//! does. The same holds while a queue is purged, by as many as do that at once.
//!
//! # One alone
//! While a task is tried ([`crate::trials`]) all are *shut* to worker threads and event loops, and what these find is the
//! one task that was *called*. What is claimed meanwhile waits in the lanes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use taskloom_model::Name;
use taskloom_store::Task;
use taskloom_sync::{Lanes, SerialLanes};

/// With queues served in order, every so many pops begins at a later one.
const FLOOR: usize = 64;

/// The same for claims, which take hundreds of tasks: every so many begins at a later queue, and takes few.
const CLAIM_FLOOR: usize = 4;

/// So few.
const SMALL_CLAIM: usize = 8;

/// Who runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A worker thread.
    Blocking,
    /// An event loop.
    Asynchronous,
    /// A pool of foreign workers, such as child processes.
    Pooled,
}

impl Route {
    /// Every one of them.
    pub(crate) const ALL: [Self; 3] = [Self::Blocking, Self::Asynchronous, Self::Pooled];
}

/// Which queues an engine serves, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Served {
    /// Every queue, each in turn.
    #[default]
    All,
    /// These, the first ones first.
    InOrder(Vec<Name>),
    /// These, each with its share.
    ByWeight(Vec<(Name, u32)>),
}

impl Served {
    /// The queues that it names; none if it serves all.
    pub fn names(&self) -> Vec<Name> {
        match self {
            Self::All => Vec::new(),
            Self::InOrder(names) => names.clone(),
            Self::ByWeight(weights) => weights.iter().map(|(name, _)| *name).collect(),
        }
    }

    /// Whether it serves a queue.
    pub fn has(&self, queue: Name) -> bool {
        match self {
            Self::All => true,
            Self::InOrder(names) => names.contains(&queue),
            Self::ByWeight(weights) => weights.iter().any(|(name, _)| *name == queue),
        }
    }

    /// The place of a queue in the order, and its weight.
    fn place(&self, queue: Name) -> (usize, u32) {
        match self {
            Self::All => (0, 1),
            Self::InOrder(names) => (names.iter().position(|name| *name == queue).unwrap_or(usize::MAX), 1),
            Self::ByWeight(weights) => {
                (0, weights.iter().find(|(name, _)| *name == queue).map_or(0, |(_, weight)| *weight))
            }
        }
    }
}

/// One queue's lanes.
pub(crate) struct Queue {
    name: Name,
    blocking: Lanes<Arc<Task>>,
    asynchronous: SerialLanes<Arc<Task>>,
    pooled: SerialLanes<Arc<Task>>,
    served: bool,
    /// Why nothing is taken: [`PAUSED`], and [`PURGE`] for each purge that is under way.
    shut: AtomicUsize,
}

/// An operator has paused it.
const PAUSED: usize = 1;

/// Somebody purges it.
const PURGE: usize = 2;

impl Queue {
    fn lots(&self, route: Route) -> &SerialLanes<Arc<Task>> {
        match route {
            Route::Pooled => &self.pooled,
            Route::Blocking | Route::Asynchronous => &self.asynchronous,
        }
    }

    /// Puts a task into its lane.
    pub(crate) fn push(&self, route: Route, priority: u8, task: Arc<Task>) {
        match route {
            Route::Blocking => self.blocking.push(priority, task),
            Route::Asynchronous | Route::Pooled => self.lots(route).push(priority, task),
        }
    }

    /// The same for many at once.
    pub(crate) fn push_all(&self, route: Route, priority: u8, tasks: Vec<Arc<Task>>) {
        match route {
            Route::Blocking => tasks.into_iter().for_each(|task| self.blocking.push(priority, task)),
            Route::Asynchronous | Route::Pooled => self.lots(route).push_all(priority, tasks),
        }
    }

    fn pop(&self, route: Route) -> Option<Arc<Task>> {
        match route {
            Route::Blocking => self.blocking.pop(),
            Route::Asynchronous | Route::Pooled => self.lots(route).pop(),
        }
    }

    fn is_empty(&self, route: Route) -> bool {
        match route {
            Route::Blocking => self.blocking.is_empty(),
            Route::Asynchronous | Route::Pooled => self.lots(route).is_empty(),
        }
    }

    fn len(&self, route: Route) -> usize {
        match route {
            Route::Blocking => self.blocking.len(),
            Route::Asynchronous | Route::Pooled => self.lots(route).len(),
        }
    }

    /// Whether its tasks may be taken here.
    pub(crate) fn is_open(&self) -> bool {
        self.served && self.shut.load(Ordering::SeqCst) == 0
    }

    fn is_paused(&self) -> bool {
        self.shut.load(Ordering::SeqCst) & PAUSED != 0
    }
}

type Snapshot = Arc<[Arc<Queue>]>;

/// All queues, in the order in which they are served.
pub(crate) struct Queues {
    served: Served,
    by_name: RwLock<HashMap<Name, Arc<Queue>>>,
    list: RwLock<Snapshot>,
    version: AtomicUsize,
    /// Claims decided on so far.
    claims: AtomicUsize,
    /// Whether nothing may be taken but the one that was called, and that one.
    shut: AtomicBool,
    called: Mutex<Option<(Route, Arc<Task>)>>,
}

impl Queues {
    pub(crate) fn new(served: Served) -> Self {
        Self {
            served,
            by_name: RwLock::default(),
            list: RwLock::new(Arc::new([])),
            version: AtomicUsize::new(0),
            claims: AtomicUsize::new(0),
            shut: AtomicBool::new(false),
            called: Mutex::new(None),
        }
    }

    pub(crate) fn served(&self) -> &Served {
        &self.served
    }

    /// The queue with this name, made if need be.
    pub(crate) fn queue(&self, name: Name) -> Arc<Queue> {
        if let Some(queue) = self.by_name.read().get(&name) {
            return Arc::clone(queue);
        }
        let mut by_name = self.by_name.write();
        if let Some(queue) = by_name.get(&name) {
            return Arc::clone(queue);
        }
        let queue = Arc::new(Queue {
            name,
            blocking: Lanes::new(),
            asynchronous: SerialLanes::new(),
            pooled: SerialLanes::new(),
            served: self.served.has(name),
            shut: AtomicUsize::new(0),
        });
        by_name.insert(name, Arc::clone(&queue));
        let mut list = self.list.write();
        let mut all: Vec<_> = list.iter().cloned().chain([Arc::clone(&queue)]).collect();
        all.sort_by_key(|queue| self.served.place(queue.name).0);
        *list = all.into();
        self.version.fetch_add(1, Ordering::Release);
        queue
    }

    /// Pauses a queue or lets it go on. Whoever does the latter then wakes the workers.
    pub(crate) fn set_paused(&self, name: Name, paused: bool) {
        let queue = self.queue(name);
        if paused {
            queue.shut.fetch_or(PAUSED, Ordering::SeqCst);
        } else {
            queue.shut.fetch_and(!PAUSED, Ordering::SeqCst);
        }
    }

    /// Shuts a queue for a purge, or ends that. Whoever does the latter then wakes the workers.
    pub(crate) fn set_purged(&self, name: Name, purged: bool) {
        let queue = self.queue(name);
        if purged {
            queue.shut.fetch_add(PURGE, Ordering::SeqCst);
        } else {
            queue.shut.fetch_sub(PURGE, Ordering::SeqCst);
        }
    }

    /// The names of the queues that are paused here.
    pub(crate) fn paused(&self) -> Vec<Name> {
        let list = self.list.read();
        list.iter().filter(|queue| queue.is_paused()).map(|queue| queue.name).collect()
    }

    /// Whether no lane of this route holds a task that may be taken. Two loads per queue, and it errs on the side of
    /// "there is one": the lanes of threads notice that they are empty when somebody pops in vain.
    pub(crate) fn is_empty(&self, route: Route) -> bool {
        if self.are_shut_to(route) {
            return !self.has_called(route);
        }
        self.list.read().iter().all(|queue| queue.is_empty(route) || !queue.is_open())
    }

    /// How many tasks that may be taken the lanes of this route hold.
    pub(crate) fn len(&self, route: Route) -> usize {
        if self.are_shut_to(route) { usize::from(self.has_called(route)) } else { self.held(route) }
    }

    /// How many tasks they hold, whether or not these may be taken just now.
    pub(crate) fn held(&self, route: Route) -> usize {
        let list = self.list.read();
        list.iter().filter(|queue| queue.is_open()).map(|queue| queue.len(route)).sum()
    }

    /// Takes the next task of this route.
    pub(crate) fn pop(&self, route: Route, view: &mut View) -> Option<Arc<Task>> {
        if self.are_shut_to(route) {
            return self.called.lock().take_if(|(own, _)| *own == route).map(|(_, task)| task);
        }
        self.refresh(view);
        let take = |queue: &Arc<Queue>| queue.is_open().then(|| queue.pop(route)).flatten();
        if let [only] = &*view.list {
            return take(only);
        }
        let first = match self.served {
            Served::All => return view.pop_in_turn(take),
            Served::InOrder(_) => view.next_floor(),
            Served::ByWeight(_) => return view.pop_by_weight(take),
        };
        let (before, from) = view.list.split_at(first);
        from.iter().chain(before).find_map(take)
    }

    /// Takes the next tasks of a route, so many at most: of a loop or of a pool, which take one after the other. Those of a
    /// queue that is the only one are taken together.
    pub(crate) fn pop_lot(
        &self,
        route: Route,
        view: &mut View,
        most: usize,
        tasks: &mut impl Extend<Arc<Task>>,
    ) {
        self.refresh(view);
        match &*view.list {
            [only] if !self.are_shut_to(route) => {
                if only.is_open() {
                    only.lots(route).pop_many(most, tasks);
                }
            }
            _ => tasks.extend((0..most).map_while(|_| self.pop(route, view))),
        }
    }

    /// Has a reader see the queues that there are now.
    fn refresh(&self, view: &mut View) {
        let version = self.version.load(Ordering::Acquire);
        if view.version != version {
            view.list = Arc::clone(&self.list.read());
            view.credits =
                view.list.iter().map(|queue| (0, i64::from(self.served.place(queue.name).1))).collect();
            view.version = version;
        }
    }

    /// The queues to claim from, the first ones first (none if all alike), and how many tasks at most. By weight, each
    /// comes first as often as its weight says. In order, every so many claims begins at a later queue, and is small.
    pub(crate) fn claim_order(&self) -> (Vec<Name>, usize) {
        let mut names = self.served.names();
        let mut most = usize::MAX;
        let claims = self.claims.load(Ordering::Relaxed);
        match &self.served {
            Served::All => {}
            Served::InOrder(_) => {
                if claims % CLAIM_FLOOR == CLAIM_FLOOR - 1 && names.len() > 1 {
                    let later = 1 + claims / CLAIM_FLOOR % (names.len() - 1);
                    names.rotate_left(later);
                    most = SMALL_CLAIM;
                }
            }
            Served::ByWeight(weights) => {
                let all: u64 = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let mut at = claims as u64 % all.max(1);
                let first = weights.iter().position(|(_, weight)| match at.checked_sub(u64::from(*weight)) {
                    Some(rest) => {
                        at = rest;
                        false
                    }
                    None => true,
                });
                names.rotate_left(first.unwrap_or(0));
            }
        }
        (names, most)
    }

    /// How many claims were decided on.
    pub(crate) fn claims(&self) -> usize {
        self.claims.load(Ordering::Relaxed)
    }

    /// A claim was decided on; the next one has its own order.
    pub(crate) fn claim_decided(&self) {
        self.claims.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on nothing is taken but what is called; what was taken before is shown by whoever took it.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    /// All may be taken again. Whoever does this then wakes the workers, and the loop.
    pub(crate) fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    pub(crate) fn are_shut(&self) -> bool {
        self.shut.load(Ordering::SeqCst)
    }

    /// Whether nothing may be taken by this route but what was called. A pool is never shut out.
    pub(crate) fn are_shut_to(&self, route: Route) -> bool {
        self.are_shut() && route != Route::Pooled
    }

    /// Puts the one task out that may be taken.
    pub(crate) fn call(&self, route: Route, task: Arc<Task>) {
        *self.called.lock() = Some((route, task));
    }

    /// Takes it back, if it is still there and one of these.
    pub(crate) fn uncall(&self, which: impl Fn(&Arc<Task>) -> bool) -> Option<Arc<Task>> {
        self.called.lock().take_if(|(_, task)| which(task)).map(|(_, task)| task)
    }

    fn has_called(&self, route: Route) -> bool {
        self.called.lock().as_ref().is_some_and(|(own, _)| *own == route)
    }

    /// Takes any task of this route, even from a paused queue: for the end of the engine.
    pub(crate) fn take_any(&self, route: Route) -> Option<Arc<Task>> {
        let list = Arc::clone(&self.list.read());
        list.iter().find_map(|queue| queue.pop(route))
    }

    /// Takes all that is in a queue.
    pub(crate) fn take_all(&self, name: Name) -> Vec<Arc<Task>> {
        let queue = self.queue(name);
        let mut all = Vec::new();
        for route in Route::ALL {
            while let Some(task) = queue.pop(route) {
                all.push(task);
            }
        }
        all
    }
}

/// A reader's snapshot of the list of queues, and where it is in their order.
pub(crate) struct View {
    list: Snapshot,
    version: usize,
    turn: usize,
    /// The credit and the weight of each queue.
    credits: Vec<(i64, i64)>,
    /// Room for putting them in order.
    order: Vec<usize>,
}

impl Default for View {
    fn default() -> Self {
        Self { list: Arc::new([]), version: 0, turn: 0, credits: Vec::new(), order: Vec::new() }
    }
}

impl View {
    /// From the first queue that has a task, counted from the one after the one that was served last. So a queue does
    /// not gain by standing behind an empty one.
    fn pop_in_turn(&mut self, take: impl Fn(&Arc<Queue>) -> Option<Arc<Task>>) -> Option<Arc<Task>> {
        let len = self.list.len();
        let mut order = (1..=len).map(|step| (self.turn % len + step) % len);
        let (index, task) = order.find_map(|index| take(&self.list[index]).map(|task| (index, task)))?;
        self.turn = index;
        Some(task)
    }

    /// Where the next pop in order begins: at the first queue, but for every so many.
    fn next_floor(&mut self) -> usize {
        self.turn = self.turn.wrapping_add(1);
        let later = self.list.len().saturating_sub(1).max(1);
        if self.turn.is_multiple_of(FLOOR) {
            (1 + self.turn / FLOOR % later) % self.list.len().max(1)
        } else {
            0
        }
    }

    /// Smooth weighted round robin over the queues that have a task: each gains its weight, the richest is served and
    /// pays what all have gained.
    fn pop_by_weight(&mut self, take: impl Fn(&Arc<Queue>) -> Option<Arc<Task>>) -> Option<Arc<Task>> {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..self.list.len());
        order.sort_by_key(|index| {
            let (credit, weight) = self.credits[*index];
            std::cmp::Reverse(credit + weight)
        });
        let found = order.iter().find_map(|index| take(&self.list[*index]).map(|task| (*index, task)));
        self.order = order;
        let (index, task) = found?;
        let mut gained = 0;
        for (credit, weight) in &mut self.credits {
            *credit += *weight;
            gained += *weight;
        }
        self.credits[index].0 -= gained;
        // A queue that was empty for long must not shut the others out once it is not.
        for (credit, weight) in &mut self.credits {
            *credit = (*credit).clamp(-2 * gained, 2 * *weight);
        }
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use taskloom_model::{Admission, TaskId, Timestamp, admit};

    use super::*;

    fn task(queue: Name, number: u8) -> Arc<Task> {
        let id = TaskId::from_bytes([number; 16]);
        let now = Timestamp::from_micros(1);
        let options = taskloom_model::Options { queue: Some(queue.as_str().into()), ..Default::default() };
        let admission = Admission::new(&options).unwrap();
        let (spec, row, _) = admit(&admission, id, Name::new("x"), Default::default(), now).unwrap();
        Task::new(spec, row, None)
    }

    /// How many tasks each of two busy queues gets of so many pops.
    fn shares(served: Served, pops: usize) -> (usize, usize) {
        let (a, b) = (Name::new("share-a"), Name::new("share-b"));
        let queues = Queues::new(served);
        let mut view = View::default();
        for name in [b, a] {
            let queue = queues.queue(name);
            for _ in 0..pops {
                queue.push(Route::Blocking, 1, task(name, 1));
            }
        }
        let mut counts = (0, 0);
        for _ in 0..pops {
            match queues.pop(Route::Blocking, &mut view).unwrap().spec().queue {
                queue if queue == a => counts.0 += 1,
                _ => counts.1 += 1,
            }
        }
        counts
    }

    #[test]
    fn busy_queues_share_as_they_were_told() {
        let (a, b) = (Name::new("share-a"), Name::new("share-b"));
        assert_eq!(shares(Served::All, 1_000), (500, 500));
        let (first, last) = shares(Served::InOrder(vec![a, b]), 12_800);
        assert_eq!((first, last), (12_600, 200), "one in 64 pops begins at a later one");
        assert_eq!(shares(Served::ByWeight(vec![(a, 3), (b, 1)]), 1_000), (750, 250));
    }

    #[test]
    fn a_weighted_queue_that_was_empty_does_not_shut_out_the_others() {
        let (a, b) = (Name::new("share-a"), Name::new("share-b"));
        let queues = Queues::new(Served::ByWeight(vec![(a, 1), (b, 1)]));
        let mut view = View::default();
        let push = |name| queues.queue(name).push(Route::Blocking, 1, task(name, 1));
        for _ in 0..1_000 {
            push(a);
            assert!(queues.pop(Route::Blocking, &mut view).is_some());
        }
        (0..100).for_each(|_| push(a));
        (0..100).for_each(|_| push(b));
        let next: Vec<_> =
            (0..10).map(|_| queues.pop(Route::Blocking, &mut view).unwrap().spec().queue).collect();
        assert!(next.contains(&a) && next.contains(&b), "{next:?}");
    }

    #[test]
    fn a_paused_queue_is_as_good_as_empty() {
        let queues = Queues::new(Served::All);
        let name = Name::new("share-paused");
        queues.queue(name).push(Route::Blocking, 1, task(name, 1));
        queues.set_paused(name, true);
        assert!(queues.is_empty(Route::Blocking));
        assert_eq!(queues.len(Route::Blocking), 0);
        assert!(queues.pop(Route::Blocking, &mut View::default()).is_none());
        assert_eq!(queues.paused(), [name]);
        queues.set_paused(name, false);
        assert!(!queues.is_empty(Route::Blocking));
        assert!(queues.pop(Route::Blocking, &mut View::default()).is_some());
    }

    #[test]
    fn a_queue_that_is_not_served_is_left_alone() {
        let (mine, other) = (Name::new("share-mine"), Name::new("share-other"));
        let queues = Queues::new(Served::InOrder(vec![mine]));
        queues.queue(other).push(Route::Asynchronous, 1, task(other, 1));
        assert!(queues.is_empty(Route::Asynchronous));
        assert!(queues.pop(Route::Asynchronous, &mut View::default()).is_none());
        assert!(queues.take_any(Route::Asynchronous).is_some());
    }
}
