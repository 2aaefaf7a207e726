//! What an operator does with schedules: make, look at, change, fire by hand.

use taskloom_model::{
    Code, Error, Result, Rule, ScheduleEffects, ScheduleOperation, ScheduleRow, ScheduleSpec, Timestamp,
    Zone, nearest,
};

use crate::{Engine, Handle};

impl Engine {
    /// Makes a schedule; or, if there is one of this name, gives it what is asked for now. Its history stays (counts,
    /// last firing, whether it is enabled), and its next tick too unless its rule, start or end is another; so a
    /// process may say what its schedules are each time that it starts.
    ///
    /// The options of what it submits are made complete here: what they do not say comes from the handler's own. Each
    /// firing can then be submitted by any process that is started, whether or not it has the handler.
    ///
    /// Errors: `InvalidSchedule` for one that makes no sense or would never fire; `UnknownHandler` if its handler is not
    /// registered here; those of [`Engine::admission`]; `NotSupported` if the store keeps none.
    pub fn put_schedule(&self, spec: ScheduleSpec) -> Result<ScheduleRow> {
        self.core.check_open(true)?;
        let spec = self.complete(spec)?;
        let name = spec.name.clone();
        let chance = self.core.chance.unit();
        self.change(&name, ScheduleOperation::Put { spec: Box::new(spec), chance })?;
        self.known(&name)
    }

    /// Changes what is asked of a schedule.
    ///
    /// Errors: `UnknownSchedule`, with the nearest name; those of [`Engine::put_schedule`].
    pub fn update_schedule(&self, name: &str, change: impl FnOnce(&mut ScheduleSpec)) -> Result<ScheduleRow> {
        self.core.check_open(true)?;
        let mut spec = self.known(name)?.spec;
        change(&mut spec);
        name.clone_into(&mut spec.name);
        let spec = self.complete(spec)?;
        let chance = self.core.chance.unit();
        self.change(name, ScheduleOperation::Update { spec: Box::new(spec), chance })?;
        self.known(name)
    }

    fn complete(&self, mut spec: ScheduleSpec) -> Result<ScheduleSpec> {
        if let Rule::Cron { tz, .. } = &mut spec.rule {
            // As the database writes it, so that another spelling is not another rule.
            Zone::named(tz)?.name().clone_into(tz);
        }
        let template = &mut spec.template;
        let entry = match template.options.version {
            Some(version) => self.handler_version(&template.handler, version)?,
            None => self.handler(&template.handler)?,
        };
        template.options.validate_submit(entry.options())?;
        template.options = template.options.over(entry.options());
        self.admission(&template.options)?;
        Ok(spec)
    }

    /// All schedules, by name.
    pub fn schedules(&self) -> Result<Vec<ScheduleRow>> {
        self.core.check_process()?;
        self.core.store.schedules()
    }

    /// The schedule of this name.
    pub fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>> {
        self.core.check_process()?;
        self.core.store.schedule(name)
    }

    /// The next times at which a schedule fires, by its rule: none once it is over, or while it is disabled.
    ///
    /// Errors: `UnknownSchedule`, with the nearest name.
    pub fn next_firings(&self, name: &str, count: usize) -> Result<Vec<Timestamp>> {
        self.core.check_process()?;
        self.known(name)?.firings(count)
    }

    /// Lets a schedule fire, from now on: what it missed while it was disabled is past. Whether that was new.
    ///
    /// Errors: `UnknownSchedule`, with the nearest name.
    pub fn enable_schedule(&self, name: &str) -> Result<bool> {
        let chance = self.core.chance.unit();
        Ok(self.change(name, ScheduleOperation::Enable { chance })?.changed)
    }

    /// Stops a schedule from firing, until it is enabled; ticks that wait for the last task are dropped. What it has
    /// submitted goes on. Whether that was new.
    ///
    /// Errors: `UnknownSchedule`, with the nearest name.
    pub fn disable_schedule(&self, name: &str) -> Result<bool> {
        Ok(self.change(name, ScheduleOperation::Disable)?.changed)
    }

    /// Takes a schedule away, with its counts. What it has submitted goes on.
    ///
    /// Errors: `UnknownSchedule`, with the nearest name.
    pub fn remove_schedule(&self, name: &str) -> Result<()> {
        self.change(name, ScheduleOperation::Remove).map(drop)
    }

    /// Submits a task of a schedule now, by hand: even if it is disabled, and whatever its last task does. The next tick
    /// stays.
    ///
    /// Errors: `UnknownSchedule`, with the nearest name; those of a submit.
    pub fn trigger_schedule(&self, name: &str) -> Result<Handle> {
        let core = &self.core;
        core.check_open(true)?;
        let row = self.known(name)?;
        let now = core.clock.now();
        let task = core.firing(&row, now, now)?;
        let operation = ScheduleOperation::Trigger { task: task.id() };
        let (_, is_new) = core
            .change_schedule(name, operation, Some(&task), now)
            .map_err(|error| self.explain(name, error))?;
        if is_new {
            core.settle_if_stopped(&task);
            return Ok(Handle::new(task, core));
        }
        // Somebody else has triggered it in this very microsecond.
        let known = self.known(name)?.last_task.map(|id| core.find(id)).transpose()?.flatten();
        let known = known
            .ok_or_else(|| Error::new(Code::UnknownTask, format!("the task of schedule {name:?} is gone")))?;
        Ok(Handle::new(core.hold(known), core))
    }

    fn change(&self, name: &str, operation: ScheduleOperation) -> Result<ScheduleEffects> {
        let core = &self.core;
        core.check_open(true)?;
        match core.change_schedule(name, operation, None, core.clock.now()) {
            Ok((effects, _)) => Ok(effects),
            Err(error) => Err(self.explain(name, error)),
        }
    }

    fn known(&self, name: &str) -> Result<ScheduleRow> {
        self.core.store.schedule(name)?.ok_or_else(|| self.unknown(name))
    }

    fn explain(&self, name: &str, error: Error) -> Error {
        if error.code() == Code::UnknownSchedule { self.unknown(name) } else { error }
    }

    fn unknown(&self, name: &str) -> Error {
        let error = Error::new(Code::UnknownSchedule, format!("there is no schedule {name:?}"));
        let rows = self.core.store.schedules().unwrap_or_default();
        let names = || rows.iter().map(|row| row.spec.name.as_str());
        match nearest(name, names()) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None if rows.is_empty() => error.hint("there are none; app.cron and app.every make some"),
            None => error.hint(format!("there are {}", names().take(10).collect::<Vec<_>>().join(", "))),
        }
    }
}
