//! Tasks whose workers die of them.

mod common;

use common::stores::File;
use common::*;
use taskloom_engine::Handle;
use taskloom_model::{Code, Options, State};

/// Has process after process die in a task, until it has ended or so many have.
fn kill(file: &File, options: &Options, processes: usize) -> (Handle, usize) {
    let clock = HandClock::new();
    let heir = file.timed(&clock, common::options(1));
    let mut known: Option<Handle> = None;
    for died in 0..processes {
        let victim = file.timed(&clock, common::options(1)).started();
        // It never comes back while it lives.
        let slow = gated(&victim.engine, "slow", options.clone());
        let id = match &known {
            Some(handle) => handle.id(),
            None => submit(&victim.engine, &slow.entry, "1").id(),
        };
        slow.begun.wait_for(1);
        heir.step();
        (0..7).for_each(|_| heir.advance(seconds(2)));
        let handle = heir.engine.get(id).unwrap().unwrap();
        slow.gate.open();
        eventually("its late report is refused", || victim.engine.worker_counts().3 == 1);
        let ended = handle.is_done();
        known = Some(handle);
        if ended {
            return (known.unwrap(), died + 1);
        }
    }
    (known.unwrap(), processes)
}

#[test]
fn the_third_crash_fails_a_task_for_good() {
    let (handle, died) = kill(&File::new(), &Options::default(), 5);
    assert_eq!(died, 3);
    let error = outcome(&handle).unwrap_err();
    assert_eq!(error.code(), Code::TaskFailed);
    assert!(error.message().contains("died 3 times"), "{error}");
    handle.task().with_row(|row| assert_eq!((row.attempt, row.failures, row.crashes), (3, 0, 3)));
    assert_eq!(errors(&handle)[0].0, "HandlerLost");
}

#[test]
fn one_crash_is_enough_if_the_task_says_so() {
    let options = Options { max_crashes: Some(1), ..Options::default() };
    let (handle, died) = kill(&File::new(), &options, 5);
    assert_eq!((died, failure(&handle)), (1, Code::TaskFailed));
}

#[test]
fn crashes_spend_no_retries() {
    let file = File::new();
    let (handle, died) = kill(&file, &Options { max_crashes: Some(3), ..Options::default() }, 2);
    assert_eq!(died, 2);
    assert_state(&handle, State::Queued);
    let heir = file.timed(&HandClock::new(), options(1)).started();
    register(&heir.engine, "slow", echo);
    let again = heir.engine.get(handle.id()).unwrap().unwrap();
    assert_eq!(result(&again), "1");
    again.task().with_row(|row| assert_eq!((row.attempt, row.failures, row.crashes), (3, 0, 2)));
}
