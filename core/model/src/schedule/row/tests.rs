use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NOON: Timestamp = Timestamp::from_micros(1_774_699_200_000_000); // 2026-03-28 12:00 UTC

fn id(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

fn template() -> Template {
    Template { handler: "report".into(), payload: Box::new(*b"{}"), options: Options::default() }
}

fn minutely() -> ScheduleSpec {
    ScheduleSpec::new("minutely", Rule::Every(MINUTE), template())
}

struct Kept(Option<ScheduleRow>);

impl Kept {
    fn new(spec: ScheduleSpec) -> Self {
        let mut kept = Self(None);
        kept.put(spec, NOON).unwrap();
        kept
    }

    fn apply(&mut self, operation: ScheduleOperation, now: Timestamp) -> Result<ScheduleEffects> {
        apply_schedule(operation, "minutely", &mut self.0, now)
    }

    fn put(&mut self, spec: ScheduleSpec, now: Timestamp) -> Result<ScheduleEffects> {
        self.apply(ScheduleOperation::Put { spec: Box::new(spec), chance: 0.0 }, now)
    }

    fn row(&self) -> &ScheduleRow {
        self.0.as_ref().unwrap()
    }

    /// Does what a scheduler does at `now`: the ticks that were submitted.
    fn run(&mut self, now: Timestamp) -> Vec<Timestamp> {
        let mut submitted = Vec::new();
        for step in 0.. {
            assert!(step < 2_000, "a storm");
            let Some(due) = self.row().due_now(now).unwrap() else { break };
            let task = id(self.row().runs as u8 + 1);
            let fire = ScheduleOperation::Fire { tick: due.tick, task, chance: 0.0 };
            submitted.extend(self.apply(fire, now).unwrap().submit_for);
        }
        submitted
    }

    /// The last task ends.
    fn end(&mut self, failed: bool, now: Timestamp) {
        let task = self.row().live.unwrap();
        self.apply(ScheduleOperation::Ended { task, failed }, now).unwrap();
    }
}

#[test]
fn a_tick_fires_once() {
    let mut kept = Kept::new(minutely());
    let tick = NOON + MINUTE;
    assert_eq!(kept.row().next, Some(tick));
    let fire = ScheduleOperation::Fire { tick, task: id(1), chance: 0.0 };
    assert_eq!(kept.apply(fire.clone(), tick - SECOND).unwrap_err().code(), Code::LeaseLost, "too early");
    let effects = kept.apply(fire.clone(), tick).unwrap();
    assert_eq!((effects.submit_for, effects.due), (Some(tick), Some(tick + MINUTE)));
    assert_eq!(kept.apply(fire, tick).unwrap_err().code(), Code::LeaseLost, "twice");
    assert_eq!((kept.row().runs, kept.row().last, kept.row().live), (1, Some(tick), Some(id(1))));
}

#[test]
fn what_does_not_exist_is_named() {
    let mut kept = Kept(None);
    for operation in [
        ScheduleOperation::Disable,
        ScheduleOperation::Enable { chance: 0.0 },
        ScheduleOperation::Remove,
        ScheduleOperation::Trigger { task: id(1) },
        ScheduleOperation::Fire { tick: NOON, task: id(1), chance: 0.0 },
        ScheduleOperation::Update { spec: Box::new(minutely()), chance: 0.0 },
    ] {
        let error = kept.apply(operation, NOON).unwrap_err();
        assert!(error.code() == Code::UnknownSchedule && error.message().contains("minutely"), "{error}");
    }
}

#[test]
fn a_disabled_one_does_not_fire_and_what_it_missed_is_past() {
    let mut kept = Kept::new(minutely());
    kept.apply(ScheduleOperation::Disable, NOON).unwrap();
    let later = NOON + MINUTE * 10 + SECOND;
    assert_eq!((kept.run(later), kept.row().look_at()), (vec![], None));
    let trigger = kept.apply(ScheduleOperation::Trigger { task: id(9) }, later).unwrap();
    assert_eq!(trigger.submit_for, Some(later), "by hand it does");
    kept.apply(ScheduleOperation::Enable { chance: 0.0 }, later).unwrap();
    assert_eq!((kept.run(later), kept.row().next), (vec![], Some(NOON + MINUTE * 11)));
    kept.apply(ScheduleOperation::Remove, later).unwrap();
    assert_eq!(kept.0, None);
}

#[test]
fn putting_it_again_keeps_its_history() {
    let mut kept = Kept::new(minutely());
    assert_eq!(kept.run(NOON + MINUTE), [NOON + MINUTE]);
    kept.end(true, NOON + MINUTE);
    // A process starts ten minutes later, and registers what it always does: the missed tick is still due.
    let later = NOON + MINUTE * 10;
    assert!(!kept.put(minutely(), later).unwrap().changed);
    assert_eq!(kept.row().next, Some(NOON + MINUTE * 2));
    // Another policy changes nothing about the times.
    let queued = ScheduleSpec { overlap: Overlap::Queue, ..minutely() };
    assert!(kept.put(queued, later).unwrap().changed);
    assert_eq!(kept.row().next, Some(NOON + MINUTE * 2));
    // Another rule does.
    let hourly = ScheduleSpec { rule: Rule::Every(MINUTE * 60), ..minutely() };
    assert!(kept.put(hourly, later).unwrap().changed);
    assert_eq!(kept.row().next, Some(later + MINUTE * 60));
    assert_eq!((kept.row().runs, kept.row().failures, kept.row().created), (1, 1, NOON));
}

#[test]
fn overlap_decides_while_the_last_task_lives() {
    let (first, second, third) = (NOON + MINUTE, NOON + MINUTE * 2, NOON + MINUTE * 3);
    let of = |overlap| Kept::new(ScheduleSpec { overlap, ..minutely() });

    let mut kept = of(Overlap::Skip);
    kept.run(first);
    assert_eq!((kept.run(second), kept.row().skipped, kept.row().runs), (vec![], 1, 1));
    kept.end(false, second);
    assert_eq!(kept.run(third), [third]);

    let mut kept = of(Overlap::Replace);
    kept.run(first);
    let fire = ScheduleOperation::Fire { tick: second, task: id(2), chance: 0.0 };
    let effects = kept.apply(fire, second).unwrap();
    assert_eq!((effects.submit_for, effects.replaces), (Some(second), Some(id(1))));
    // The end of the one that was replaced says nothing about the one that lives.
    kept.apply(ScheduleOperation::Ended { task: id(1), failed: false }, second).unwrap();
    assert_eq!(kept.row().live, Some(id(2)));

    let mut kept = of(Overlap::Queue);
    kept.run(first);
    assert_eq!((kept.run(second), kept.run(third)), (vec![], vec![]));
    assert_eq!(kept.row().waiting, [second, third]);
    kept.end(false, third);
    assert!(kept.row().look_at().unwrap() <= third, "it is due at once");
    assert_eq!(kept.run(third), [second], "one after the other");
    kept.end(false, third);
    assert_eq!(kept.run(third), [third]);
}

#[test]
fn catch_up_decides_about_what_was_missed() {
    let later = NOON + MINUTE * 10 + SECOND * 5;
    let of = |catch_up, interval| {
        Kept::new(ScheduleSpec {
            catch_up,
            rule: Rule::Every(interval),
            overlap: Overlap::Skip,
            ..minutely()
        })
    };
    let at = |minute: u32| NOON + MINUTE * minute;
    assert_eq!(of(CatchUp::Last, MINUTE).run(later), [at(10)]);
    // The newest one is just due, whoever was there before.
    assert_eq!(of(CatchUp::None, MINUTE).run(later), [at(10)]);
    let mut kept = of(CatchUp::None, MINUTE * 7);
    assert_eq!((kept.run(later), kept.row().next), (vec![], Some(at(14))));
    assert_eq!(of(CatchUp::Last, MINUTE * 7).run(later), [at(7)]);
    // All of them, one after the other, though overlapping ones are skipped.
    let mut kept = of(CatchUp::All(3), MINUTE);
    let mut fired = kept.run(later);
    while kept.row().live.is_some() {
        kept.end(false, later);
        fired.extend(kept.run(later));
    }
    assert_eq!((fired, kept.row().next), (vec![at(8), at(9), at(10)], Some(at(11))));
}

#[test]
fn clocks_jump_without_a_storm() {
    let year = Duration::from_secs(365 * 24 * 3600);
    for rule in
        [Rule::Every(SECOND), Rule::Cron { expression: "* * * * * *".into(), tz: "Europe/Rome".into() }]
    {
        for catch_up in [CatchUp::None, CatchUp::Last, CatchUp::All(5)] {
            let mut kept = Kept::new(ScheduleSpec {
                rule: rule.clone(),
                catch_up,
                overlap: Overlap::Queue,
                ..minutely()
            });
            let expected = if matches!(catch_up, CatchUp::All(_)) { 4 } else { 0 };
            assert_eq!(kept.run(NOON + year).len(), 1, "{rule} {catch_up:?}");
            assert_eq!(kept.row().waiting.len(), expected, "{rule} {catch_up:?}");
            assert_eq!(kept.row().next, Some(NOON + year + SECOND));
        }
    }
    // Back by an hour: a cron tick does not come twice, an interval begins anew.
    let cron = Rule::Cron { expression: "*/10 * * * *".into(), tz: "UTC".into() };
    let mut kept = Kept::new(ScheduleSpec { rule: cron, ..minutely() });
    assert_eq!(kept.run(NOON + MINUTE * 10).len(), 1);
    kept.end(false, NOON);
    let back = NOON - MINUTE * 50;
    assert!(!kept.row().is_astray(back));
    assert!(!kept.apply(ScheduleOperation::Rebase { chance: 0.0 }, back).unwrap().changed);
    assert_eq!(kept.run(NOON + MINUTE * 10), []);
    // But who believed to be a year ahead does not sleep for a year.
    assert_eq!(kept.run(NOON + year).len(), 1);
    assert!(kept.apply(ScheduleOperation::Rebase { chance: 0.0 }, NOON + SECOND).unwrap().changed);
    assert_eq!(kept.row().next, Some(NOON + MINUTE * 10));

    let mut kept = Kept::new(minutely());
    assert!(!kept.row().is_astray(NOON - SECOND / 2), "clocks are read by several threads");
    assert!(kept.apply(ScheduleOperation::Rebase { chance: 0.0 }, back).unwrap().changed);
    assert_eq!(kept.row().next, Some(back + MINUTE));
}

#[test]
fn jitter_delays_and_never_reaches_the_next_tick() {
    let spec = ScheduleSpec { jitter: MINUTE * 5, ..minutely() };
    let mut kept = Kept(None);
    kept.apply(ScheduleOperation::Put { spec: Box::new(spec), chance: 0.5 }, NOON).unwrap();
    let due = NOON + MINUTE + SECOND * 30;
    assert_eq!((kept.row().next, kept.row().due), (Some(NOON + MINUTE), Some(due)));
    assert_eq!((kept.run(due - SECOND), kept.run(due)), (vec![], vec![NOON + MINUTE]));
}

#[test]
fn start_and_end_bound_it() {
    let at = |minute: u32| NOON + MINUTE * minute;
    let spec = ScheduleSpec { start: Some(at(30)), end: Some(at(32)), ..minutely() };
    let mut kept = Kept::new(spec.clone());
    assert_eq!(kept.row().firings(9).unwrap(), [at(30), at(31), at(32)]);
    kept.run(at(30));
    kept.end(false, at(30));
    assert_eq!(
        (kept.run(at(99)), kept.row().next),
        (vec![at(32)], None),
        "what was missed at the end is made up for"
    );
    // Registered again it stays as it is; with another rule it is over too.
    assert!(!kept.put(spec.clone(), at(99)).unwrap().changed);
    kept.put(ScheduleSpec { rule: Rule::Every(SECOND), ..spec.clone() }, at(99)).unwrap();
    assert_eq!((kept.row().next, kept.row().runs), (None, 2));
    // But what has no tick between its bounds never had one.
    let between = ScheduleSpec { rule: Rule::Once(at(20)), ..spec.clone() };
    for now in [NOON, at(99)] {
        let error = between.validate(now).unwrap_err();
        assert!(error.message().contains("would never fire"), "{error}");
    }
    let turned = ScheduleSpec { end: Some(at(3)), ..spec };
    assert!(turned.validate(NOON).unwrap_err().message().contains("before it starts"));
}

#[test]
fn a_single_time_fires_once_and_at_once_if_it_is_past() {
    for when in [NOON + MINUTE, NOON - MINUTE * 90] {
        let spec = ScheduleSpec { rule: Rule::Once(when), ..minutely() };
        let mut kept = Kept::new(spec.clone());
        assert_eq!((kept.run(NOON + MINUTE), kept.row().next), (vec![when], None));
        kept.put(spec, NOON + MINUTE * 2).unwrap();
        assert_eq!(kept.run(NOON + MINUTE * 3), []);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let cron = |expression: &str, tz: &str| Rule::Cron { expression: expression.into(), tz: tz.into() };
    let refused = |spec: ScheduleSpec| spec.validate(NOON).unwrap_err();
    for (rule, words) in [
        (cron("0 0 30 2 *", "UTC"), "never fires: no date fits it"),
        (cron("0 0 31 4,6 *", "UTC"), "never fires"),
        (cron("0 0 * * L", "UTC"), "never fires"),
        (cron("*/30 2 * 3 SUNL", "Europe/Rome"), "would never fire"),
        (cron("0 3 * * *", "Europe/Rom"), "no time zone \"Europe/Rom\""),
        (cron("61 * * * *", "UTC"), "wrong in its minute (\"61\")"),
        (cron("0 24 * * *", "UTC"), "wrong in its hour (\"24\")"),
        (cron("0 0 0 * *", "UTC"), "wrong in its day of month (\"0\")"),
        (cron("0 0 * 13 *", "UTC"), "wrong in its month (\"13\")"),
        (cron("0 0 * * MOX", "UTC"), "wrong in its day of week (\"MOX\")"),
        (cron("0 0 * * 1#6", "UTC"), "wrong in its day of week"),
        (cron("0 5-3 * * *", "UTC"), "wrong in its hour (\"5-3\")"),
        (cron("*/0 * * * *", "UTC"), "wrong in its minute (\"*/0\")"),
        (cron("1,,2 * * * *", "UTC"), "wrong in its minute (\"1,,2\")"),
        (cron("60 0 0 * * *", "UTC"), "wrong in its second"),
        (cron("* * * *", "UTC"), "has 4 fields"),
        (cron("0 0 0 1 1 * 2030", "UTC"), "has 7 fields"),
        (cron("", "UTC"), "has 0 fields"),
        (cron("@dayly", "UTC"), "no cron nickname \"@dayly\""),
        (cron("@reboot", "UTC"), "no cron nickname"),
        (Rule::Every(Duration::ZERO), "the interval is 0 seconds"),
        (Rule::Every(Duration::from_micros(10)), "the interval is 0.00001 seconds"),
    ] {
        let error = refused(ScheduleSpec { rule: rule.clone(), ..minutely() });
        assert!(error.code() == Code::InvalidSchedule && error.message().contains(words), "{rule}: {error}");
    }
    for catch_up in [CatchUp::All(0), CatchUp::All(100_000)] {
        assert_eq!(refused(ScheduleSpec { catch_up, ..minutely() }).code(), Code::InvalidSchedule);
    }
    for options in [
        Options { id: Some(id(1)), ..Options::default() },
        Options { unique_key: Some("mine".into()), ..Options::default() },
        Options { eta: Some(When::In(SECOND)), ..Options::default() },
        Options { deadline: Some(When::At(NOON)), ..Options::default() },
    ] {
        let template = Template { options, ..template() };
        assert_eq!(refused(ScheduleSpec { template, ..minutely() }).code(), Code::InvalidSchedule);
    }
    let name = ScheduleSpec { name: "two words".into(), ..minutely() };
    assert_eq!(refused(name).code(), Code::InvalidOption);
}

#[test]
fn an_update_is_looked_at_as_a_new_one_is() {
    let update = |kept: &mut Kept, spec: ScheduleSpec| {
        kept.apply(ScheduleOperation::Update { spec: Box::new(spec), chance: 0.0 }, NOON)
    };
    let mut kept = Kept::new(minutely());
    let before = kept.row().clone();
    for options in [
        Options { id: Some(id(1)), ..Options::default() },
        Options { unique_key: Some("mine".into()), ..Options::default() },
        Options { eta: Some(When::In(SECOND)), ..Options::default() },
        Options { expires: Some(When::At(NOON - SECOND)), ..Options::default() },
        Options { deadline: Some(When::At(NOON + MINUTE)), ..Options::default() },
    ] {
        let spec = ScheduleSpec { template: Template { options, ..template() }, ..minutely() };
        let put = ScheduleOperation::Put { spec: Box::new(spec.clone()), chance: 0.0 };
        for error in [update(&mut kept, spec).unwrap_err(), kept.apply(put, NOON).unwrap_err()] {
            assert_eq!(error.code(), Code::InvalidSchedule);
            assert!(error.message().contains("makes no sense for tasks that come again"), "{error}");
        }
        assert_eq!(*kept.row(), before, "nothing has changed");
    }
    let options = Options { expires: Some(When::In(MINUTE)), ..Options::default() };
    let good = ScheduleSpec { template: Template { options, ..template() }, ..minutely() };
    assert!(update(&mut kept, good).unwrap().changed);
}

#[test]
fn an_update_after_which_it_would_never_fire_is_refused() {
    let yearly = Rule::Cron { expression: "0 0 1 1 *".into(), tz: "UTC".into() };
    let mut kept = Kept::new(minutely());
    let before = kept.row().clone();
    let until = |rule: &Rule, end| ScheduleSpec { end: Some(end), rule: rule.clone(), ..minutely() };
    for spec in [
        until(&Rule::Every(MINUTE), NOON - MINUTE),
        until(&Rule::Every(MINUTE), NOON + SECOND),
        until(&yearly, NOON + SECOND),
        until(&Rule::Once(NOON + MINUTE), NOON),
    ] {
        let update = ScheduleOperation::Update { spec: Box::new(spec.clone()), chance: 0.0 };
        let error = kept.apply(update, NOON).unwrap_err();
        assert_eq!(error.code(), Code::InvalidSchedule);
        assert!(error.message().contains("would never fire"), "{error}");
        assert_eq!(*kept.row(), before, "nothing has changed");
    }
    // What is over may be given other settings, and a program that is started again may say it as it was.
    let over = until(&Rule::Every(MINUTE), NOON - MINUTE);
    kept.put(over.clone(), NOON).unwrap();
    assert_eq!(kept.row().next, None);
    let queued = ScheduleSpec { overlap: Overlap::Queue, ..over };
    kept.apply(ScheduleOperation::Update { spec: Box::new(queued), chance: 0.0 }, NOON).unwrap();
    assert_eq!((kept.row().next, kept.row().spec.overlap), (None, Overlap::Queue));
}
