//! Where runnable work waits: four FIFO lanes by priority, and one byte that says which of them may hold work.
//!
//! Owns the queued items and the byte. Promises:
//!
//! * **No false "empty".** If a push happened before the call and its item was not taken, [`Lanes::is_empty`]
//!   returns false. The other way round it may err: false for lanes that have just run empty.
//! * **Priority, with a floor.** A pop serves the highest lane that holds work, except that every 64th pop serves
//!   the lowest. With lanes 0 and 3 saturated that rule alone would starve 1 and 2, so every second of these floor
//!   pops prefers, in turn, lane 1 and lane 2. An item with *n* before it in its lane therefore leaves within
//!   256·(*n*+1) pops, whatever the other lanes do. (Pops are counted while two lanes hold work. While one does, any pop
//!   serves it.)
//! * **FIFO within a lane**, as far as concurrent pushes have an order at all.
//!
//! # The byte
//!
//! Two bits a lane:
//!
//! ```text
//!   00 EMPTY     nothing here
//!   01 FULL      there may be something here
//!   10 DOUBTED   one popper, the doubter, found nothing and is looking again
//!   11 TOUCHED   as before, but something was pushed since
//!
//!   push:  item in; fence P; read the lane's bits;  EMPTY or DOUBTED → set the low bit;  FULL, TOUCHED → done
//!   pop:   nothing found;  FULL → DOUBTED (else leave it be);  fence D;  look again;
//!          something there → set the low bit;  in any case clear the high bit (DOUBTED → EMPTY, TOUCHED → FULL)
//! ```
//!
//! Why not one bit, cleared and then re-checked? Because between the clearing and the re-check the byte says
//! "empty" while a completed push may sit in the queue: a worker that asks in that instant goes to sleep on work.
//! Doubt is a second non-zero state, so the byte reads zero only when the lanes are known to be empty.
//!
//! **The high bit is a claim.** It is raised only from `FULL` and lowered only by the popper that raised it: there is
//! at most one doubter a lane. Without that, a delayed doubter might act on another's later doubt (ABA).
//!
//! # Why a push may get away with a load
//!
//! Claim: from the moment a push has done its read (or its set) of the byte until its item is taken, the lane's bits
//! are not `EMPTY`. Only a doubter makes them `EMPTY`, so consider any doubter's step `FULL → DOUBTED` and where
//! it falls in the modification order of the byte:
//!
//! * *Before what the push read.* If the doubter is still at it, the push read `DOUBTED` and sets the low bit, or read
//!   `TOUCHED`; either way the doubter's last step makes it `FULL`. If the doubter finished before the set, the
//!   push sets the low bit of whatever followed.
//! * *After what the push read.* Had fence D come before fence P in the order of `SeqCst` fences, the push's read,
//!   which follows P, would have had to see the doubt, which precedes D. So P came before D: the doubter's second
//!   look, which follows D, sees the item, which precedes P. It sets the low bit, unless the item was taken already.
//!
//! So the usual push on a busy lane writes nothing but its queue slot: the byte's cache line stays shared among all
//! submitters. `is_empty` needs no fence of its own for the promise above: a push that happened before the call read
//! the byte before the call, and by coherence the call cannot see an older value.
//!
//! This leans on one property of `SegQueue`: `push` advances the tail by a read-modify-write before it returns, and
//! `is_empty` compares head with tail, reading head first. A stale head errs towards "not empty"; the tail is what
//! the fences make visible.
//!
//! The read of the byte is `Acquire` and the set is `Release`, so that a popper led here by the bit finds the
//! item at its first look. Correctness does not hang on it.
//!
//! # Failure
//!
//! Allocation failure in a push aborts, as everywhere in Rust. No user code runs inside, so nothing can panic
//! half-way but the assertion on the priority, which comes first. A doubter that is preempted leaves its lane
//! non-zero: workers spin through a fruitless search until it runs again, but none sleeps on work.

use std::fmt;

use crate::primitive::{Apart, AtomicU8, AtomicUsize, Ordering, Queue, fence};

/// How many lanes there are: one a priority.
pub(crate) const LANES: usize = 4;

/// Every so many pops is a floor pop: the lowest lane is served first.
pub(crate) const FLOOR: usize = 64;

