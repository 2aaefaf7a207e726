//! Changes on a resident store: made on the calling thread, and followed there by what follows from them.

use std::sync::Arc;

use taskloom_model::{Effects, Operation, Result, Timestamp};
use taskloom_store::{Change, Task};

use crate::core::Core;

/// Makes a change on the calling thread, and lets its effects follow; but if its worker ended the task, that settles it.
pub(crate) fn change_inline(
    core: &Arc<Core>,
    task: &Arc<Task>,
    operation: Operation,
    by_its_worker: bool,
    now: Timestamp,
) -> Result<Effects> {
    let mut consequences = Vec::new();
    let effects = core.store.change(task, operation, &mut consequences, now)?;
    Ok(follow_inline(core, task, effects, consequences, by_its_worker))
}

/// What follows from a change that was made on the calling thread.
pub(crate) fn follow_inline(
    core: &Arc<Core>,
    task: &Arc<Task>,
    effects: Effects,
    mut consequences: Vec<Change>,
    by_its_worker: bool,
) -> Effects {
    if effects.finished() {
        core.room.made();
    }
    if by_its_worker && effects.finished() {
        core.hear_of_key(task);
        core.announce_end(task, &effects);
    } else {
        core.follow(task, effects, by_its_worker);
    }
    if !consequences.is_empty() {
        core.follow_all(&mut consequences);
    }
    effects
}
