//! The processes, what runs in them, and what happens to them.
//!
//! The world owns the clock and turns it from one time at which something is due to the next: a submit, a fault, the end of
//! a handler, or what an engine says. At each time it drives the engines, in an order that the seed decides, until all of
//! them rest. Handlers of two kinds run in them: blocking ones, which take no time and submit children, and asynchronous ones,
//! which the world ends when it likes, late and in any order.
//!
//! After the day nothing goes wrong any more, and there is time until all must have ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use taskloom_engine::{Clock, Drive, Engine, EngineOptions, Handle, Stop, VirtualClock};
use taskloom_model::{
    Limit, LimitFor, Name, OnConflict, Options, Priority, RetryPolicy, TaskId, Timestamp, When,
};

use crate::Plan;
use crate::checker::Checker;
use crate::disk::{Disk, Opened};
use crate::process::{Host, Known, Process};
use crate::trace::Event;

const QUEUES: [&str; 3] = ["default", "mail", "slow"];

/// So many times all engines are driven at one time, and it is taken that they never rest.
const RESTLESS: u32 = 10_000;

/// How long after the day there is for everything to end.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What came of a day.
#[derive(Debug)]
pub struct Report {
    /// Its plan.
    pub plan: Plan,
    /// Of everything that happened.
    pub hash: u64,
    /// How much that was.
    pub events: u64,
    /// How many tasks were acknowledged, children not counted.
    pub acknowledged: u64,
    /// How many attempts began.
    pub attempts: u64,
    /// How many changes were refused.
    pub refused: u64,
    /// How many ticks of schedules fired.
    pub fired: usize,
    /// What was wrong, if anything was: the first of it, and the last lines of the trace.
    pub wrong: Option<String>,
}

impl Report {
    /// Panics if something was wrong, with the seed and the last lines.
    pub fn expect_right(&self) {
        if let Some(wrong) = &self.wrong {
            panic!("seed {} of the simulator: {wrong}", self.plan.seed);
        }
    }
}

/// Runs a day, and the time after it that it takes for all to end.
pub fn simulate(plan: &Plan) -> Report {
    let mut world = World::new(plan.clone());
    world.run();
    world.report()
}

struct World {
    plan: Plan,
    rng: Rng,
    clock: Arc<VirtualClock>,
    checker: Arc<Mutex<Checker>>,
    disk: Arc<Disk>,
    processes: Vec<Process>,
    made: u32,
    ended: u64,
    /// When processes that were killed are started again.
    restarts: Vec<Duration>,
    next_submit: Duration,
    next_fault: Duration,
    next_operator: Duration,
    known: Vec<TaskId>,
    handles: Vec<(u32, Handle)>,
    acknowledged: u64,
}

impl World {
    fn new(plan: Plan) -> Self {
        let checker = Arc::new(Mutex::new(Checker::new(plan.is_calm())));
        let clock = Arc::new(VirtualClock::default());
        let disk = Disk::new(plan.processes.is_none(), Arc::clone(&checker));
        let mut world = Self {
            rng: Rng::with_seed(plan.seed),
            clock,
            checker,
            disk,
            processes: Vec::new(),
            made: 0,
            ended: 0,
            restarts: Vec::new(),
            next_submit: Duration::ZERO,
            next_fault: Duration::ZERO,
            next_operator: Duration::ZERO,
            known: Vec::new(),
            handles: Vec::new(),
            acknowledged: 0,
            plan,
        };
        (0..world.plan.processes.unwrap_or(1)).for_each(|_| world.start_process());
        if let Some(most) = world.plan.limit {
            let what = LimitFor::Handler(Name::new("slow"));
            let limit = Limit { concurrency: Some(most), rate: None };
            world.processes[0].engine.limit(what, limit).expect("the store does not fail yet");
            world.checker.lock().limit("slow", most);
        }
        world.next_fault = world.pause(600);
        world.next_operator = world.pause(300);
        world
    }

    /// A time that is so many seconds away on average.
    fn pause(&mut self, seconds: u64) -> Duration {
        self.clock.monotonic() + Duration::from_micros(self.rng.u64(1..seconds * 2_000_000))
    }

    fn note(&mut self, what: &'static str, process: u32, number: u64) {
        let at = self.clock.now();
        self.checker.lock().trace.add(Event { at, process, what, task: None, states: None, number });
    }

