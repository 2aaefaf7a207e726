//! Who must be woken when work arrives.
//!
//! Owns the wake protocol between submitters and worker threads: how many workers search, which ones sleep, and the
//! handing on of wakes. It does not know where work is kept; it asks, through closures.
//!
//! # The protocol
//!
//! A worker is *active* (it runs tasks), *searching* (it is about to look for work) or *sleeping*.
//!
//! ```text
//!            found: −searching, cascade                  announce: −searching +sleeping
//!   active ◀──────────────────────────── searching ──────────────────────────────────▶ sleeping
//!      └───────────── search: +searching ────▶▲ ◀── woken, or ready: +searching −sleeping ──┘
//! ```
//!
//! A wake costs a system call and a cold cache, so there is not one a submit:
//!
//! * **A submitter** wakes a worker only if nobody searches and somebody sleeps. Otherwise it pays a fence and a load.
//! * **A woken worker counts as searching from the moment it is chosen**, not from when it runs. A burst of
//!   submits therefore wakes one.
//! * **The last searcher that finds work** wakes one more if there may be more work. So a burst wakes as many
//!   workers as it has work for, each woken by the one before, and no submitter pays for it.
//! * **Last in, first out.** The worker that fell asleep last has the warmest caches; those at the bottom of the stack
//!   may sleep for hours.
//!
//! # State and invariants
//!
//! `word` packs both counts, so one load sees both at one moment. `idle`, a stack under a mutex, holds the parkers
//! of the sleepers. Under that mutex:
//!
//! * `sleeping` equals the height of the stack, and changes together with it;
//! * a parker on the stack has no token; a parker taken from it *by a waker* has been given one.
//!
//! The token is given under the mutex and not after it. So a sleeper that finds itself no longer on the stack knows
//! that its token is there, and no token can arrive late and cut short the *next* sleep. What a waker does
//! after the mutex, signalling the condition variable, may be late: then it is a spurious wake-up, and the parker
//! looks at its token and goes back to sleep.
//!
//! `searching` also changes without the mutex. It is exact all the same; only the decisions taken on it race, and
//! these the fences settle.
//!
//! # No wake-up is lost
//!
//! A submitter makes work visible, passes a fence S and reads `word`. A worker *leaves*, that is, stops counting as
//! searching or as active, by writing `word`; if it was a last searcher or goes to sleep, it then passes a
//! fence W and looks for work. This is Dekker's handshake:
//!
//! > **(\*)** If the write of a leaving worker comes after what the submitter read, in the modification order of
//! > `word`, its look sees the work. For had W come before S in the order of `SeqCst` fences, the submitter's read
//! > would have had to see that write. So S came before W, and what precedes S is visible after W.
//!
//! Take a submitter that wakes nobody. Then it read one of two things:
//!
//! 1. *Somebody searches.* Each searcher in that count leaves after what was read. The last of them to leave, or
//!    whoever was searching beside it and leaves later, leaves as the last searcher or by going to sleep, and by (\*)
//!    looks and sees the work: as a searcher that found work it wakes another; as a sleeper it is `ready` and does
//!    not sleep. It may skip the look if `word` shows no sleeper at the time it leaves, because any worker that goes
//!    to sleep later leaves later, and sees the work by (\*).
//! 2. *Nobody sleeps.* Then every worker is active, and will search or sleep later; in the second case (\*) holds.
//!
//! And a submitter that does wake somebody makes a searcher of it, for which the argument of 1 holds: a woken
//! worker got its token through the mutex, after the push, and so sees the work without any fence.
//!
//! `notify_all` needs the same handshake and no more: the caller sets its flag first, and `ready` reads that flag.
//!
//! The writes of `word` are relaxed: no data travels through it, and the fences do the ordering. Nothing needs a fence
//! after *joining* the searchers; only leaving is a promise.
//!
//! # Failure
//!
//! Whatever happens to a worker, its counts are put right, or the next submitter would trust in a searcher that is not
//! there:
//!
//! * A [`Sleeper`] dropped as the last searcher, by return or by panic, passes the search on: it wakes one, work or
//!   no work.
//! * If `more` panics, the wake is passed on, as if it had said yes.
//! * If `ready` or `around` panics, or `around` never calls the closure that parks, the worker is taken off the
//!   stack again and is searching.
//!
//! No user code runs under the mutex.

use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::primitive::{Apart, AtomicUsize, Condvar, Mutex, Ordering, fence};

/// One searching worker, in the lower half of the word.
const SEARCHER: usize = 1;

/// One sleeping worker, in the upper half. The halves cannot overflow: an address space does not hold that many
/// threads.
const SLEEPER: usize = 1 << HALF;

