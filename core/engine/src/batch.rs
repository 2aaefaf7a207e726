//! One transaction: from what was handed in to what follows.

use std::sync::Arc;

use taskloom_model::{Effects, Error, Fence, Operation, OwnerId, next_due};
use taskloom_store::{Batch, Commit, Insert, Task};

use crate::answer::Reply;
use crate::claims::{More, Room};
use crate::core::Core;
use crate::failpoint;
use crate::reports::Told;

/// Who asked for a change.
pub(crate) enum Origin {
    /// A worker reports; nobody waits.
    Worker,
    /// Somebody waits for the answer.
    Caller(Reply<Effects>),
    /// The engine gives back a task that was claimed ahead and has not begun, and waits for the answer.
    Unbegun(Reply<Effects>),
    /// A handler told its progress, or logged.
    Told,
}

impl Origin {
    pub(crate) fn refuse(self, error: &Error) {
        if let Self::Caller(reply) | Self::Unbegun(reply) = self {
            reply.give(Err(error.duplicate()));
        }
    }
}

/// What to write.
pub(crate) struct Work {
    pub(crate) inserts: Vec<(Insert, Reply<Vec<Arc<Task>>>)>,
    pub(crate) commits: Vec<(Commit, Origin)>,
    pub(crate) room: Option<Room>,
    /// Reports will not be tried again.
    pub(crate) last_try: bool,
    /// Whether what comes meanwhile may be written with it.
    pub(crate) is_open: bool,
}

/// What is left to do.
#[derive(Default)]
pub(crate) struct Left {
    /// Routes for which the store may hold more.
    pub(crate) more: More,
    /// Reports to be tried again.
    pub(crate) reports: Vec<(Commit, Origin)>,
    /// Whether the store did its part.
    pub(crate) healthy: bool,
}

/// Writes, and lets the effects follow.
pub(crate) fn write(core: &Arc<Core>, mut work: Work) -> Left {
    core.note_handlers();
    // First the progress: what a handler told before its end is refused after it.
    let mut told: Vec<_> = std::mem::take(&mut *core.told.lock()).into_values().collect();
    // Not in the order of a hash table: the same run is to give the same batches.
    told.sort_unstable_by_key(|told| told.task.id());
    let told = told.into_iter().flat_map(|Told { task, fence, progress, lines, dropped }| {
        let progress = progress.map(|progress| Operation::Progress { fence, progress });
        let log = (!lines.is_empty()).then_some(Operation::Log { fence, lines, dropped });
        let commit =
            move |operation| (Commit { task: Arc::clone(&task), operation, spawn: Vec::new() }, Origin::Told);
        progress.into_iter().chain(log).map(commit)
    });
    work.commits.splice(0..0, told);
    transact(core, work)
}

fn transact(core: &Arc<Core>, work: Work) -> Left {
    let Work { inserts, commits, room, last_try, is_open } = work;
    let others = commits.len() + usize::from(room.is_some());
    let (inserts, mut replies): (Vec<_>, Vec<_>) = inserts.into_iter().unzip();
    let (commits, origins): (Vec<_>, Vec<_>) = commits.into_iter().unzip();
    let (routes, limit) = room.as_ref().map_or((More::default(), 0), |room| (room.routes, room.claim.limit));
    let mut batch = Batch { inserts, commits, claim: room.map(|room| room.claim), ..Batch::default() };
    if batch.is_empty() {
        return Left { healthy: true, ..Left::default() };
    }
    // The store takes what it has written out of the batch.
    let claim = batch.claim.clone();
    let about =
        |commit: &Commit| (Arc::clone(&commit.task), (commit.operation.fence(), commit.operation.name()));
    let commits: Vec<_> = batch.commits.iter().map(about).collect();
    let mut born = births(core, &batch.inserts);
    failpoint::reached("before the commit");
    let mut late = || {
        let came = if is_open { core.committer.late(core, replies.len()) } else { Vec::new() };
        let (inserts, new): (Vec<_>, Vec<_>) = came.into_iter().unzip();
        replies.extend(new);
        born.extend(births(core, &inserts));
        (inserts, core.clock.now())
    };
    match core.store.write_with(&mut batch, &mut late, &core.live, core.clock.now()) {
        Ok(()) => {
            failpoint::reached("after the commit");
            let more = if batch.claimed.len() >= limit { routes } else { More::default() };
            let more = if core.hear_of_gates() { More::ALL } else { more };
            let changed =
                commits.into_iter().zip(origins).map(|((task, about), origin)| (task, about, origin));
            announce_births(core, &batch.inserts, born);
            follow(core, batch, replies, changed, claim.map(|claim| claim.owner));
            failpoint::reached("after the effects");
            Left { more, healthy: true, ..Left::default() }
        }
        Err(error) => {
            let parts = batch.inserts.len() + others;
            let inserts = batch.inserts.into_iter().zip(replies).collect();
            let commits = batch.commits.into_iter().zip(origins).collect();
            let room = claim.map(|claim| Room { claim, routes });
            let work = Work { inserts, commits, room, last_try, is_open: false };
            if parts > 1 && !error.code().is_retryable() {
                one_by_one(core, work)
            } else {
                refuse(core, &error, work)
            }
        }
    }
}

