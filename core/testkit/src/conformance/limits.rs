//! Limits: slots and tokens are taken in the claim, what waits does not stand in the way, keys take turns.

use std::sync::Arc;
use std::time::Duration;

use taskloom_model::{
    Code, Limit, LimitFor, LimitRow, Name, Operation, Options, Priority, Rate, SetBy, State, TaskId,
    Timestamp, WINDOW, WaitingFor,
};
use taskloom_store::{Batch, Change, Task};

use super::Harness;
use crate::scene::{JOB, Scene, commit, ids, seconds};

fn keyed(key: &str, limit: Limit) -> Options {
    let Limit { concurrency, rate } = limit;
    Options { key: Some(key.into()), concurrency, rate, ..Options::default() }
}

fn at_once(concurrency: u32) -> Limit {
    Limit { concurrency: Some(concurrency), rate: None }
}

fn per_second(rate: &str, burst: u32) -> Limit {
    Limit { concurrency: None, rate: Some(rate.parse::<Rate>().unwrap().with_burst(burst)) }
}

fn set(scene: &Scene, what: LimitFor, limit: Limit) -> Vec<Change> {
    let mut changes = Vec::new();
    let row = LimitRow { what, by: SetBy::Operator, limit };
    scene.store.set_limit(row, &mut changes, scene.now()).unwrap();
    changes
}

fn job() -> LimitFor {
    LimitFor::Handler(Name::new(JOB))
}

fn waits(scene: &Scene, task: &Task) -> bool {
    let row = scene.row(task);
    (row.state, row.waiting_for) == (State::Pending, WaitingFor::Key)
}

/// What ran ends, and what follows.
fn end(scene: &Scene, task: &Arc<Task>) -> Vec<Change> {
    let mut consequences = Vec::new();
    let attempt = scene.row(task).attempt;
    scene.store.commit(commit(task, scene.succeed(attempt)), &mut consequences, scene.now()).unwrap();
    consequences
}

fn millis(scene: &Scene, count: u64) -> Timestamp {
    scene.clock.advance(Duration::from_millis(count))
}

/// As many as it says, and the others wait without being in the way.
pub fn a_key_lets_so_many_run_at_once(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let tasks: Vec<_> = (0..4).map(|_| scene.add(keyed("a", at_once(2)))).collect();
    let other = scene.add(Options::default());
    assert_eq!(ids(&scene.claim(9)), ids(&[tasks[0].clone(), tasks[1].clone(), other]));
    assert!(waits(&scene, &tasks[2]) && waits(&scene, &tasks[3]));
    assert!(scene.claim(9).is_empty());
    let let_in = end(&scene, &tasks[0]);
    assert_eq!(let_in.iter().map(|change| change.task.id()).collect::<Vec<_>>(), [tasks[2].id()]);
    assert!(let_in[0].effects.ready());
    assert_eq!(ids(&scene.claim(9)), [tasks[2].id()]);
    assert!(waits(&scene, &tasks[3]));
}

/// However it leaves `running`, its slot is free.
pub fn a_slot_comes_back_however_the_attempt_ends(harness: &dyn Harness) {
    let endings: [fn(&Scene) -> Operation; 9] = [
        |scene| scene.succeed(1),
        |scene| scene.fail(1),
        |scene| Operation::TimeOut { fence: scene.fence(1), chance: 0.0 },
        |_| Operation::Cancel { reason: None },
        |scene| Operation::Suspend { fence: scene.fence(1), waiting_for: WaitingFor::Signal, until: None },
        |scene| Operation::Lose { owner: scene.me },
        |scene| Operation::Crash { fence: scene.fence(1), cause: "fell over".into() },
        |scene| Operation::Fail {
            fence: scene.fence(1),
            failure: scene.failure(1),
            permanent: true,
            retry_after: None,
            chance: 0.0,
        },
        |scene| Operation::Postpone {
            fence: scene.fence(1),
            key: "another".into(),
            until: scene.now() + Duration::from_secs(5),
        },
    ];
    for ending in endings {
        let scene = Scene::new(harness);
        let options = Options { retries: Some(3), priority: Some(Priority::Low), ..keyed("a", at_once(1)) };
        let first = scene.add(options.clone());
        let second = scene.add(Options { priority: Some(Priority::High), ..options });
        assert_eq!(ids(&scene.claim(1)), [second.id()], "the more urgent one");
        let operation = ending(&scene);
        let name = operation.name();
        scene.commit(&second, operation).unwrap();
        let next = scene.claim(1);
        assert_eq!(next.len(), 1, "after {name}");
        if next[0].id() != first.id() {
            // What was given back is as urgent as it was.
            assert!(["lose", "crash"].contains(&name), "{name}");
            assert_eq!(next[0].id(), second.id());
        }
    }
}

