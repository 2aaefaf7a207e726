//! Processes that share a file share its tasks: none stands idle while another has claimed more than it can begin.

mod common;

use std::sync::{Arc, Barrier};

use common::stores::File;
use common::*;
use taskloom_engine::{Attempt, Engine, Handle, HandlerEntry};

const QUICK: u32 = 0;
/// It ends only when another of these runs at the same time.
const SLOW: u32 = 1;

/// A process with one worker.
fn process(file: &File, meeting: &Arc<Barrier>) -> (Arc<Engine>, Arc<HandlerEntry>) {
    let engine = Arc::new(Engine::new(file.store(), options(1)).unwrap());
    let meeting = Arc::clone(meeting);
    let entry = register(&engine, "meets", move |attempt: &Attempt| {
        if number(attempt) == SLOW {
            meeting.wait();
        }
        echo(attempt)
    });
    engine.start().unwrap();
    (engine, entry)
}

/// All at once.
fn submit_all(engine: &Engine, entry: &HandlerEntry, payloads: &[u32]) -> Vec<Handle> {
    let payloads = payloads.iter().map(|each| each.to_string().into_bytes().into_boxed_slice());
    engine.submit_many(entry, entry.admission(), payloads.map(|each| (each.into(), None)), false).unwrap()
}

#[test]
fn long_tasks_are_shared() {
    in_time("both processes work", || {
        let (file, meeting) = (File::new(), Arc::new(Barrier::new(2)));
        let (here, entry) = process(&file, &meeting);
        let (there, _) = process(&file, &meeting);
        submit_all(&here, &entry, &[SLOW; 10]).iter().for_each(|handle| drop(result(handle)));
        drop(there);
    });
}

#[test]
fn quick_tasks_do_not_stay_behind_a_long_one_of_the_same_process() {
    in_time("the quick ones are run", || {
        let (file, meeting) = (File::new(), Arc::new(Barrier::new(2)));
        let (here, entry) = process(&file, &meeting);
        let (there, _) = process(&file, &meeting);
        // They are quick for a while, so that both claim far ahead.
        submit_all(&here, &entry, &[QUICK; 2_000]).iter().for_each(|handle| drop(result(handle)));
        let long = submit_all(&here, &entry, &[SLOW]);
        submit_all(&here, &entry, &[QUICK; 50]).iter().for_each(|handle| drop(result(handle)));
        // Without its partner the long one would never end.
        let partner = submit_all(&here, &entry, &[SLOW]);
        long.iter().chain(&partner).for_each(|handle| drop(result(handle)));
        drop(there);
    });
}
