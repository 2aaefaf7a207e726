//! Memory for values that are about to be made, on its way into the cache before they are.
//!
//! A task that is submitted lies in memory that another core freed: a thread that only forgets, or a worker. To write
//! there is to wait for each line of it to come over, and since processors make writes visible in their order, the wait
//! shows wherever the next atomic instruction is, for a task a tenth of a submit. So a thread takes the memory for a value
//! while it makes the one [`AHEAD`] before it, and has its lines fetched for writing. When the turn of that memory comes
//! the lines are there.
//!
//! Since the memory of the next value is known, so can be who takes the values in turn on another core: who has one can
//! have the next one fetched ([`Nursery::upcoming`], [`Step`]).
//!
//! Where one thread makes values and another forgets them, the memory can go back in lots ([`Stock`]). To an allocator each
//! piece goes by itself, into a list of which the maker has to fetch one piece to find the next; of a lot it has the
//! addresses.
//!
//! # What it owns
//! At most [`AHEAD`] pieces of memory without a value, and what is left of a lot. They are given back when it is dropped,
//! with its thread.
//!
//! # Failure
//! Allocation failure aborts, as everywhere in Rust. Fetching is a hint: where there is no such instruction nothing is
//! fetched, and nothing else changes.
#![allow(
    unsafe_code,
    reason = "memory that is filled after it was shared with nobody, and a hint to the processor"
)]

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

/// For so many values memory is kept ready.
const AHEAD: usize = 8;

/// What is fetched at once.
const LINE: usize = 64;

/// A thread's memory for values that it is about to make.
///
/// # Examples
///
/// ```
/// let mut nursery = taskloom_sync::Nursery::new();
/// let stock = taskloom_sync::Stock::new();
/// let texts = ["a", "b"].map(|text| nursery.blank(&stock).fill(text.to_owned()));
/// assert_eq!(*texts[1], "b");
/// ```
#[derive(Debug)]
pub struct Nursery<T> {
    ready: [Option<Blank<T>>; AHEAD],
    turn: usize,
    lot: Vec<Blank<T>>,
}

/// Memory without a value.
#[derive(Debug)]
pub struct Blank<T>(Arc<MaybeUninit<T>>);

impl<T> Nursery<T> {
    /// Creates one with nothing ready.
    pub const fn new() -> Self {
        Self { ready: [const { None }; AHEAD], turn: 0, lot: Vec::new() }
    }

    /// Memory for a value; and has that for a later one fetched. It comes from the allocator, unless there is some in stock.
    #[inline]
    pub fn blank(&mut self, stock: &Stock<T>) -> Blank<T> {
        let later = self.lot.pop().unwrap_or_else(|| {
            self.lot = stock.take();
            self.lot.pop().unwrap_or_default()
        });
        fetch(later.address(), size_of::<T>());
        self.turn = (self.turn + 1) % AHEAD;
        self.ready[self.turn].replace(later).unwrap_or_default()
    }

    /// How far from `here`, whose memory was asked for last, the value after it will lie, if another is made.
    #[inline]
    pub fn upcoming(&self, here: &Blank<T>) -> Step {
        let next = self.ready[(self.turn + 1) % AHEAD].as_ref();
        next.map_or(Step::default(), |next| Step::between(here.address(), next.address()))
    }
}

impl<T> Default for Nursery<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Blank<T> {
    /// Takes memory that was not fetched.
    #[inline]
    pub fn new() -> Self {
        Self(Arc::new_uninit())
    }

    /// The memory of a value that is of no use any more, unless somebody else has a reference to it, of either kind. The
    /// value is dropped, or will be with the last reference.
    #[inline]
    pub fn of(mut value: Arc<T>) -> Option<Self> {
        Arc::get_mut(&mut value)?;
        let place = Arc::into_raw(value).cast_mut();
        // SAFETY: nobody else has a reference, so nobody looks at the value that is dropped, and nobody can get one. What is
        // left has the layout of an allocation whose value is still to come. If the drop panics, the memory is lost.
        unsafe {
            ptr::drop_in_place(place);
            Some(Self(Arc::from_raw(place.cast())))
        }
    }

    /// Puts the value in.
    #[inline(always)]
    pub fn fill(self, value: T) -> Arc<T> {
        let place = Arc::as_ptr(&self.0).cast_mut();
        // SAFETY: the pointer comes from the allocation, which nobody else has a reference to: it was never given away.
        // When it is taken to be initialized, it is.
        unsafe {
            place.cast::<T>().write(value);
            self.0.assume_init()
        }
    }

    /// Where it is.
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl<T> Default for Blank<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Memory on its way back from those who forget values to those who make new ones, in lots.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use taskloom_sync::{Blank, Nursery, Stock};
///
/// let (stock, mut nursery) = (Stock::new(), Nursery::new());
/// let text = nursery.blank(&stock).fill("a".to_owned());
/// stock.give(Blank::of(text).into_iter().collect());
/// assert_eq!(*nursery.blank(&stock).fill("b".to_owned()), "b");
/// ```
#[derive(Debug)]
pub struct Stock<T>(ArrayQueue<Vec<Blank<T>>>);

/// So many lots are kept: of tasks, four megabytes at most.
const LOTS: usize = 64;

impl<T> Stock<T> {
    /// So many pieces make a lot.
    pub const LOT: usize = 256;

