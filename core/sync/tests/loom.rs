//! The protocols of this crate under the loom model checker, which tries the interleavings, and the values that each
//! load may legally return. The larger models bound the number of preemptions; each bound is high enough for the
//! mutation the model was written against (a fence, a re-check or a claim removed) to be reported.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p taskloom-sync --test loom
//! ```
//!
//! Two habits make these models sharp. What the callers own (work counters, stop flags) is read and written
//! *relaxed*, so that nothing but the crate's fences can order it. And a worker leaves after exactly its share,
//! so that a lost wake-up is a thread that never returns: loom reports a deadlock.

#![cfg(loom)]

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;
use taskloom_sync::{Bell, Ending, Lanes, Latch, SerialLanes, Sleeper, Sleepers};

/// Every interleaving with at most `preemptions` involuntary switches; all of them if `None`.
fn model(preemptions: Option<usize>, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.check(run);
}

/// Work as a bare number.
#[derive(Default)]
struct Work(AtomicUsize);

impl Work {
    fn push(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn take(&self) -> bool {
        self.any() && self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    }
}

/// Sleeps until it gets one piece of work, then leaves as an active worker, which passes nothing on.
fn take_one(mut me: Sleeper, work: &Work) {
    while !work.take() {
        me.sleep(|| work.any(), |park| park());
    }
    me.found(|| work.any());
}

#[test]
fn no_lost_wake_up_of_one_worker() {
    model(None, || {
        let (sleepers, work) = (Sleepers::new(), Arc::new(Work::default()));
        let worker = {
            let (me, work) = (sleepers.enlist(), work.clone());
            thread::spawn(move || take_one(me, &work))
        };
        work.push();
        sleepers.notify_one();
        worker.join().unwrap();
        assert_eq!((sleepers.searching(), sleepers.sleeping()), (0, 0));
    });
}

#[test]
fn two_workers_two_submitters_one_share_each() {
    model(Some(2), || {
        let (sleepers, work) = (Sleepers::new(), Arc::new(Work::default()));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (me, work) = (sleepers.enlist(), work.clone());
                thread::spawn(move || take_one(me, &work))
            })
            .collect();
        let submitter = {
            let (sleepers, work) = (sleepers.clone(), work.clone());
            thread::spawn(move || {
                work.push();
                sleepers.notify_one();
            })
        };
        work.push();
        sleepers.notify_one();
        submitter.join().unwrap();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!((sleepers.searching(), sleepers.sleeping()), (0, 0));
    });
}

#[test]
fn a_burst_of_one_submitter_reaches_both_workers() {
    model(Some(3), || {
        let (sleepers, work) = (Sleepers::new(), Arc::new(Work::default()));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (me, work) = (sleepers.enlist(), work.clone());
                thread::spawn(move || take_one(me, &work))
            })
            .collect();
        for _ in 0..2 {
            work.push();
            sleepers.notify_one();
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// A wake that crosses a withdrawal must not be left over for the next sleep.
#[test]
fn a_wake_ends_one_sleep_only() {
    model(Some(5), || {
        let (sleepers, work) = (Sleepers::new(), Arc::new(Work::default()));
        let worker = {
            let (mut me, work) = (sleepers.enlist(), work.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    while !work.take() {
                        me.sleep(|| work.any(), |park| park());
                    }
                    me.found(|| work.any());
                }
            })
        };
        for _ in 0..2 {
            work.push();
            sleepers.notify_one();
        }
        worker.join().unwrap();
        assert_eq!((sleepers.searching(), sleepers.sleeping()), (0, 0));
    });
}

#[test]
fn an_active_worker_that_searches_again_is_not_missed() {
    model(Some(3), || {
        let (sleepers, work) = (Sleepers::new(), Arc::new(Work::default()));
        let worker = {
            let (mut me, work) = (sleepers.enlist(), work.clone());
            thread::spawn(move || {
                me.found(|| work.any());
                me.search();
                take_one(me, &work);
            })
        };
        work.push();
        sleepers.notify_one();
        worker.join().unwrap();
    });
}

#[test]
fn notify_all_at_shutdown_misses_nobody() {
    model(Some(3), || {
        let (sleepers, stop) = (Sleepers::new(), Arc::new(AtomicBool::new(false)));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (mut me, stop) = (sleepers.enlist(), stop.clone());
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        me.sleep(|| stop.load(Ordering::Relaxed), |park| park());
                    }
                })
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        sleepers.notify_all();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!((sleepers.searching(), sleepers.sleeping()), (0, 0));
    });
}