    fn start_process(&mut self) {
        self.made += 1;
        let number = self.made;
        let connection = self.disk.connect(number);
        let known = Known {
            seed: self.plan.seed,
            process: number,
            clock: Arc::clone(&self.clock),
            checker: Arc::clone(&self.checker),
        };
        let options = EngineOptions {
            drive: Drive::Driven(Arc::clone(&self.clock)),
            seed: Some(self.plan.seed ^ u64::from(number) << 32),
            max_in_flight: 100_000,
            workers: 4,
            ..EngineOptions::default()
        };
        let Ok(engine) = Engine::new(Box::new(Opened(Arc::clone(&connection))), options) else {
            let later = self.pause(10);
            return self.restarts.push(later);
        };
        let host = Arc::new(Host::default());
        let handlers = Process::register(&engine, &known);
        engine.set_loop(Some(Arc::clone(&host) as _));
        engine.start().expect("a driven engine starts no thread");
        if self.plan.schedules {
            Process::schedule(&engine);
        }
        self.note("start", number, 0);
        self.processes.push(Process {
            number,
            engine,
            connection,
            host,
            known,
            handlers,
            in_flight: BTreeMap::new(),
            frozen: None,
        });
    }

    // ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    fn run(&mut self) {
        let day = self.plan.day;
        while self.clock.monotonic() < day && self.checker.lock().verdict().is_none() {
            let wait = self.settle();
            let mut next = (self.clock.monotonic().saturating_add(wait))
                .min(day)
                .min(self.next_submit)
                .min(self.next_ending());
            if self.has_faults() {
                next = next.min(self.next_fault);
            }
            if self.plan.operators {
                next = next.min(self.next_operator);
            }
            next = self.restarts.iter().copied().fold(next, Duration::min);
            self.turn_to(next);
            self.happen();
        }
        self.calm_down();
        while self.clock.monotonic() < day + PATIENCE && self.checker.lock().verdict().is_none() {
            let wait = self.settle();
            let next = (self.clock.monotonic().saturating_add(wait)).min(self.next_ending());
            if self.is_idle() {
                break;
            }
            self.turn_to(next.min(day + PATIENCE));
            self.end_handlers();
        }
    }

    fn has_faults(&self) -> bool {
        self.plan.crashes || self.plan.freezes || self.plan.jumps || self.plan.errors
    }

    fn turn_to(&mut self, time: Duration) {
        self.clock.advance(time.saturating_sub(self.clock.monotonic()));
        self.checker.lock().time(self.clock.now());
    }

    fn next_ending(&self) -> Duration {
        let ending = |process: &Process| {
            let first = process.in_flight.keys().next().map_or(Duration::MAX, |(at, _)| *at);
            process.frozen.map_or(first, |until| until.max(first.min(until)))
        };
        self.processes.iter().map(ending).min().unwrap_or(Duration::MAX)
    }

    /// Drives all engines until none has anything left to do; how long until one has.
    fn settle(&mut self) -> Duration {
        for pass in 0.. {
            if pass == RESTLESS {
                self.checker.lock().restless();
            }
            let before = self.disk.version();
            let (mut wait, mut began) = (Duration::MAX, false);
            let mut order: Vec<_> = (0..self.processes.len()).collect();
            self.rng.shuffle(&mut order);
            for place in order {
                if self.processes[place].frozen.is_some() {
                    continue;
                }
                match self.processes[place].engine.drain() {
                    Ok(next) => wait = wait.min(next.unwrap_or(Duration::MAX)),
                    Err(error) => panic!("seed {}: {error}", self.plan.seed),
                }
                began |= self.begin(place);
            }
            // One that is alone has rested: nobody else can have given it anything to do.
            let alone = self.processes.len() == 1;
            if !began && (alone || self.disk.version() == before) {
                return wait.max(Duration::from_micros(1));
            }
            if self.checker.lock().verdict().is_some() {
                return Duration::from_micros(1);
            }
        }
        Duration::MAX
    }

    /// Takes what waits for a process's event loop; whether there was anything.
    fn begin(&mut self, place: usize) -> bool {
        let process = &mut self.processes[place];
        if !process.host.0.swap(false, Ordering::Relaxed) {
            return false;
        }
        let mut started = Vec::new();
        process.engine.take(&mut started);
        let now = self.clock.monotonic();
        for one in &mut started.drain(..) {
            process.known.began(&one.attempt);
            let mut chance = process.known.chance(&one.attempt);
            let mut takes = Duration::from_micros(chance.u64(1..400_000_000));
            // Most handlers obey when their time is up, a little late; some go on as if nothing had been said.
            if chance.u32(0..4) > 0
                && let Some(timeout) = one.attempt.task().spec().timeout()
            {
                takes = takes.min(timeout + Duration::from_micros(chance.u64(1..5_000_000)));
            }
            let end = now + takes;
            self.ended += 1;
            process.in_flight.insert((end, self.ended), (one.completion, Known::outcome(&mut chance)));
        }
        true
    }

    // ── what happens ────────────────────────────────────────────────────────────────────────────────────────────

    fn happen(&mut self) {
        let now = self.clock.monotonic();
        for process in &mut self.processes {
            process.frozen.take_if(|until| *until <= now);
        }
        self.end_handlers();
        let due = self.restarts.iter().filter(|at| **at <= now).count();
        self.restarts.retain(|at| *at > now);
        (0..due).for_each(|_| self.start_process());
        if self.next_submit <= now {
            self.submit();
            let mean = self.plan.day.as_micros() / u128::from(self.plan.tasks.max(1));
            let gap = self.rng.u64(0..u64::try_from(mean * 2).unwrap_or(u64::MAX).max(1));
            self.next_submit = now + Duration::from_micros(gap.max(1));
        }
        if self.has_faults() && self.next_fault <= now {
            self.fault();
            self.next_fault = self.pause(900);
        }
        if self.plan.operators && self.next_operator <= now {
            self.operate();
            self.next_operator = self.pause(240);
        }
    }

    /// Handlers end whose time it is, in any order.
    fn end_handlers(&mut self) {
        let now = self.clock.monotonic();
        let mut ending = Vec::new();
        for process in self.processes.iter_mut().filter(|process| process.frozen.is_none()) {
            while let Some(first) = process.in_flight.first_entry().filter(|first| first.key().0 <= now) {
                ending.push(first.remove());
            }
        }
        self.rng.shuffle(&mut ending);
        ending.into_iter().for_each(|(completion, outcome)| completion.complete(outcome));
    }

    fn awake(&mut self) -> Option<usize> {
        let awake: Vec<_> =
            (0..self.processes.len()).filter(|place| self.processes[*place].frozen.is_none()).collect();
        self.rng.choice(awake)
    }

    fn submit(&mut self) {
        let Some(place) = self.awake() else { return };
        let rng = &mut self.rng;
        let span = |rng: &mut Rng, seconds: u64| Duration::from_micros(rng.u64(1..seconds * 1_000_000));
        let kind = rng.u32(0..100);
        let delay = (rng.u32(0..10) < 3).then(|| span(rng, 6 * 3600));
        let mut options = Options {
            queue: Some(QUEUES[rng.usize(..QUEUES.len())].into()),
            priority: Some(Priority::ALL[rng.usize(..Priority::ALL.len())]),
            eta: delay.map(When::In),
            retries: Some(rng.u32(0..4)),
            retry: Some(RetryPolicy {
                base: Duration::from_secs(1),
                factor: 3.0,
                cap: Duration::from_secs(3600),
            }),
            ..Options::default()
        };
        let later = delay.unwrap_or_default();
        if rng.u32(0..20) == 0 {
            options.expires = Some(When::In(later + span(rng, 600)));
        }
        if rng.u32(0..20) == 0 {
            options.deadline = Some(When::In(later + span(rng, 3600)));
        }
        let handler = match kind {
            0..60 => 0,
            60..90 => 1,
            _ => 2,
        };
        if handler == 1 && rng.bool() {
            options.timeout = Some(span(rng, 300));
        }
        if rng.u32(0..10) == 0 {
            options.unique_key = Some(format!("key-{}", rng.u32(0..8)));
            options.on_conflict = Some(if rng.bool() { OnConflict::Return } else { OnConflict::Replace });
        }
        let process = &self.processes[place];
        let entry = &process.handlers[handler];
        let submitted = process
            .engine
            .admission(&options.over(entry.options()))
            .and_then(|admission| process.engine.submit(entry, &admission, Default::default(), None, false));
        if let Ok(handle) = submitted {
            self.checker.lock().acknowledged(handle.id());
            self.acknowledged += 1;
            self.known.push(handle.id());
            self.handles.push((process.number, handle));
        }
    }

    fn fault(&mut self) {
        let (plan, kind) = (&self.plan, self.rng.u32(0..4));
        match kind {
            0 if plan.crashes => self.crash(),
            1 if plan.freezes => {
                let until = self.pause(30);
                if let Some(place) = self.awake() {
                    self.processes[place].frozen = Some(until);
                    let number = self.processes[place].number;
                    self.note("freeze", number, 0);
                }
            }
            2 if plan.jumps => {
                let now = self.clock.now();
                let to = match self.rng.u32(0..20) {
                    0 => now + Duration::from_secs(366 * 24 * 3600),
                    1..10 => now + Duration::from_secs(self.rng.u64(1..3600)),
                    _ => now - Duration::from_secs(self.rng.u64(1..3600)),
                };
                self.clock.jump(to);
                self.checker.lock().time(to);
                self.note("jump", 0, to.micros().cast_unsigned());
            }
            3 if plan.errors => {
                if let Some(place) = self.awake() {
                    let until = self.clock.now() + Duration::from_secs(self.rng.u64(1..60));
                    self.processes[place].connection.fail_until(until);
                    let number = self.processes[place].number;
                    self.note("store fails", number, 0);
                }
            }
            _ => {}
        }
    }

    fn crash(&mut self) {
        let place = self.rng.usize(..self.processes.len().max(1));
        if place >= self.processes.len() {
            return;
        }
        let process = self.processes.remove(place);
        self.note("crash", process.number, 0);
        process.connection.cut(self.rng.bool());
        // Its handlers are gone, and so is its memory. What follows from dropping that reaches nobody.
        let Process { engine, in_flight, .. } = process;
        engine.stop(Stop::Within(Duration::ZERO));
        drop((engine, in_flight));
        let again = self.pause(20);
        self.restarts.push(again);
    }

    fn operate(&mut self) {
        let Some(place) = self.awake() else { return };
        let engine = &self.processes[place].engine;
        // Refused where the store fails: the operator goes home.
        match self.rng.u32(0..6) {
            0 => drop(engine.pause(Name::new(QUEUES[self.rng.usize(..QUEUES.len())]))),
            1 | 2 => QUEUES.iter().for_each(|queue| drop(engine.resume(Name::new(queue)))),
            _ => {
                if let Some(id) = self.rng.choice(&self.known) {
                    drop(engine.cancel(*id, Some("an operator")));
                }
            }
        }
    }

    // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Nothing goes wrong from now on.
    fn calm_down(&mut self) {
        self.restarts.clear();
        for process in &mut self.processes {
            process.frozen = None;
            process.connection.fail_until(Timestamp::from_micros(i64::MIN + 1));
        }
        while self.processes.is_empty() {
            self.start_process();
        }
        for name in ["ten", "quarter"] {
            drop(self.processes[0].engine.remove_schedule(name));
        }
        for queue in QUEUES {
            drop(self.processes[0].engine.resume(Name::new(queue)));
        }
    }

    fn is_idle(&self) -> bool {
        self.checker.lock().open() == 0 && self.processes.iter().all(|process| process.in_flight.is_empty())
    }

    fn report(mut self) -> Report {
        self.settle();
        // What another process ended is seen by whoever looks.
        self.handles.iter().for_each(|(_, handle)| handle.refresh());
        self.settle();
        let mut checker = self.checker.lock();
        checker.finish();
        for (number, handle) in &self.handles {
            let lives = self.processes.iter().any(|process| process.number == *number);
            if lives
                && checker.verdict().is_none()
                && self.disk.has(handle.id())
                && Some(handle.state()) != checker.state(handle.id())
            {
                checker.disagree(handle.id(), handle.state());
            }
        }
        Report {
            hash: checker.trace.hash(),
            events: checker.trace.count(),
            acknowledged: self.acknowledged,
            attempts: checker.attempts,
            refused: checker.fenced,
            fired: checker.fired(),
            wrong: checker.verdict().map(str::to_owned),
            plan: self.plan.clone(),
        }
    }
}
