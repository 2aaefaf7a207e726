//! A process of the simulated world: an engine, what its handlers do, and what runs in it.
//!
//! What an attempt comes to is decided by the seed, the task and the attempt's number, so it is the same in whichever process
//! it runs. Blocking handlers take no time; those of the event loop are ended by the world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use taskloom_engine::{
    Attempt, Clock, Completion, Engine, Failed, Handler, HandlerEntry, LoopHost, Outcome, VirtualClock,
};
use taskloom_model::{Options, Rule, ScheduleSpec, Template};

use crate::checker::Checker;
use crate::disk::Connection;

/// What handlers know.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) seed: u64,
    pub(crate) process: u32,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) checker: Arc<Mutex<Checker>>,
}

impl Known {
    pub(crate) fn began(&self, attempt: &Attempt) {
        let (id, number) = (attempt.task().id(), attempt.fence().attempt);
        let eligible = attempt.task().with_row(|row| row.eligible);
        self.checker.lock().began(self.process, id, number, eligible, self.clock.now());
    }

    /// What decides about an attempt: the same in every process.
    pub(crate) fn chance(&self, attempt: &Attempt) -> Rng {
        let id = attempt.task().id();
        let (head, tail) = id.as_bytes().split_at(8);
        let half = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let number = u64::from(attempt.fence().attempt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Rng::with_seed(self.seed ^ half(head) ^ half(tail).rotate_left(17) ^ number)
    }

    pub(crate) fn outcome(chance: &mut Rng) -> Outcome {
        match chance.u32(0..100) {
            0..75 => Outcome::success(*b"null"),
            kind => Outcome::Failed(Failed {
                kind: "Bad".into(),
                message: String::new(),
                backtrace: String::new(),
                permanent: kind >= 97,
                retry_after: (90..95).contains(&kind).then(|| Duration::from_secs(chance.u64(1..7_200))),
            }),
        }
    }
}

/// Notes that there is something to take.
#[derive(Default)]
pub(crate) struct Host(pub(crate) AtomicBool);

impl LoopHost for Host {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) engine: Engine,
    pub(crate) connection: Arc<Connection>,
    pub(crate) host: Arc<Host>,
    pub(crate) known: Known,
    pub(crate) handlers: Vec<Arc<HandlerEntry>>,
    /// What runs, by when it ends.
    pub(crate) in_flight: BTreeMap<(Duration, u64), (Completion, Outcome)>,
    /// It stands still until then.
    pub(crate) frozen: Option<Duration>,
}

impl Process {
    pub(crate) fn register(engine: &Engine, known: &Known) -> Vec<Arc<HandlerEntry>> {
        let register = |name: &str, handler| engine.register(name, Options::default(), handler);
        let own = known.clone();
        let quick = move |attempt: &Attempt| {
            own.began(attempt);
            Known::outcome(&mut own.chance(attempt))
        };
        let quick = register("quick", Handler::Blocking(Box::new(quick))).expect("a new name");
        let slow = register("slow", Handler::Asynchronous(Arc::new(()))).expect("a new name");
        let (own, children) = (known.clone(), [Arc::clone(&quick), Arc::clone(&slow)]);
        let parent = move |attempt: &Attempt| {
            own.began(attempt);
            let mut chance = own.chance(attempt);
            for child in &children {
                for _ in 0..chance.u32(0..3) {
                    let detached = chance.bool();
                    // Refused if the store fails, or if the attempt is over: then it is tried again, or is nobody's.
                    if attempt.submit(child, child.admission(), Default::default(), None, detached).is_err() {
                        return Outcome::failure("NoChild", "");
                    }
                }
            }
            Known::outcome(&mut chance)
        };
        let parent = register("parent", Handler::Blocking(Box::new(parent))).expect("a new name");
        let own = known.clone();
        let tick = move |attempt: &Attempt| {
            own.began(attempt);
            Outcome::success(*b"null")
        };
        register("tick", Handler::Blocking(Box::new(tick))).expect("a new name");
        vec![quick, slow, parent]
    }

    /// Each process says what its schedules are when it starts. Refused where the store fails; another will say it.
    pub(crate) fn schedule(engine: &Engine) {
        let template =
            || Template { handler: "tick".into(), payload: Box::default(), options: Options::default() };
        for (name, rule) in [
            ("ten", Rule::Every(Duration::from_secs(600))),
            ("quarter", Rule::Cron { expression: "*/15 * * * *".into(), tz: "Europe/Rome".into() }),
        ] {
            drop(engine.put_schedule(ScheduleSpec::new(name, rule, template())));
        }
    }
}