/// Which lane each floor pop in turn tries before it goes by "lowest first".
pub(crate) const FAVOURED: [usize; 4] = [0, 1, 0, 2];

/// The low bit of a lane: something may be there.
const fn low(lane: usize) -> u8 {
    0b01 << (2 * lane)
}

/// The high bit of a lane: a doubter is at work.
const fn high(lane: usize) -> u8 {
    0b10 << (2 * lane)
}

/// Four priority queues that many threads push to and pop from, with an emptiness check of one load.
///
/// # Examples
///
/// ```
/// let lanes = taskloom_sync::Lanes::new();
/// lanes.push(0, "low");
/// lanes.push(3, "critical");
/// lanes.push(3, "critical too");
/// assert_eq!(lanes.len(), 3);
/// assert_eq!(lanes.pop(), Some("critical"));
/// assert_eq!(lanes.pop(), Some("critical too"));
/// assert_eq!(lanes.pop(), Some("low"));
/// assert_eq!(lanes.pop(), None);
/// assert!(lanes.is_empty());
/// ```
pub struct Lanes<T> {
    /// Two bits a lane; see the module. Read by all, written seldom: it must not share a line with `pops`.
    bits: Apart<AtomicU8>,
    /// Pops that had a choice between lanes, for the floor. Publishes nothing, so it is relaxed throughout.
    pops: Apart<AtomicUsize>,
    lanes: [Queue<T>; LANES],
}

impl<T> Lanes<T> {
    /// Creates empty lanes. Nothing is allocated until the first push.
    pub fn new() -> Lanes<T> {
        Lanes {
            bits: Apart(AtomicU8::new(0)),
            pops: Apart(AtomicUsize::new(0)),
            lanes: std::array::from_fn(|_| Queue::new()),
        }
    }

    /// Appends an item to the lane of the given priority, 0 (low) to 3 (critical).
    ///
    /// # Panics
    ///
    /// If the priority is above 3.
    #[inline]
    pub fn push(&self, priority: u8, item: T) {
        let lane = usize::from(priority);
        assert!(lane < LANES, "priority {priority} is out of range 0..=3");
        self.lanes[lane].push(item);
        fence(Ordering::SeqCst); // fence P
        if self.bits.0.load(Ordering::Relaxed) & low(lane) == 0 {
            self.bits.0.fetch_or(low(lane), Ordering::Release);
        }
    }

    /// Takes an item: the oldest of the highest lane that holds any.
    ///
    /// Every 64th pop takes from the lowest instead; every second of those from lane 1 or 2, in turn, if there is
    /// anything. So no lane starves.
    ///
    /// `None` says that each lane was found empty at some point during the call. Pops where no two lanes hold anything
    /// do not count towards the 64.
    #[inline]
    pub fn pop(&self) -> Option<T> {
        let bits = self.bits.0.load(Ordering::Acquire);
        if bits == 0 {
            return None;
        }
        let lane = bits.trailing_zeros() as usize / 2;
        if bits & !(low(lane) | high(lane)) == 0 {
            // Only this one may hold anything: there is nothing to choose, and so nothing to count.
            return self.pop_lane(bits, lane);
        }
        let nth = self.pops.0.fetch_add(1, Ordering::Relaxed);
        if nth % FLOOR == FLOOR - 1 {
            let favoured = FAVOURED[nth / FLOOR % FAVOURED.len()];
            self.pop_lane(bits, favoured).or_else(|| (0..LANES).find_map(|lane| self.pop_lane(bits, lane)))
        } else {
            (0..LANES).rev().find_map(|lane| self.pop_lane(bits, lane))
        }
    }

