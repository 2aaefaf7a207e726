//! What becomes of processes, case by case.

use super::*;

const GRACE: Duration = Duration::from_secs(30);

/// A supervisor with a clock, and processes that do what a test says.
struct Scene {
    supervisor: Supervisor,
    now: Duration,
}

impl Scene {
    fn new(processes: usize) -> Self {
        Self::with(Plan {
            processes,
            max_tasks: None,
            max_memory: None,
            grace: GRACE,
            backoff: Backoff::default(),
        })
    }

    fn with(plan: Plan) -> Self {
        Self { supervisor: Supervisor::new(plan, 7), now: Duration::from_secs(1000) }
    }

    /// What is to be done, in short: what is said is a word.
    fn step(&mut self, event: Event) -> Vec<String> {
        self.supervisor.step(self.now, event).iter().map(short).collect()
    }

    fn pass(&mut self, seconds: f64) -> Vec<String> {
        self.now += Duration::from_secs_f64(seconds);
        self.step(Event::Tick)
    }

    fn ready(&mut self, child: u64) -> Vec<String> {
        self.ready_with(child, &["a", "b"])
    }

    fn ready_with(&mut self, child: u64, handlers: &[&str]) -> Vec<String> {
        let handlers = handlers.iter().map(|&name| name.to_owned()).collect();
        self.step(Event::Ready { child: ChildId(child), handlers, store: "sqlite:tasks.db".into() })
    }

    fn ended(&mut self, child: u64, how: Ending) -> Vec<String> {
        self.step(Event::Ended { child: ChildId(child), how })
    }

    /// What people are told when a process has ended.
    fn told_of_end(&mut self, child: u64, how: Ending) -> Vec<String> {
        let actions = self.supervisor.step(self.now, Event::Ended { child: ChildId(child), how });
        let told = |action| if let Action::Say(notice) = action { Some(notice.text(|_| None)) } else { None };
        actions.into_iter().filter_map(told).collect()
    }

    /// All places have a process that is ready, the ids are 1 to the number of places.
    fn under_way(processes: usize) -> Self {
        let mut scene = Self::new(processes);
        scene.begin();
        scene
    }

    fn begin(&mut self) {
        assert_eq!(self.step(Event::Tick), ["start 1", "started"]);
        for child in 1..=self.supervisor.plan.processes as u64 {
            self.ready(child);
        }
    }
}

fn short(action: &Action) -> String {
    match action {
        Action::Start(child) => format!("start {}", child.0),
        Action::Terminate(child) => format!("terminate {}", child.0),
        Action::Interrupt(child) => format!("interrupt {}", child.0),
        Action::Kill(child) => format!("kill {}", child.0),
        Action::Exit(code) => format!("exit {code}"),
        Action::Say(notice) => notice.json(|_| None)["event"].as_str().unwrap().to_owned(),
    }
}

const CRASH: Ending = Ending::Signalled(11);
const DONE: Ending = Ending::Exited(0);

#[test]
fn the_first_starts_alone() {
    let mut scene = Scene::new(3);
    assert_eq!(scene.step(Event::Tick), ["start 1", "started"]);
    assert!(scene.pass(5.0).is_empty());
    assert_eq!(scene.ready(1), ["ready", "start 2", "started", "start 3", "started"]);
    assert_eq!(scene.ready(3), ["ready"]);
    assert_eq!(scene.supervisor.next_wake(), Some(scene.now + SLOW), "the second is still starting");
    assert_eq!(scene.ready(2), ["ready"]);
    assert_eq!(scene.supervisor.next_wake(), None);
}

#[test]
fn who_cannot_start_ends_the_command_with_its_code() {
    for (how, code) in [
        (Ending::Exited(1), 1),
        (Ending::Exited(2), 2),
        (Ending::Exited(0), 1),
        (Ending::Exited(-1), 1),
        (Ending::Signalled(9), 137),
        (Ending::NotStarted("there is no python".into()), 1),
    ] {
        let mut scene = Scene::new(2);
        scene.step(Event::Tick);
        assert_eq!(scene.ended(1, how), ["failed".to_owned(), format!("exit {code}")]);
        assert!(scene.pass(1000.0).is_empty(), "nothing comes after the end");
    }
}

#[test]
fn a_module_that_takes_too_much_memory_is_not_started_over_and_over() {
    let mut scene = Scene::with(Plan { max_memory: Some(100), ..Scene::new(1).supervisor.plan });
    scene.step(Event::Tick);
    assert_eq!(scene.step(Event::Memory { child: ChildId(1), bytes: 100 }), ["too_much_memory", "kill 1"]);
    assert_eq!(scene.ended(1, Ending::Signalled(9)), ["failed", "exit 137"]);
}