const HALF: u32 = usize::BITS / 2;

fn searching(word: usize) -> usize {
    word & (SLEEPER - 1)
}

fn sleeping(word: usize) -> usize {
    word >> HALF
}

/// The workers of one pool, as submitters see them. Cloning gives another handle to the same pool.
///
/// # Examples
///
/// See the example of the crate.
#[derive(Clone)]
pub struct Sleepers {
    shared: Arc<Shared>,
}

struct Shared {
    /// Both counts; see the module. Every submit reads it.
    word: Apart<AtomicUsize>,
    /// The sleepers, the latest at the end.
    idle: Mutex<Vec<Arc<Parker>>>,
}

impl Shared {
    #[inline]
    fn notify_one(&self) {
        fence(Ordering::SeqCst); // fence S
        if self.wants_wake() {
            self.wake_one();
        }
    }

    #[inline]
    fn wants_wake(&self) -> bool {
        let word = self.word.0.load(Ordering::Relaxed);
        searching(word) == 0 && sleeping(word) > 0
    }

    #[cold]
    fn wake_one(&self) {
        let mut idle = self.idle.lock();
        // Once more: of several submitters that came here together, one is to wake somebody. What is read now is no
        // older than what `notify_one` read, so the module's argument holds for this load too.
        if !self.wants_wake() {
            return;
        }
        let Some(parker) = idle.pop() else { return };
        self.count_as_woken(1);
        parker.give_token();
        drop(idle);
        parker.signal();
    }

    fn wake_all(&self) {
        let mut idle = self.idle.lock();
        let parkers = mem::take(&mut *idle);
        self.count_as_woken(parkers.len());
        parkers.iter().for_each(|parker| parker.give_token());
        drop(idle);
        parkers.iter().for_each(|parker| parker.signal());
    }

    /// From sleeping to searching. Only under the mutex.
    fn count_as_woken(&self, workers: usize) {
        self.word.0.fetch_sub(workers * (SLEEPER - SEARCHER), Ordering::Relaxed);
    }

    /// Takes one searcher out of the count and returns the word as it was.
    fn leave(&self) -> usize {
        self.word.0.fetch_sub(SEARCHER, Ordering::Relaxed)
    }
}

impl Sleepers {
    /// Creates a pool without workers.
    pub fn new() -> Sleepers {
        let shared = Shared { word: Apart(AtomicUsize::new(0)), idle: Mutex::new(Vec::new()) };
        Sleepers { shared: Arc::new(shared) }
    }

    /// Adds a worker, which starts as searching: it must look for work before it sleeps, or drop the handle.
    pub fn enlist(&self) -> Sleeper {
        self.shared.word.0.fetch_add(SEARCHER, Ordering::Relaxed);
        Sleeper { shared: Arc::clone(&self.shared), parker: Arc::new(Parker::new()), searching: true }
    }

    /// Sees to it that work which the caller has just made visible will be found. Call it after the push.
    ///
    /// Wakes a worker only if nobody searches and somebody sleeps. Otherwise it is a fence and a load.
    #[inline]
    pub fn notify_one(&self) {
        self.shared.notify_one();
    }

    /// Wakes every sleeping worker, and makes every worker that is about to sleep reconsider.
    ///
    /// For a change that concerns them all, such as shutdown: store the flag first, and let the `ready` of
    /// [`Sleeper::sleep`] read it.
    pub fn notify_all(&self) {
        fence(Ordering::SeqCst); // fence S
        if self.sleeping() > 0 {
            self.shared.wake_all();
        }
    }

    /// How many workers sleep at the moment.
    pub fn sleeping(&self) -> usize {
        sleeping(self.shared.word.0.load(Ordering::Relaxed))
    }

    /// How many workers search at the moment, those included that were woken but do not run yet.
    pub fn searching(&self) -> usize {
        searching(self.shared.word.0.load(Ordering::Relaxed))
    }
}

impl Default for Sleepers {
    fn default() -> Sleepers {
        Sleepers::new()
    }
}

impl fmt::Debug for Sleepers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.shared.word.0.load(Ordering::Relaxed);
        f.debug_struct("Sleepers")
            .field("searching", &searching(word))
            .field("sleeping", &sleeping(word))
            .finish_non_exhaustive()
    }
}

/// A worker's membership in [`Sleepers`]. Dropping it takes the worker out of the counts; if it was the last to
/// search, another is woken in its place.
pub struct Sleeper {
    shared: Arc<Shared>,
    parker: Arc<Parker>,
    searching: bool,
}