#[test]
fn a_last_searcher_that_is_dropped_passes_the_search_on() {
    model(Some(3), || {
        let (sleepers, work) = (Sleepers::new(), Arc::new(Work::default()));
        let deserter = sleepers.enlist();
        let worker = {
            let (me, work) = (sleepers.enlist(), work.clone());
            thread::spawn(move || take_one(me, &work))
        };
        let deserter = thread::spawn(move || drop(deserter));
        work.push();
        sleepers.notify_one();
        deserter.join().unwrap();
        worker.join().unwrap();
        assert_eq!((sleepers.searching(), sleepers.sleeping()), (0, 0));
    });
}

/// The popper runs the lane empty and so doubts it, while a second item comes in.
#[test]
fn lanes_a_completed_push_is_visible() {
    model(None, || {
        let lanes = Arc::new(Lanes::new());
        lanes.push(2, 1);
        let popper = {
            let lanes = lanes.clone();
            thread::spawn(move || [lanes.pop(), lanes.pop()])
        };
        lanes.push(2, 2);
        let empty = lanes.is_empty();
        let got = popper.join().unwrap();
        assert_eq!(got[0], Some(1));
        assert!(!empty || got[1] == Some(2), "empty, with an item in the lane");
        if got[1].is_none() {
            assert!(!lanes.is_empty(), "the item was forgotten");
            assert_eq!(lanes.pop(), Some(2));
        }
        assert_eq!(lanes.pop(), None);
        assert!(lanes.is_empty());
    });
}

/// Who pushes and then looks whether somebody rests, and who says so and then looks for work, cannot both miss the other.
#[test]
fn serial_lanes_call_a_taker_that_rests() {
    model(None, || {
        let shared = Arc::new((SerialLanes::new(), AtomicBool::new(false)));
        let pusher = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.0.push_all(1, [7]);
                shared.1.load(Ordering::Relaxed)
            })
        };
        let (lanes, rests) = &*shared;
        rests.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let found = !lanes.is_empty();
        let called = pusher.join().unwrap();
        assert!(found || called, "the item waits for a taker that nobody calls");
        assert_eq!((lanes.pop(), lanes.pop()), (Some(7), None));
    });
}

/// While one takes a lot another pushes: nothing is lost, taken twice, or hidden by the count.
#[test]
fn serial_lanes_forget_nothing() {
    model(None, || {
        let lanes = Arc::new(SerialLanes::new());
        lanes.push_all(0, [1]);
        let pusher = {
            let lanes = lanes.clone();
            thread::spawn(move || lanes.push_all(0, [2, 3]))
        };
        let mut got = Vec::new();
        lanes.pop_many(2, &mut got);
        assert!(!got.is_empty(), "the first was there before");
        pusher.join().unwrap();
        assert_eq!(lanes.len(), 3 - got.len());
        lanes.pop_many(3, &mut got);
        assert_eq!(got, [1, 2, 3]);
        assert!(lanes.is_empty());
    });
}

/// Two doubters at once, of which one may be late.
#[test]
fn lanes_two_poppers_forget_nothing() {
    model(Some(3), || {
        let lanes = Arc::new(Lanes::new());
        lanes.push(0, 1);
        let poppers: Vec<_> = (0..2)
            .map(|_| {
                let lanes = lanes.clone();
                thread::spawn(move || [lanes.pop(), lanes.pop()])
            })
            .collect();
        lanes.push(0, 2);
        let empty = lanes.is_empty();
        let mut got: Vec<_> = poppers.into_iter().flat_map(|p| p.join().unwrap()).flatten().collect();
        assert!(!empty || got.len() == 2, "empty, with an item in the lane");
        while let Some(item) = lanes.pop() {
            got.push(item);
        }
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        assert!(lanes.is_empty());
    });
}

/// A doubter that is held up must not clear the bits on the strength of an old look (ABA).
#[test]
fn lanes_a_late_doubter_does_no_harm() {
    model(Some(4), || {
        let lanes = Arc::new(Lanes::new());
        // Leaves the lane empty with its bit set, since only a fruitless pop clears it.
        lanes.push(0, 0);
        assert_eq!(lanes.pop(), Some(0));
        let popper = {
            let lanes = lanes.clone();
            thread::spawn(move || lanes.pop())
        };
        let pusher = {
            let lanes = lanes.clone();
            thread::spawn(move || {
                lanes.push(0, 1);
                lanes.push(0, 2);
                lanes.is_empty()
            })
        };
        let mut got = usize::from(lanes.pop().is_some());
        let empty = pusher.join().unwrap();
        got += usize::from(popper.join().unwrap().is_some());
        assert!(!empty || got == 2, "empty, with an item in the lane");
        assert!(got == 2 || !lanes.is_empty(), "an item was forgotten");
    });
}

