use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;
use crate::Lanes;

fn counts(sleepers: &Sleepers) -> (usize, usize) {
    (sleepers.searching(), sleepers.sleeping())
}

#[test]
fn counts_follow_the_states() {
    let sleepers = Sleepers::new();
    let (mut a, mut b) = (sleepers.enlist(), sleepers.enlist());
    assert_eq!(counts(&sleepers), (2, 0));
    a.found(|| unreachable!("not the last searcher"));
    b.found(|| unreachable!("nobody sleeps"));
    a.found(|| unreachable!("already active"));
    assert_eq!(counts(&sleepers), (0, 0));
    a.search();
    a.search();
    assert_eq!(counts(&sleepers), (1, 0));
    drop(b);
    drop(a);
    assert_eq!(counts(&sleepers), (0, 0));
}

#[test]
fn ready_work_means_no_park() {
    let sleepers = Sleepers::new();
    let mut me = sleepers.enlist();
    me.sleep(
        || {
            assert_eq!(counts(&sleepers), (0, 1));
            true
        },
        |_| unreachable!("it was ready"),
    );
    assert_eq!(counts(&sleepers), (1, 0));
    // From active, too.
    me.found(|| false);
    me.sleep(|| true, |_| unreachable!("it was ready"));
    assert_eq!(counts(&sleepers), (1, 0));
}

#[test]
fn a_wake_before_the_park_is_kept() {
    let sleepers = Sleepers::new();
    let mut me = sleepers.enlist();
    for _ in 0..3 {
        me.sleep(
            || {
                sleepers.notify_one();
                assert_eq!(counts(&sleepers), (1, 0));
                false
            },
            |park| {
                park();
                park();
            },
        );
        // It did not leak into this sleep, which nobody ends: it only withdraws.
        me.sleep(|| false, |_| assert_eq!(counts(&sleepers), (0, 1)));
        assert_eq!(counts(&sleepers), (1, 0));
    }
}

#[test]
fn a_searcher_stands_for_the_sleepers() {
    let sleepers = Sleepers::new();
    let searcher = sleepers.enlist();
    let mut me = sleepers.enlist();
    me.sleep(
        || {
            sleepers.notify_one();
            assert_eq!(counts(&sleepers), (1, 1), "nobody was woken");
            drop(searcher);
            assert_eq!(counts(&sleepers), (1, 0), "the search was passed on");
            false
        },
        |park| park(),
    );
}

#[test]
fn the_last_searcher_wakes_the_next() {
    let sleepers = Sleepers::new();
    let mut other = sleepers.enlist();
    let mut me = sleepers.enlist();
    me.sleep(
        || {
            other.found(|| false);
            assert_eq!(counts(&sleepers), (0, 1));
            other.search();
            other.found(|| true);
            assert_eq!(counts(&sleepers), (1, 0));
            false
        },
        |park| park(),
    );
}

#[test]
fn the_last_to_sleep_is_the_first_to_wake() {
    let sleepers = Sleepers::new();
    let (mut a, mut b) = (sleepers.enlist(), sleepers.enlist());
    a.sleep(
        || {
            b.sleep(
                || {
                    sleepers.notify_one();
                    false
                },
                |park| park(),
            );
            assert_eq!(counts(&sleepers), (1, 1));
            sleepers.notify_all();
            assert_eq!(counts(&sleepers), (2, 0));
            false
        },
        |park| park(),
    );
}

#[test]
fn panics_leave_the_counts_right() {
    let sleepers = Sleepers::new();
    let mut me = sleepers.enlist();
    let quiet = |f: &mut dyn FnMut()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    quiet(&mut || me.sleep(|| panic!("ready"), |_| ()));
    assert_eq!(counts(&sleepers), (1, 0));
    quiet(&mut || me.sleep(|| false, |_| panic!("around")));
    assert_eq!(counts(&sleepers), (1, 0));
    let mut other = sleepers.enlist();
    me.sleep(
        || {
            quiet(&mut || other.found(|| panic!("more")));
            assert_eq!(counts(&sleepers), (1, 0), "the wake was passed on");
            false
        },
        |park| park(),
    );
}

/// 4 producers, 4 workers, every item exactly once, and all of them come home.
#[test]
fn stress_each_item_exactly_once() {
    const PRODUCERS: usize = 4;
    const EACH: usize = 50_000;
    let (lanes, sleepers, stop) = (Lanes::new(), Sleepers::new(), AtomicBool::new(false));
    let left = AtomicUsize::new(PRODUCERS * EACH);
    let seen: Vec<AtomicUsize> = (0..PRODUCERS * EACH).map(|_| AtomicUsize::new(0)).collect();
    let work = |worker: usize| {
        let mut me = sleepers.enlist();
        while !stop.load(Ordering::Relaxed) {
            if let Some(item) = lanes.pop() {
                me.found(|| !lanes.is_empty());
                let item: usize = item;
                seen[item].fetch_add(1, Ordering::Relaxed);
                if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    stop.store(true, Ordering::Relaxed);
                    sleepers.notify_all();
                }
            } else if worker < 2 && !me.is_searching() {
                me.search();
            } else {
                me.sleep(|| !lanes.is_empty() || stop.load(Ordering::Relaxed), |park| park());
            }
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let work = &work;
            scope.spawn(move || work(worker));
        }
        for producer in 0..PRODUCERS {
            let (lanes, sleepers) = (&lanes, &sleepers);
            scope.spawn(move || {
                for i in 0..EACH {
                    lanes.push((i % 4) as u8, producer * EACH + i);
                    sleepers.notify_one();
                    // Let the workers run dry now and then, so that they really go to sleep.
                    if i % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    assert_eq!(lanes.pop(), None);
    assert_eq!(counts(&sleepers), (0, 0));
}

/// One item at a time and the producer waits for it: every single push meets sleepers, and a lost wake hangs.
#[test]
fn stress_ping_pong() {
    let (lanes, sleepers, stop) = (Lanes::new(), Sleepers::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut me = sleepers.enlist();
                while !stop.load(Ordering::Relaxed) {
                    match lanes.pop() {
                        Some(latch) => {
                            let latch: Arc<crate::Latch> = latch;
                            me.found(|| !lanes.is_empty());
                            latch.set();
                        }
                        None => {
                            me.sleep(|| !lanes.is_empty() || stop.load(Ordering::Relaxed), |park| park());
                        }
                    }
                }
            });
        }
        for i in 0..20_000 {
            let latch = Arc::new(crate::Latch::new());
            lanes.push((i % 4) as u8, Arc::clone(&latch));
            sleepers.notify_one();
            latch.wait();
        }
        stop.store(true, Ordering::Relaxed);
        sleepers.notify_all();
    });
}