/// So many in a period, and as many at once as the burst says.
pub fn a_rate_lets_through_what_it_says(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let all: Vec<_> = (0..20).map(|_| scene.add(keyed("a", per_second("4/s", 2)))).collect();
    let mut started = Vec::new();
    for step in 0..=12 {
        if step > 0 {
            millis(&scene, 125);
            scene.elapse(100);
        }
        let claimed = scene.claim(9);
        claimed.iter().for_each(|task| drop(end(&scene, task)));
        started.extend(ids(&claimed));
        // Two at once, and then four a second.
        assert_eq!(started.len(), 2 + step / 2, "after {step} eighths of a second");
    }
    assert_eq!(started, ids(&all)[..started.len()]);
}

/// Time opens a closed gate, and is told in advance.
pub fn the_time_at_which_a_key_opens_is_told(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let first = scene.add(keyed("a", per_second("1/s", 1)));
    let second = scene.add(keyed("a", per_second("1/s", 1)));
    let begin = scene.now();
    assert_eq!(ids(&scene.claim(9)), [first.id()]);
    assert!(waits(&scene, &second));
    assert_eq!(scene.elapse(9).1, Some(begin + Duration::from_secs(1)));
    millis(&scene, 999);
    assert!(scene.elapse(9).0.is_empty() && scene.claim(9).is_empty());
    millis(&scene, 1);
    let (changes, _) = scene.elapse(9);
    assert_eq!(changes.iter().map(|change| change.task.id()).collect::<Vec<_>>(), [second.id()]);
    assert_eq!(ids(&scene.claim(9)), [second.id()]);
}

/// Ten thousand tasks of one tenant stand before another's only task as a window of them does.
pub fn keys_take_turns(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let many: Vec<_> = (0..300).map(|_| scene.task(keyed("many", Limit::default()))).collect();
    scene.insert(&many.iter().collect::<Vec<_>>()).unwrap();
    scene.pass(1);
    let one = scene.add(keyed("one", Limit::default()));
    let mut before = 0;
    loop {
        scene.pass(1);
        let claimed = scene.claim(1);
        if claimed[0].id() == one.id() {
            break;
        }
        before += 1;
    }
    assert_eq!(before, WINDOW);
    // And the many go on in the order of their arrival.
    let mut order: Vec<TaskId> = Vec::new();
    while let Some(task) = scene.claim(1).pop() {
        order.push(task.id());
        scene.pass(1);
    }
    assert_eq!(order, ids(&many)[WINDOW as usize..]);
}

/// What goes first within a key is what goes first otherwise.
pub fn priorities_hold_within_a_key(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let running = scene.add(keyed("a", at_once(1)));
    assert_eq!(scene.claim(1).len(), 1);
    let low = Options { priority: Some(Priority::Low), ..keyed("a", at_once(1)) };
    let high = Options { priority: Some(Priority::High), ..low.clone() };
    let (low, high) = (scene.add(low), scene.add(high));
    end(&scene, &running);
    assert_eq!(ids(&scene.claim(9)), [high.id()]);
    assert!(waits(&scene, &low));
}

/// All tasks of a handler, or of a queue, together.
pub fn handlers_and_queues_have_limits_too(harness: &dyn Harness) {
    for what in [job(), LimitFor::Queue(Name::new("default"))] {
        let scene = Scene::new(harness);
        set(&scene, what.clone(), at_once(2));
        let tasks: Vec<_> = (0..4).map(|_| scene.add(Options::default())).collect();
        let claimed = scene.claim(9);
        assert_eq!(ids(&claimed), ids(&tasks[..2]), "{what}");
        assert!(scene.claim(9).is_empty());
        end(&scene, &tasks[1]);
        assert_eq!(ids(&scene.claim(9)), ids(&tasks[2..3]));
        set(&scene, what, Limit::default());
        assert_eq!(ids(&scene.claim(9)), ids(&tasks[3..]));
    }
}

/// Others in the same queue are not held up by a handler's limit.
pub fn a_closed_handler_holds_nobody_else_up(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    set(&scene, job(), per_second("1/s", 1));
    let jobs: Vec<_> = (0..3).map(|_| scene.add(Options::default())).collect();
    let chore = scene.task_for("chore", b"{}", Options::default());
    scene.insert(&[&chore]).unwrap();
    let both = scene.claim_from(&["default"], &[JOB, "chore"], 9);
    assert_eq!(ids(&both), [jobs[0].id(), chore.id()]);
    millis(&scene, 1_000);
    scene.elapse(9);
    assert_eq!(ids(&scene.claim(9)), [jobs[1].id()]);
}