/// The store will not take this batch, today or tomorrow: something in it cannot be. The rest must not suffer.
fn one_by_one(core: &Arc<Core>, work: Work) -> Left {
    let last_try = work.last_try;
    let part = || Work { inserts: Vec::new(), commits: Vec::new(), room: None, last_try, is_open: false };
    let inserts = work.inserts.into_iter().map(|insert| Work { inserts: vec![insert], ..part() });
    let commits = work.commits.into_iter().map(|commit| Work { commits: vec![commit], ..part() });
    let claim = work.room.into_iter().map(|room| Work { room: Some(room), ..part() });
    let mut left = Left { healthy: true, ..Left::default() };
    for part in inserts.chain(commits).chain(claim) {
        let more = transact(core, part);
        left.healthy &= more.healthy;
        left.more = left.more.with(more.more);
        left.reports.extend(more.reports);
    }
    left
}

/// Nothing was written: whoever waits hears of it; reports are kept for another try, unless it would be pointless.
fn refuse(core: &Arc<Core>, error: &Error, work: Work) -> Left {
    for (insert, reply) in work.inserts {
        insert.tasks.iter().for_each(|task| core.live.forget(task));
        reply.give(Err(error.duplicate()));
    }
    let mut reports = Vec::new();
    for (commit, origin) in work.commits {
        match origin {
            Origin::Worker if error.code().is_retryable() && !work.last_try => reports.push((commit, origin)),
            Origin::Worker => {
                core.count_late_report(&commit.task, (commit.operation.fence(), commit.operation.name()));
            }
            other => other.refuse(error),
        }
    }
    Left { more: work.room.map_or_else(More::default, |room| room.routes), reports, healthy: false }
}

/// What may have to be told of each insert's tasks: as they are before it, since they may be claimed along with it.
fn births(core: &Core, inserts: &[Insert]) -> Vec<Vec<(Arc<Task>, Effects)>> {
    if !core.wants_births() {
        return Vec::new();
    }
    let birth = |task: &Arc<Task>| (Arc::clone(task), crate::core::birth(task));
    inserts.iter().map(|insert| insert.tasks.iter().map(birth).collect()).collect()
}

/// Tells of the tasks that came into being, before anything else is told of them.
fn announce_births(core: &Arc<Core>, inserts: &[Insert], born: Vec<Vec<(Arc<Task>, Effects)>>) {
    for (insert, born) in inserts.iter().zip(born) {
        if insert.verdict.as_ref().is_none_or(Result::is_ok) {
            for ((task, effects), stands) in born.iter().zip(&insert.tasks) {
                // Another one stands in its place if it had the unique key.
                if task.id() == stands.id() {
                    core.announce(task, effects, false);
                }
            }
        }
    }
}

/// What follows once a batch is committed.
fn follow(
    core: &Arc<Core>,
    mut batch: Batch,
    replies: Vec<Reply<Vec<Arc<Task>>>>,
    changed: impl Iterator<Item = (Arc<Task>, (Option<Fence>, &'static str), Origin)>,
    claimer: Option<OwnerId>,
) {
    let mut due = None;
    for insert in &mut batch.inserts {
        let accepted = insert.verdict.as_ref().is_none_or(Result::is_ok);
        for task in &mut insert.tasks {
            if accepted {
                // One that has a unique key may stand for another.
                *task = core.live.adopt(Arc::clone(task));
                let time = task.with_row(|row| next_due(task.spec(), row));
                due = [due, time].into_iter().flatten().min();
            } else {
                core.live.forget(task);
            }
        }
    }
    if let Some(due) = due {
        core.timers.set(due);
    }
    // First what was claimed, so that workers can begin while the rest is told.
    if !batch.claimed.is_empty() {
        core.reach.filled(core);
    }
    for task in batch.claimed.drain(..) {
        let task = shown(core, task);
        if claimer == Some(core.owner()) {
            core.enqueue(task);
        } else {
            // This process was struck off, and has a new number, since it decided on the claim.
            core.give_back(task);
        }
    }
    for (insert, reply) in batch.inserts.into_iter().zip(replies) {
        reply.give(insert.verdict.unwrap_or(Ok(())).map(|()| insert.tasks));
    }
    // Tasks that another process has ended: this write was the first here to see that.
    let mut ended = Vec::new();
    for ((task, about, origin), verdict) in changed.zip(batch.verdicts) {
        let had_ended = !matches!(&verdict, Ok(effects) if effects.moved());
        match (verdict, origin) {
            (Ok(effects), Origin::Worker | Origin::Told) => core.follow(&task, effects, true),
            (Ok(effects), Origin::Caller(reply)) => {
                core.follow(&task, effects, false);
                reply.give(Ok(effects));
            }
            (Ok(effects), Origin::Unbegun(reply)) => {
                core.follow(&task, effects, true);
                reply.give(Ok(effects));
            }
            (Err(_), Origin::Worker) => core.count_late_report(&task, about),
            (Err(_), Origin::Told) => {}
            (Err(error), Origin::Caller(reply) | Origin::Unbegun(reply)) => reply.give(Err(error)),
        }
        if had_ended && task.state().is_terminal() {
            ended.push(task);
        }
    }
    core.follow_all(&mut batch.consequences);
    ended.iter().for_each(Task::settle);
}

/// The copy of a claimed task that everybody here shows: another reader may have been faster.
fn shown(core: &Core, task: Arc<Task>) -> Arc<Task> {
    let shows = |shown: &Arc<Task>| {
        Arc::ptr_eq(shown, &task) || shown.replace_row(task.with_row(Clone::clone)).is_none()
    };
    let shown = core.live.adopt(Arc::clone(&task));
    if shows(&shown) {
        return shown;
    }
    // It has settled in between.
    let shown = core.live.adopt(Arc::clone(&task));
    shows(&shown);
    shown
}