#[test]
fn who_ends_is_followed_by_another_after_a_growing_wait() {
    let mut scene = Scene::under_way(1);
    let mut waits = Vec::new();
    for child in 1..=10 {
        assert_eq!(scene.ended(child, CRASH), ["ended"]);
        let wait = scene.supervisor.next_wake().unwrap() - scene.now;
        assert!(scene.pass(wait.as_secs_f64() / 2.0).is_empty(), "before its time");
        let rest = scene.supervisor.next_wake().unwrap() - scene.now;
        assert_eq!(scene.pass(rest.as_secs_f64() + 1e-6), [format!("start {}", child + 1), "started".into()]);
        scene.ready(child + 1);
        waits.push(wait);
    }
    let backoff = Backoff::default();
    for (ends, wait) in (1..).zip(&waits) {
        let bound = backoff.bound(ends);
        assert!((bound / 2..=bound).contains(wait), "{wait:?} of {bound:?}");
    }
    // Once it was healthy for a time, its end counts as the first.
    scene.pass(backoff.healthy.as_secs_f64());
    scene.ended(11, CRASH);
    assert!(scene.supervisor.next_wake().unwrap() - scene.now <= backoff.first);
}

#[test]
fn one_that_fails_later_ends_nothing_and_is_not_tried_in_a_loop() {
    let mut scene = Scene::under_way(1);
    scene.ended(1, CRASH);
    let mut starts = 0;
    let end = scene.now + Duration::from_secs(60);
    while let Some(next) = scene.supervisor.next_wake().filter(|next| *next < end) {
        scene.now = next;
        for action in scene.supervisor.step(scene.now, Event::Tick) {
            if let Action::Start(child) = action {
                starts += 1;
                assert_eq!(scene.ended(child.0, Ending::Exited(1)), ["ended"]);
            }
        }
    }
    assert!((8..=12).contains(&starts), "{starts} starts in a minute");
}

#[test]
fn the_places_do_not_wait_for_each_other() {
    let mut scene = Scene::under_way(2);
    for child in [1, 3, 4, 5, 6] {
        scene.ended(child, CRASH);
        scene.pass(10.0);
        scene.ready(child + if child == 1 { 2 } else { 1 });
    }
    scene.ended(2, CRASH);
    assert!(scene.supervisor.next_wake().unwrap() - scene.now <= Backoff::default().first);
}

#[test]
fn a_stop_lets_them_finish() {
    let mut scene = Scene::under_way(2);
    assert_eq!(scene.step(Event::Stop(15)), ["stopping", "terminate 1", "terminate 2"]);
    assert_eq!(scene.ended(1, DONE), ["left"]);
    assert_eq!(scene.ended(2, DONE), ["left", "exit 0"]);
}

#[test]
fn who_has_not_left_by_the_deadline_is_killed() {
    let mut scene = Scene::under_way(2);
    scene.step(Event::Stop(15));
    scene.ended(2, DONE);
    assert_eq!(scene.supervisor.next_wake(), Some(scene.now + GRACE + MARGIN));
    assert!(scene.pass(34.9).is_empty());
    assert_eq!(scene.pass(0.2), ["too_late", "kill 1"]);
    assert!(scene.pass(100.0).is_empty(), "one kill is enough");
    assert_eq!(scene.ended(1, Ending::Signalled(9)), ["left", "exit 0"]);
}

#[test]
fn a_second_signal_has_them_end_at_once_and_a_third_kills() {
    let mut scene = Scene::under_way(2);
    scene.step(Event::Stop(15));
    assert_eq!(scene.step(Event::Stop(2)), ["at_once", "interrupt 1", "interrupt 2"]);
    assert_eq!(scene.supervisor.next_wake(), Some(scene.now + AT_ONCE));
    assert_eq!(scene.ended(1, DONE), ["left"]);
    assert_eq!(scene.step(Event::Stop(2)), ["too_late", "kill 2"]);
    assert_eq!(scene.ended(2, Ending::Signalled(9)), ["left", "exit 130"]);

    let mut scene = Scene::under_way(1);
    scene.step(Event::Stop(15));
    scene.step(Event::Stop(15));
    assert_eq!(scene.pass(2.1), ["too_late", "kill 1"]);
    assert_eq!(scene.ended(1, Ending::Signalled(9)), ["left", "exit 143"]);
}