/// What runs when a limit is set takes its slots.
pub fn a_limit_counts_what_runs_already(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let running: Vec<_> = (0..3).map(|_| scene.run(Options::default())).collect();
    let next = scene.add(Options::default());
    set(&scene, job(), at_once(2));
    assert!(scene.claim(9).is_empty());
    end(&scene, &running[0]);
    assert!(scene.claim(9).is_empty(), "there are two still");
    end(&scene, &running[1]);
    assert_eq!(ids(&scene.claim(9)), [next.id()]);
}

/// What ended while a line had no limit holds no slot of the next one.
pub fn a_limit_that_is_set_again_counts_anew(harness: &dyn Harness) {
    for what in [job(), LimitFor::Queue(Name::new("default"))] {
        let scene = Scene::new(harness);
        set(&scene, what.clone(), at_once(1));
        let running = scene.add(Options::default());
        assert_eq!(scene.claim(9).len(), 1);
        set(&scene, what.clone(), Limit::default());
        end(&scene, &running);
        set(&scene, what.clone(), at_once(1));
        let next = scene.add(Options::default());
        assert_eq!(ids(&scene.claim(9)), [next.id()], "{what}");
    }
}

/// What had no room, and was claimed when there was some, is not held up any more: when it comes back it is told of once,
/// as what it is.
pub fn what_was_held_up_and_claimed_is_not_let_in_again(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    set(&scene, job(), at_once(1));
    let first = scene.add(Options::default());
    assert_eq!(scene.claim(9).len(), 1);
    // Made before the other one, and eligible after it.
    let late = scene.add(Options { eta: seconds(1), ..Options::default() });
    let held = scene.add(Options { retries: Some(1), ..Options::default() });
    assert!(scene.claim(9).is_empty());
    scene.pass(1);
    scene.elapse(9);
    assert!(scene.claim(9).is_empty());
    end(&scene, &first);
    assert_eq!(ids(&scene.claim(9)), [held.id()]);
    scene.commit(&late, Operation::Cancel { reason: None }).unwrap();
    scene.add(Options { priority: Some(Priority::High), ..Options::default() });
    assert!(scene.claim(9).is_empty());
    let attempt = scene.row(&held).attempt;
    scene.commit(&held, scene.fail(attempt)).unwrap();
    scene.pass(3600);
    let moves: Vec<_> = scene.elapse(9).0.iter().map(|change| change.effects.from).collect();
    assert_eq!(moves, [Some(State::Retrying)]);
}

/// A limit can be lowered below what runs, raised, and taken away.
pub fn limits_change_while_tasks_run(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let tasks: Vec<_> = (0..8).map(|_| scene.add(keyed("a", at_once(3)))).collect();
    assert_eq!(scene.claim(9).len(), 3);
    let key = LimitFor::Key("a".into());
    set(&scene, key.clone(), at_once(1));
    end(&scene, &tasks[0]);
    end(&scene, &tasks[1]);
    assert!(scene.claim(9).is_empty(), "one runs");
    let let_in = set(&scene, key.clone(), at_once(2));
    assert_eq!(let_in.len(), 1);
    assert_eq!(ids(&scene.claim(9)), [tasks[3].id()]);
    // Its own again.
    set(&scene, key, Limit::default());
    assert_eq!(ids(&scene.claim(9)), [tasks[4].id()]);
}

/// The most particular one holds, and an operator's goes before the handler's.
pub fn the_limit_that_holds(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let declared = LimitRow { what: job(), by: SetBy::Handler, limit: at_once(5) };
    let mut changes = Vec::new();
    assert!(scene.store.set_limit(declared.clone(), &mut changes, scene.now()).unwrap());
    assert!(!scene.store.set_limit(declared.clone(), &mut changes, scene.now()).unwrap(), "nothing new");
    set(&scene, job(), at_once(1));
    for _ in 0..3 {
        scene.add(Options::default());
    }
    assert_eq!(scene.claim(9).len(), 1);
    set(&scene, job(), Limit::default());
    assert_eq!(scene.claim(9).len(), 2);
    assert_eq!(scene.store.limits().unwrap(), [declared]);

    let narrow = LimitFor::HandlerKey(Name::new(JOB), "a".into());
    set(&scene, LimitFor::Key("a".into()), at_once(1));
    set(&scene, narrow, at_once(2));
    for _ in 0..3 {
        scene.add(keyed("a", at_once(3)));
    }
    assert_eq!(scene.claim(9).len(), 2);
    let none = Limit { concurrency: Some(0), rate: None };
    let refused = LimitRow { what: job(), by: SetBy::Operator, limit: none };
    let error = scene.store.set_limit(refused, &mut changes, scene.now()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidOption);
}

