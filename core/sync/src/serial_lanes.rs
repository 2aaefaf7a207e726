//! Where runnable work waits that one taker at a time fetches in lots: the tasks of an event loop, or of a pool.
//!
//! It keeps the promises of [`Lanes`](crate::Lanes): no false "empty", priority with a floor, FIFO within a lane. Those are
//! for many takers who fetch one item each, and cost each item two atomic instructions going in and two coming out. A
//! taker who fetches hundreds of items at once, pushed hundreds at once, does better with a lock for each lot: here it is
//! held for as long as it takes to move them, and by nobody who waits for anything.
//!
//! # What it owns
//! Four queues and the count of pops behind a lock, and beside it how many items they hold, which is written under the
//! lock and read without.
//!
//! # Why the count may be read without the lock
//! A push writes it before it lets go of the lock, so whoever knows of the push finds it in the count, unless it was taken.
//! That is the promise of [`SerialLanes::is_empty`]. A push ends with a `SeqCst` fence, as one of `Lanes` does: whoever
//! pushes and then looks at a flag, and whoever writes that flag, passes such a fence and then looks here, cannot both miss
//! the other (`tests/loom.rs` tries it).
//!
//! # Failure
//! Allocation failure aborts. No code of a user's runs under the lock: items are dropped by whoever takes them.

use std::collections::VecDeque;
use std::fmt;

use crate::lanes::{FAVOURED, FLOOR, LANES};
use crate::primitive::{Apart, AtomicUsize, Mutex, Ordering, fence};

/// A lane that has run empty keeps room for so many items.
const ROOM: usize = 4_096;

/// Four priority queues that many threads push to, and that one at a time takes from.
///
/// # Examples
///
/// ```
/// let lanes = taskloom_sync::SerialLanes::new();
/// lanes.push_all(1, ["a", "b"]);
/// lanes.push(3, "critical");
/// let mut taken = Vec::new();
/// lanes.pop_many(2, &mut taken);
/// assert_eq!(taken, ["critical", "a"]);
/// assert_eq!((lanes.pop(), lanes.pop()), (Some("b"), None));
/// assert!(lanes.is_empty());
/// ```
pub struct SerialLanes<T> {
    len: Apart<AtomicUsize>,
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    lanes: [VecDeque<T>; LANES],
    /// Pops that had a choice between lanes, for the floor.
    pops: usize,
}

impl<T> SerialLanes<T> {
    /// Creates empty lanes. Nothing is allocated until the first push.
    pub fn new() -> Self {
        let inner = Inner { lanes: [const { VecDeque::new() }; LANES], pops: 0 };
        Self { len: Apart(AtomicUsize::new(0)), inner: Mutex::new(inner) }
    }

    /// Appends an item to the lane of the given priority, 0 (low) to 3 (critical).
    ///
    /// # Panics
    ///
    /// If the priority is above 3.
    #[inline]
    pub fn push(&self, priority: u8, item: T) {
        self.push_all(priority, [item]);
    }

    /// Appends items, in their order, with no other between them. Their iterator must not come back here.
    ///
    /// # Panics
    ///
    /// If the priority is above 3.
    pub fn push_all(&self, priority: u8, items: impl IntoIterator<Item = T>) {
        let lane = usize::from(priority);
        assert!(lane < LANES, "priority {priority} is out of range 0..=3");
        {
            let mut inner = self.inner.lock();
            inner.lanes[lane].extend(items);
            self.len.0.store(inner.len(), Ordering::Release);
        }
        fence(Ordering::SeqCst);
    }

    /// Takes an item: the oldest of the highest lane that holds any, but every 64th time as [`Lanes`](crate::Lanes) does.
    pub fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut inner = self.inner.lock();
        let item = inner.pop();
        self.len.0.store(inner.len(), Ordering::Release);
        item
    }

    /// Takes items, so many at most, in the order in which that many pops would.
    pub fn pop_many(&self, most: usize, items: &mut impl Extend<T>) {
        if self.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        match inner.only_lane() {
            Some(lane) => {
                let lane = &mut inner.lanes[lane];
                items.extend(lane.drain(..most.min(lane.len())));
                give_back(lane);
            }
            None => items.extend((0..most).map_while(|_| inner.pop())),
        }
        self.len.0.store(inner.len(), Ordering::Release);
    }

    /// Whether nothing is queued: never true while an item is here whose push happened before this call. One load.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items are queued.
    #[inline]
    pub fn len(&self) -> usize {
        self.len.0.load(Ordering::Acquire)
    }
}