    /// Whether nothing is queued.
    ///
    /// Never true while an item is here whose push happened before this call. May be false when there is nothing.
    /// One load. The module argues both.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bits.0.load(Ordering::Acquire) == 0
    }

    /// How many items are queued. Under concurrency the lanes are counted one after the other, so it is a figure
    /// for display and not for decisions.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(Queue::len).sum()
    }

    fn pop_lane(&self, bits: u8, lane: usize) -> Option<T> {
        if bits & (low(lane) | high(lane)) == 0 {
            return None;
        }
        loop {
            if let Some(item) = self.lanes[lane].pop() {
                return Some(item);
            }
            if !self.doubt(lane) {
                return None;
            }
        }
    }

    /// Called by a popper that found the lane empty. Clears its bits if that is still so. Returns whether there is
    /// reason to look again.
    #[cold]
    fn doubt(&self, lane: usize) -> bool {
        let (low, high) = (low(lane), high(lane));
        let bits = &self.bits.0;
        let mut seen = bits.load(Ordering::Relaxed);
        loop {
            if seen & (low | high) != low {
                // Somebody else is in doubt or has cleared it. We did find it empty: that is answer enough.
                return false;
            }
            match bits.compare_exchange_weak(seen, seen ^ (low | high), Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        fence(Ordering::SeqCst); // fence D
        if !self.lanes[lane].is_empty() {
            bits.fetch_or(low, Ordering::Relaxed);
        }
        bits.fetch_and(!high, Ordering::Relaxed) & low != 0
    }
}

impl<T> Default for Lanes<T> {
    fn default() -> Lanes<T> {
        Lanes::new()
    }
}

impl<T> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn serves_by_priority_then_in_order() {
        let lanes = Lanes::new();
        for priority in [1, 3, 0, 2, 3, 1, 0, 2] {
            lanes.push(priority, (priority, lanes.len()));
        }
        let served: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
        assert_eq!(served, [(3, 1), (3, 4), (2, 3), (2, 7), (1, 0), (1, 5), (0, 2), (0, 6)]);
        assert!(lanes.is_empty());
    }

    /// All lanes saturated, 512 pops: where did the lower lanes get their turn?
    fn turns(lane: u8, busy: &[u8]) -> Vec<usize> {
        let lanes = Lanes::new();
        for &priority in busy {
            (0..512).for_each(|_| lanes.push(priority, priority));
        }
        (1..=512).filter(|_| lanes.pop() == Some(lane)).collect()
    }

    #[test]
    fn every_sixty_fourth_pop_serves_the_lowest() {
        assert_eq!(turns(0, &[0, 3]), [64, 128, 192, 256, 320, 384, 448, 512]);
        assert_eq!(turns(1, &[1, 2]), [64, 128, 192, 320, 384, 448]);
    }

    #[test]
    fn no_lane_starves_between_a_busy_floor_and_a_busy_top() {
        let all = [0, 1, 2, 3];
        assert_eq!(turns(0, &all), [64, 192, 320, 448]);
        assert_eq!(turns(1, &all), [128, 384]);
        assert_eq!(turns(2, &all), [256, 512]);
    }

    #[test]
    fn empties_and_fills_again() {
        let lanes = Lanes::new();
        for round in 0..1000 {
            assert!(lanes.is_empty());
            assert_eq!(lanes.pop(), None);
            lanes.push((round % 4) as u8, round);
            assert!(!lanes.is_empty());
            assert_eq!(lanes.pop(), Some(round));
            assert_eq!(lanes.pop(), None);
        }
    }

    #[test]
    #[should_panic(expected = "priority 4 is out of range")]
    fn refuses_a_fifth_lane() {
        Lanes::new().push(4, ());
    }

    #[test]
    fn drops_what_is_left() {
        let item = std::sync::Arc::new(());
        let lanes = Lanes::new();
        for priority in 0..4 {
            lanes.push(priority, item.clone());
        }
        drop(lanes);
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }

    /// The lane is kept nearly empty, so that the bits flip all the time.
    #[test]
    fn a_push_is_never_invisible() {
        const ITEMS: usize = 50_000;
        let (lanes, taken) = (Lanes::new(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while taken.load(Ordering::Acquire) < ITEMS {
                        if lanes.pop().is_some() {
                            taken.fetch_add(1, Ordering::Release);
                        } else {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            for i in 0..ITEMS {
                lanes.push(2, i);
                // Empty may only mean "taken": wait for the taker to say so. A lost item would hang here.
                if lanes.is_empty() {
                    while taken.load(Ordering::Acquire) <= i {
                        std::thread::yield_now();
                    }
                }
            }
        });
        // The last pop may have succeeded, and only a failing one clears the bits.
        assert_eq!(lanes.pop(), None);
        assert!(lanes.is_empty());
        assert_eq!(lanes.len(), 0);
    }
}