/// A task that met a limit from outside puts off all that have the key, at no cost.
pub fn a_postponed_key_waits(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let first = scene.run(Options { retries: Some(0), ..Options::default() });
    let others: Vec<_> = (0..2).map(|_| scene.add(keyed("api", Limit::default()))).collect();
    let until = scene.now() + Duration::from_secs(30);
    let put_off = Operation::Postpone { fence: scene.fence(1), key: "api".into(), until };
    scene.commit(&first, put_off).unwrap();
    let row = scene.row(&first);
    assert_eq!((row.state, row.waiting_for), (State::Pending, WaitingFor::Key));
    assert_eq!((row.failures, row.attempt, row.eligible), (0, 1, until));
    assert!(scene.claim(9).is_empty());
    assert!(others.iter().all(|task| waits(&scene, task)));
    let late = scene.add(keyed("api", Limit::default()));
    assert!(waits(&scene, &late));
    scene.pass(29);
    assert!(scene.elapse(9).0.is_empty() && scene.claim(9).is_empty());
    scene.pass(1);
    scene.elapse(9);
    let mut all = ids(&scene.claim(9));
    all.sort_unstable();
    assert_eq!(all, [first.id(), others[0].id(), others[1].id(), late.id()]);
}

/// A task that waits for its key ends as others do, and leaves its place.
pub fn what_waits_for_a_key_can_end(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let running = scene.add(keyed("a", at_once(1)));
    let expires = Options { expires: seconds(5), ..keyed("a", at_once(1)) };
    let (cancelled, expired, last) =
        (scene.add(keyed("a", at_once(1))), scene.add(expires), scene.add(keyed("a", at_once(1))));
    assert_eq!(scene.claim(9).len(), 1);
    scene.commit(&cancelled, Operation::Cancel { reason: None }).unwrap();
    scene.pass(5);
    scene.elapse(9);
    assert_eq!(scene.state(&expired), State::Expired);
    let let_in = end(&scene, &running);
    assert_eq!(let_in.iter().map(|change| change.task.id()).collect::<Vec<_>>(), [last.id()]);
}

/// To run a task by hand does not go round its key's limit.
pub fn what_has_no_room_cannot_be_hastened(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let running = scene.add(keyed("a", at_once(1)));
    let next = scene.add(keyed("a", at_once(1)));
    assert_eq!(scene.claim(9).len(), 1);
    let error = scene.commit(&next, Operation::Hasten).unwrap_err();
    assert_eq!(error.code(), Code::IllegalTransition);
    assert!(error.message().contains("waits for its key \"a\""), "{error}");
    end(&scene, &running);
    scene.commit(&next, Operation::Hasten).unwrap();
    assert_eq!(ids(&scene.claim(9)), [next.id()]);
}

/// A task that becomes eligible by time waits for its key like any other.
pub fn what_time_brings_waits_for_its_key_too(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let later: Vec<_> =
        (0..3).map(|_| scene.add(Options { eta: seconds(1), ..keyed("a", at_once(1)) })).collect();
    scene.pass(1);
    scene.elapse(9);
    assert_eq!(ids(&scene.claim(9)), [later[0].id()]);
    assert!(waits(&scene, &later[1]) && waits(&scene, &later[2]));
}

/// A claim takes from several keys what each lets through, in one go.
pub fn one_claim_takes_from_many_keys(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    for number in 0..30 {
        scene.add(keyed(&format!("key {}", number % 3), at_once(1 + number % 3)));
    }
    let claimed = scene.claim(100);
    assert_eq!(claimed.len(), 1 + 2 + 3);
    let batch = Batch {
        commits: claimed.iter().map(|task| commit(task, scene.succeed(1))).collect(),
        claim: Some(scene.wish(&["default"], &[JOB], 100)),
        ..Batch::default()
    };
    assert_eq!(scene.write(batch).claimed.len(), 6, "those that take their places");
}

/// What a claim lets in is claimed with it, also where nothing else was queued.
pub fn a_claim_takes_what_it_lets_in(harness: &dyn Harness) {
    let scene = Scene::new(harness);
    let first = scene.add(keyed("a", per_second("1/s", 1)));
    assert_eq!(ids(&scene.claim(9)), ids(&[Arc::clone(&first)]));
    end(&scene, &first);
    let waiting = scene.add(keyed("a", per_second("1/s", 1)));
    assert!(waits(&scene, &waiting));
    let elsewhere = scene.add(Options { queue: Some("elsewhere".into()), ..keyed("a", at_once(1)) });
    // The key has a token again, and nobody has said so yet.
    scene.pass(2);
    assert_eq!(ids(&scene.claim_from(&[], &[JOB], 9)), ids(&[elsewhere, waiting]));
}