    /// Creates one with nothing in it.
    pub fn new() -> Self {
        Self(ArrayQueue::new(LOTS))
    }

    /// Gives memory back; to the allocator, if there is much of it here.
    pub fn give(&self, lot: Vec<Blank<T>>) {
        if !lot.is_empty() {
            drop(self.0.push(lot));
        }
    }

    #[inline]
    fn take(&self) -> Vec<Blank<T>> {
        // A pop in vain takes a fence.
        if self.0.is_empty() { Vec::new() } else { self.0.pop().unwrap_or_default() }
    }
}

impl<T> Default for Stock<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// How far it is from one value to the next: a word would be too much to keep in each of a million values. Values that
/// lie further apart than it can tell count as one, and nothing is gained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step(i32);

impl Step {
    /// What distances are counted in: memory for anything as large as a word begins at a multiple of it.
    const UNIT: usize = align_of::<usize>();

    #[inline]
    fn between(from: usize, to: usize) -> Self {
        let units = to.wrapping_sub(from).cast_signed() / Self::UNIT.cast_signed();
        Self(i32::try_from(units).unwrap_or(0))
    }

    /// Has the value fetched that is so far from this one.
    #[inline]
    pub fn fetch_from<T>(self, here: &T) {
        let distance = (self.0 as isize).wrapping_mul(Self::UNIT.cast_signed());
        fetch(ptr::from_ref(here).addr().wrapping_add_signed(distance), size_of::<T>());
    }
}

/// Has so many bytes fetched into this core's cache, to be written. It does not matter what is there, nor whether there is
/// anything.
#[inline]
fn fetch(address: usize, len: usize) {
    for offset in (0..len).step_by(LINE) {
        fetch_line(address.wrapping_add(offset));
    }
}

#[inline]
fn fetch_line(at: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it reads and writes nothing that a program can see, and takes any address. Processors of this architecture
    // that do not have it take it for an instruction without effect.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_memory_of_its_own() {
        let mut nursery = Nursery::new();
        let values: Vec<_> = (0..100).map(|number| nursery.blank(&Stock::new()).fill([number; 40])).collect();
        for (number, value) in values.iter().enumerate() {
            assert_eq!(**value, [number; 40]);
            assert_eq!((Arc::strong_count(value), Arc::weak_count(value)), (1, 0));
        }
    }

    #[test]
    fn a_step_leads_to_the_next_value() {
        for (from, to) in [(0x1000, 0x1100), (0x1100, 0x1000), (usize::MAX - 7, 16), (0x1000, 0x1000)] {
            let step = Step::between(from, to);
            assert_eq!(from.wrapping_add_signed(step.0 as isize * Step::UNIT.cast_signed()), to);
        }
        assert_eq!(Step::between(0, usize::MAX / 2).0, 0, "too far to be told");
        let mut nursery = Nursery::<[u64; 30]>::new();
        let blanks: Vec<_> = (0..20)
            .map(|_| {
                let blank = nursery.blank(&Stock::new());
                let step = nursery.upcoming(&blank);
                (blank, step)
            })
            .collect();
        for two in blanks.windows(2).skip(AHEAD) {
            let (here, step) = &two[0];
            assert_eq!(Step::between(here.address(), two[1].0.address()).0, step.0);
        }
        let (here, step) = blanks.into_iter().next_back().expect("there are twenty");
        step.fetch_from(&*here.fill([1; 30]));
    }

    #[test]
    fn memory_goes_back_when_its_value_is_dropped_and_nobody_else_has_it() {
        let (witness, stock) = (Arc::new(()), Stock::new());
        let mut nursery = Nursery::new();
        let values: Vec<_> = (0..3).map(|_| nursery.blank(&stock).fill(Arc::clone(&witness))).collect();
        let addresses: Vec<_> = values.iter().map(Arc::as_ptr).collect();
        let (kept, seen) = (Arc::clone(&values[0]), Arc::downgrade(&values[1]));
        let lot: Vec<_> = values.into_iter().filter_map(Blank::of).collect();
        assert_eq!((lot.len(), Arc::strong_count(&witness)), (1, 2), "one is kept");
        assert!(seen.upgrade().is_none() && Arc::ptr_eq(&*kept, &witness));
        stock.give(lot);
        let again: Vec<_> = (0..=AHEAD).map(|_| nursery.blank(&stock).fill(Arc::clone(&witness))).collect();
        assert!(again.iter().any(|value| Arc::as_ptr(value) == addresses[2]));
        drop((again, kept));
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn only_values_are_dropped() {
        let witness = Arc::new(());
        let mut nursery = Nursery::new();
        let kept: Vec<_> = (0..10).map(|_| nursery.blank(&Stock::new()).fill(Arc::clone(&witness))).collect();
        drop(nursery);
        assert_eq!(Arc::strong_count(&witness), 11);
        drop(kept);
        assert_eq!(Arc::strong_count(&witness), 1);
    }
}