impl<T> Inner<T> {
    fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// The lane that holds something, if it is the only one.
    fn only_lane(&self) -> Option<usize> {
        let mut busy = (0..LANES).filter(|lane| !self.lanes[*lane].is_empty());
        let first = busy.next();
        first.filter(|_| busy.next().is_none())
    }

    fn pop(&mut self) -> Option<T> {
        let mut busy = (0..LANES).filter(|lane| !self.lanes[*lane].is_empty());
        let lowest = busy.next()?;
        let lane = match busy.next_back() {
            None => lowest,
            Some(highest) => {
                let nth = self.pops;
                self.pops = nth.wrapping_add(1);
                let favoured = FAVOURED[nth / FLOOR % FAVOURED.len()];
                match nth % FLOOR == FLOOR - 1 {
                    true if self.lanes[favoured].is_empty() => lowest,
                    true => favoured,
                    false => highest,
                }
            }
        };
        let item = self.lanes[lane].pop_front();
        give_back(&mut self.lanes[lane]);
        item
    }
}

/// After a burst a lane gives its memory back.
fn give_back<T>(lane: &mut VecDeque<T>) {
    if lane.is_empty() && lane.capacity() > ROOM {
        *lane = VecDeque::new();
    }
}

impl<T> Default for SerialLanes<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for SerialLanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialLanes").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Lanes;

    /// What both kinds of lanes hand out for the same pushes, however the items are fetched.
    fn compare(pushes: &[(u8, usize)], lots: impl Fn(usize) -> usize) {
        let (one_by_one, in_lots) = (Lanes::new(), SerialLanes::new());
        let mut number = 0;
        for (priority, count) in pushes {
            let items: Vec<_> = (number..number + count).collect();
            number += count;
            items.iter().for_each(|item| one_by_one.push(*priority, *item));
            in_lots.push_all(*priority, items);
        }
        assert_eq!(in_lots.len(), number);
        let mut taken = Vec::new();
        for lot in 0.. {
            let before = taken.len();
            match lots(lot) {
                1 => taken.extend(in_lots.pop()),
                most => in_lots.pop_many(most, &mut taken),
            }
            if taken.len() == before {
                break;
            }
        }
        let expected: Vec<_> = std::iter::from_fn(|| one_by_one.pop()).collect();
        assert_eq!(taken, expected);
        assert!(in_lots.is_empty());
    }

    #[test]
    fn hands_out_what_lanes_would_in_that_order() {
        let mixed = [(1, 3), (3, 1), (0, 200), (2, 70), (3, 100), (1, 300), (0, 1)];
        let one = [(2, 1_000)];
        for pushes in [&mixed[..], &one[..], &[]] {
            compare(pushes, |_| 1);
            compare(pushes, |_| 256);
            compare(pushes, |lot| [1, 7, 64, 65][lot % 4]);
        }
    }

    #[test]
    fn a_lane_that_ran_empty_after_a_burst_gives_its_memory_back() {
        let lanes = SerialLanes::new();
        lanes.push_all(0, 0..100_000);
        let mut taken = Vec::new();
        lanes.pop_many(usize::MAX, &mut taken);
        assert_eq!(taken.len(), 100_000);
        assert!(lanes.inner.lock().lanes[0].capacity() <= ROOM);
    }

    #[test]
    fn drops_what_is_left() {
        let item = Arc::new(());
        let lanes = SerialLanes::new();
        lanes.push_all(2, vec![Arc::clone(&item); 3]);
        drop(lanes);
        assert_eq!(Arc::strong_count(&item), 1);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        const EACH: usize = 20_000;
        let lanes = SerialLanes::new();
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let lanes = &lanes;
                scope.spawn(move || {
                    for number in 0..EACH / 2 {
                        let items = [2 * number, 2 * number + 1].map(|item| (thread, item));
                        lanes.push_all(thread, items);
                    }
                });
            }
            while taken.len() < 2 * EACH {
                lanes.pop_many(100, &mut taken);
                std::thread::yield_now();
            }
        });
        for thread in 0..2 {
            let own: Vec<_> = taken.iter().filter(|(of, _)| *of == thread).map(|(_, item)| *item).collect();
            assert_eq!(own, (0..EACH).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "priority 4 is out of range")]
    fn refuses_a_fifth_lane() {
        SerialLanes::new().push(4, ());
    }
}