/// Two pushers: the second may rely on what the first did to the bits.
#[test]
fn lanes_two_pushers_forget_nothing() {
    model(Some(3), || {
        let lanes = Arc::new(Lanes::new());
        lanes.push(1, 0);
        let popper = {
            let lanes = lanes.clone();
            thread::spawn(move || [lanes.pop(), lanes.pop()])
        };
        let pusher = {
            let lanes = lanes.clone();
            thread::spawn(move || lanes.push(1, 1))
        };
        lanes.push(1, 2);
        let empty = lanes.is_empty();
        pusher.join().unwrap();
        let mut got: Vec<_> = popper.join().unwrap().into_iter().flatten().collect();
        assert!(!empty || got.contains(&2), "empty, with an item in the lane");
        assert!(got.len() == 3 || !lanes.is_empty(), "an item was forgotten");
        while let Some(item) = lanes.pop() {
            got.push(item);
        }
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
    });
}

/// The two together, as the engine uses them.
#[test]
fn lanes_and_sleepers_meet() {
    model(Some(3), || {
        let (sleepers, lanes) = (Sleepers::new(), Arc::new(Lanes::new()));
        let worker = {
            let (mut me, lanes) = (sleepers.enlist(), lanes.clone());
            thread::spawn(move || {
                let mut sum = 0;
                while sum < 3 {
                    match lanes.pop() {
                        Some(item) => {
                            me.found(|| !lanes.is_empty());
                            sum += item;
                        }
                        None => me.sleep(|| !lanes.is_empty(), |park| park()),
                    }
                }
            })
        };
        for item in [1, 2] {
            lanes.push(3, item);
            sleepers.notify_one();
        }
        worker.join().unwrap();
        assert_eq!((sleepers.searching(), sleepers.sleeping()), (0, 0));
    });
}

#[test]
fn latch_wakes_its_waiters_and_publishes() {
    model(Some(3), || {
        let shared = Arc::new((Latch::new(), AtomicUsize::new(0)));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.0.wait();
                    assert_eq!(shared.1.load(Ordering::Relaxed), 7);
                })
            })
            .collect();
        shared.1.store(7, Ordering::Relaxed);
        shared.0.set();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn word_that_is_left_for_an_end_is_found_once() {
    model(None, || {
        let shared = Arc::new((Ending::new(), Mutex::new(0), AtomicUsize::new(0), AtomicUsize::new(0)));
        let watcher = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (ending, words, _, told) = &*shared;
                let mut words = words.lock().unwrap();
                if ending.watch() {
                    *words += 1;
                } else {
                    told.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let end = |(ending, words, ends, told): &(Ending, Mutex<usize>, AtomicUsize, AtomicUsize)| {
            let Some(watched) = ending.end() else { return };
            ends.fetch_add(1, Ordering::Relaxed);
            if watched {
                told.fetch_add(std::mem::take(&mut *words.lock().unwrap()), Ordering::Relaxed);
            }
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || end(&shared))
        };
        end(&shared);
        watcher.join().unwrap();
        other.join().unwrap();
        let (ending, words, ends, told) = &*shared;
        assert!(ending.has_come() && ending.end().is_none());
        assert_eq!((ends.load(Ordering::Relaxed), told.load(Ordering::Relaxed)), (1, 1));
        assert_eq!(*words.lock().unwrap(), 0, "nothing is left that nobody looks for");
    });
}

#[test]
fn latch_set_by_two() {
    model(Some(3), || {
        let latch = Arc::new(Latch::new());
        let setters: Vec<_> = (0..2)
            .map(|_| {
                let latch = latch.clone();
                thread::spawn(move || latch.set())
            })
            .collect();
        latch.wait();
        assert!(latch.is_set());
        setters.into_iter().for_each(|setter| setter.join().unwrap());
    });
}

#[test]
fn a_bell_wakes_its_crowd_and_publishes() {
    model(Some(3), || {
        let shared = Arc::new((Bell::new(), AtomicUsize::new(0)));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.0.wait();
                    assert_eq!(shared.1.load(Ordering::Relaxed), 7);
                })
            })
            .collect();
        shared.1.store(7, Ordering::Relaxed);
        shared.0.ring();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}
