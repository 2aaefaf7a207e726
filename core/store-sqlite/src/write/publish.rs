//! After the commit: the batch gets its answers, and the tasks in memory their rows.

use std::sync::Arc;

use taskloom_model::Row;
use taskloom_store::{Batch, Change, Task};

use super::{Home, Writing};

impl Writing<'_> {
    /// Tells what became of a batch that is committed.
    pub(crate) fn answer(mut self, batch: &mut Batch) {
        for (insert, verdict) in batch.inserts.iter_mut().zip(std::mem::take(&mut self.inserts)) {
            insert.verdict = Some(verdict);
        }
        batch.commits.clear();
        batch.claim = None;
        batch.verdicts.append(&mut self.verdicts);
        batch.consequences.append(&mut self.spawned);
        let claimed = std::mem::take(&mut self.claimed);
        let tasks = self.show();
        batch.claimed.extend(claimed.into_iter().map(|place| Arc::clone(&tasks[place])));
    }

    /// Tells which tasks a committed transaction changed.
    pub(crate) fn tell(mut self, changes: &mut Vec<Change>) {
        let changed = std::mem::take(&mut self.changed);
        let tasks = self.show();
        changes.extend(
            changed.into_iter().map(|(place, effects)| Change { task: Arc::clone(&tasks[place]), effects }),
        );
    }

    /// Replaces the rows in memory; the tasks, in their places.
    fn show(self) -> Vec<Arc<Task>> {
        let show = |touched: super::Touched| {
            for twin in touched.twins {
                replace(&twin, touched.row.clone());
            }
            match touched.home {
                Home::Held(task) => {
                    replace(&task, touched.row);
                    task
                }
                Home::Read(spec) => Task::new(*spec, touched.row, None),
            }
        };
        self.touched.into_iter().map(show).collect()
    }
}

/// A task that has settled keeps the outcome that its handles were told.
fn replace(task: &Task, row: Row) {
    if !task.is_settled() {
        task.replace_row(row);
    }
}