impl Sleeper {
    /// The worker has found work and is going to run it.
    ///
    /// If it was the last searcher and others sleep, `more` is asked whether there may be more work, and if so one
    /// of them is woken. Does nothing if the worker was active already, so it may be called for every task.
    #[inline]
    pub fn found(&mut self, more: impl FnOnce() -> bool) {
        if mem::replace(&mut self.searching, false) {
            let before = self.shared.leave();
            if searching(before) == 1 && sleeping(before) > 0 {
                self.cascade(more);
            }
        }
    }

    #[cold]
    fn cascade(&self, more: impl FnOnce() -> bool) {
        /// Passes the wake on when dropped, also by a panic.
        struct Relay<'a>(&'a Shared);
        impl Drop for Relay<'_> {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }

        fence(Ordering::SeqCst); // fence W
        let relay = Relay(&self.shared);
        if !more() {
            mem::forget(relay);
        }
    }

    /// The worker has nothing to run and goes looking. While it does, submitters wake nobody.
    ///
    /// An active worker that merely takes its next task need not call this: it is for a search that takes a while
    /// and is likely to succeed. It must end in [`found`](Sleeper::found), [`sleep`](Sleeper::sleep) or a drop.
    #[inline]
    pub fn search(&mut self) {
        if !mem::replace(&mut self.searching, true) {
            self.shared.word.0.fetch_add(SEARCHER, Ordering::Relaxed);
        }
    }

    /// Whether the worker counts as searching.
    #[inline]
    pub fn is_searching(&self) -> bool {
        self.searching
    }

    /// Sleeps until woken, unless `ready` says that there is something to do. Afterwards the worker is searching.
    ///
    /// `ready` is called once, after the worker has announced itself as a sleeper. It must look at everything that
    /// the worker may be woken for: the queues, and the flag for shutdown.
    ///
    /// `around` is called only if the worker is really going to park, with the closure that parks. That is where a
    /// caller detaches from a foreign runtime: the GIL is let go of for a real sleep and not for a near miss.
    pub fn sleep(&mut self, ready: impl FnOnce() -> bool, around: impl FnOnce(&mut (dyn FnMut() + Send))) {
        /// Turns the sleeper into a searcher however the sleep ends.
        struct Bed<'a> {
            sleeper: &'a mut Sleeper,
            woken: bool,
        }
        impl Drop for Bed<'_> {
            fn drop(&mut self) {
                self.sleeper.searching = true;
                if !self.woken {
                    self.sleeper.withdraw();
                }
            }
        }

        self.announce();
        let mut bed = Bed { sleeper: self, woken: false };
        fence(Ordering::SeqCst); // fence W
        if !ready() {
            around(&mut || {
                bed.sleeper.parker.park();
                bed.woken = true;
            });
        }
    }

    /// Goes on the stack.
    fn announce(&mut self) {
        let leave = if mem::replace(&mut self.searching, false) { SEARCHER } else { 0 };
        let mut idle = self.shared.idle.lock();
        self.parker.take_token();
        idle.push(Arc::clone(&self.parker));
        self.shared.word.0.fetch_add(SLEEPER - leave, Ordering::Relaxed);
    }

    /// Goes off the stack, unless a waker was faster: then it has counted us as searching, and the wake-up is used up
    /// by the search that follows.
    fn withdraw(&self) {
        let mut idle = self.shared.idle.lock();
        // From the end, as we came last or nearly so.
        if let Some(at) = idle.iter().rposition(|parker| Arc::ptr_eq(parker, &self.parker)) {
            idle.remove(at);
            self.shared.count_as_woken(1);
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if self.searching && searching(self.shared.leave()) == 1 {
            // Its fence S is our fence W too: whoever relied on us is now in the hands of the one we wake, or nobody
            // sleeps and there is nobody to wake.
            self.shared.notify_one();
        }
    }
}

impl fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleeper").field("searching", &self.searching).finish_non_exhaustive()
    }
}

/// Where one worker sleeps: a token and a bell.
struct Parker {
    token: Mutex<bool>,
    bell: Condvar,
}

impl Parker {
    fn new() -> Parker {
        Parker { token: Mutex::new(false), bell: Condvar::new() }
    }

    /// Blocks until the token is there, and leaves it.
    fn park(&self) {
        let mut token = self.token.lock();
        while !*token {
            token = self.bell.wait(token);
        }
    }

    fn take_token(&self) {
        *self.token.lock() = false;
    }

    /// To be followed by [`Parker::signal`], which needs no lock.
    fn give_token(&self) {
        *self.token.lock() = true;
    }

    fn signal(&self) {
        self.bell.notify_one();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