#[test]
fn a_stop_while_it_starts_starts_nothing_more() {
    let mut scene = Scene::new(2);
    scene.step(Event::Tick);
    assert_eq!(scene.step(Event::Stop(2)), ["stopping", "terminate 1"]);
    assert!(scene.ready(1).is_empty(), "it is too late for that");
    assert_eq!(scene.ended(1, Ending::Signalled(15)), ["left", "exit 0"]);

    let mut scene = Scene::under_way(1);
    scene.ended(1, CRASH);
    assert_eq!(scene.step(Event::Stop(15)), ["stopping", "exit 0"], "none is there, and none is waited for");
}

#[test]
fn a_reload_replaces_one_after_the_other() {
    let mut scene = Scene::under_way(2);
    assert_eq!(scene.step(Event::Reload), ["reloading", "start 3", "started"]);
    assert_eq!(scene.ready(3), ["ready", "terminate 1"]);
    assert!(scene.pass(10.0).is_empty(), "the next one waits until the first has gone");
    assert_eq!(scene.ended(1, DONE), ["left", "start 4", "started"]);
    assert_eq!(scene.ready(4), ["ready", "terminate 2"]);
    assert_eq!(scene.ended(2, DONE), ["left", "reloaded"]);
    assert_eq!(scene.supervisor.next_wake(), None);
}

#[test]
fn a_reload_of_code_that_does_not_start_is_given_up() {
    let mut scene = Scene::under_way(2);
    scene.step(Event::Reload);
    assert_eq!(
        scene.told_of_end(3, Ending::Exited(1)),
        [
            "worker 1 ended before it was ready: exit code 1",
            "the reload is given up: 2 workers go on with the code that they have; \
             mend the new code (see above) and send SIGHUP again",
        ]
    );
    assert!(scene.pass(1000.0).is_empty(), "the others go on, and none follows");
    assert!(scene.supervisor.knows(ChildId(1)) && scene.supervisor.knows(ChildId(2)));
    // When it has been mended, it can be asked for again.
    assert_eq!(scene.step(Event::Reload), ["reloading", "start 4", "started"]);
}

#[test]
fn a_reload_that_is_given_up_half_way_says_who_runs_what() {
    let mut scene = Scene::under_way(3);
    scene.step(Event::Reload);
    scene.ready(4);
    assert_eq!(scene.ended(1, DONE), ["left", "start 5", "started"]);
    let told = scene.told_of_end(5, CRASH);
    assert_eq!(told[0], "worker 2 ended before it was ready: killed by SIGSEGV");
    assert!(told[1].contains("1 worker with new code and 2 with old go on"), "{}", told[1]);
}

#[test]
fn a_reload_that_fails_where_nobody_runs_goes_on_trying() {
    let mut scene = Scene::under_way(1);
    scene.ended(1, CRASH);
    assert_eq!(scene.step(Event::Reload), ["reloading", "start 2", "started"]);
    let told = scene.told_of_end(2, Ending::Exited(1));
    assert!(told[0].contains("exit code 1; another follows in "), "{}", told[0]);
    assert!(told[1].starts_with("the reload is given up: no worker runs"), "{}", told[1]);
    assert_eq!(scene.pass(1.0), ["start 3", "started"]);
}

#[test]
fn a_reload_in_a_reload_begins_anew() {
    let mut scene = Scene::under_way(1);
    scene.step(Event::Reload);
    assert_eq!(scene.step(Event::Reload), ["reloading"]);
    assert_eq!(scene.ready(2), ["ready", "terminate 1"]);
    assert_eq!(scene.ended(1, DONE), ["left", "start 3", "started"]);
    assert_eq!(scene.ready(3), ["ready", "terminate 2"]);
    assert_eq!(scene.ended(2, DONE), ["left", "reloaded"]);
}

#[test]
fn who_dies_in_a_reload_is_replaced_by_new_code() {
    let mut scene = Scene::under_way(2);
    scene.step(Event::Reload);
    scene.ended(2, CRASH);
    assert_eq!(scene.pass(0.2), ["start 4", "started"]);
    scene.ready(4);
    scene.ready(3);
    assert_eq!(scene.ended(1, DONE), ["left", "reloaded"]);
}

#[test]
fn enough_tasks_bring_a_successor_first() {
    let mut scene = Scene::with(Plan { max_tasks: Some(100), ..Scene::new(1).supervisor.plan });
    scene.begin();
    assert!(scene.step(Event::Tasks { child: ChildId(1), ended: 99 }).is_empty());
    assert_eq!(
        scene.step(Event::Tasks { child: ChildId(1), ended: 103 }),
        ["enough_tasks", "start 2", "started"]
    );
    assert!(scene.step(Event::Tasks { child: ChildId(1), ended: 200 }).is_empty(), "it is told once");
    assert_eq!(scene.ready(2), ["ready", "terminate 1"]);
    assert_eq!(scene.ended(1, DONE), ["left"]);
    assert_eq!(scene.supervisor.next_wake(), None);
}

#[test]
fn a_successor_that_fails_leaves_the_old_one_at_work() {
    let mut scene = Scene::with(Plan { max_tasks: Some(100), ..Scene::new(1).supervisor.plan });
    scene.begin();
    scene.step(Event::Tasks { child: ChildId(1), ended: 100 });
    assert_eq!(scene.ended(2, Ending::Exited(1)), ["ended"]);
    assert!(scene.supervisor.knows(ChildId(1)));
    assert_eq!(scene.pass(0.2), ["start 3", "started"]);
    assert_eq!(scene.ready(3), ["ready", "terminate 1"]);
}

#[test]
fn memory_near_the_bound_brings_a_successor_and_beyond_it_an_end() {
    let plan = Plan { max_memory: Some(500 << 20), ..Scene::new(1).supervisor.plan };
    let mut scene = Scene::with(plan);
    scene.begin();
    let memory = |child, megabytes: u64| Event::Memory { child: ChildId(child), bytes: megabytes << 20 };
    assert!(scene.step(memory(1, 449)).is_empty());
    assert_eq!(scene.step(memory(1, 451)), ["much_memory", "start 2", "started"]);
    assert_eq!(scene.ready(2), ["ready", "terminate 1"]);
    assert_eq!(scene.step(memory(1, 500)), ["too_much_memory", "kill 1"]);
    assert!(scene.step(memory(1, 600)).is_empty());
    assert_eq!(scene.ended(1, Ending::Signalled(9)), ["left"]);

    // All at once: another follows after a wait, as after any bad end.
    assert_eq!(scene.step(memory(2, 1024)), ["too_much_memory", "kill 2"]);
    assert_eq!(scene.ended(2, Ending::Signalled(9)), ["left"]);
    assert_eq!(scene.pass(0.2), ["start 3", "started"]);
}

#[test]
fn siblings_that_differ_are_told_of() {
    let mut scene = Scene::new(2);
    scene.step(Event::Tick);
    scene.ready(1);
    assert_eq!(scene.ready_with(2, &["a", "c"]), ["ready", "differs"]);
    // After a reload the handlers may be others.
    scene.step(Event::Reload);
    assert_eq!(scene.ready_with(3, &["x"]), ["ready", "terminate 1"]);
}

#[test]
fn a_start_that_takes_long_is_told_once() {
    let mut scene = Scene::new(1);
    scene.step(Event::Tick);
    assert_eq!(scene.pass(30.0), ["slow"]);
    assert!(scene.pass(1000.0).is_empty());
    assert_eq!(scene.ready(1), ["ready"]);
}

#[test]
fn what_is_told_names_worker_and_cause() {
    let who = Who { child: ChildId(9), place: 2 };
    let pid = |child: ChildId| (child.0 == 9).then_some(4711);
    let told = [
        (Notice::Started { who }, "worker 2 (pid 4711) started"),
        (
            Notice::Ready { who, handlers: 1, store: "sqlite:tasks.db".into() },
            "worker 2 (pid 4711) is ready: 1 handler on sqlite:tasks.db",
        ),
        (
            Notice::Ended { who, how: CRASH, again_in: Some(Duration::from_millis(150)), was_ready: true },
            "worker 2 (pid 4711) ended by itself: killed by SIGSEGV; another follows in 150 ms",
        ),
        (
            Notice::Differs {
                who,
                from: Who { child: ChildId(1), place: 1 },
                lacks: vec!["mail".into()],
                alone: vec!["sms".into(), "fax".into()],
            },
            "worker 2 (pid 4711) differs from worker 1: it lacks the handlers mail; only it has the handlers sms, fax; \
             what a module registers should not depend on chance, time or environment",
        ),
        (
            Notice::Left { who, why: Why::TooMuchMemory, how: Ending::Signalled(9), killed: true },
            "worker 2 (pid 4711) has left (memory): killed by SIGKILL; what it ran goes on elsewhere",
        ),
        (
            Notice::Stopping { signal: 15, processes: 1, grace: GRACE },
            "SIGTERM: 1 worker is stopping; what runs may take 30 s more (again: at once)",
        ),
    ];
    for (notice, text) in told {
        assert_eq!(notice.text(pid), text);
    }
}
