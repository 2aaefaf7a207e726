//! After the commit: the batch gets its answers, and the tasks in memory their rows.

use std::sync::Arc;

use taskloom_model::{Effects, Row};
use taskloom_store::{Batch, Change, Task};

use super::{Home, Told, Writing};

impl Writing<'_> {
    /// Tells what became of a batch that is committed.
    pub(crate) fn answer(mut self, batch: &mut Batch) {
        for (insert, verdict) in batch.inserts.iter_mut().zip(std::mem::take(&mut self.inserts)) {
            insert.verdict = Some(verdict);
        }
        batch.commits.clear();
        batch.claim = None;
        batch.verdicts.append(&mut self.verdicts);
        let stand_ins = std::mem::take(&mut self.stand_ins);
        let claimed = std::mem::take(&mut self.claimed);
        let told = std::mem::take(&mut self.told);
        let tasks = self.show();
        for (insert, index, other) in stand_ins {
            batch.inserts[insert].tasks[index] = other.task(&tasks);
        }
        tell(told, &tasks, &mut batch.consequences);
        batch.claimed.extend(claimed.into_iter().map(|place| Arc::clone(&tasks[place])));
    }

    /// Tells which tasks a committed transaction changed.
    pub(crate) fn tell(mut self, changes: &mut Vec<Change>) {
        let told = std::mem::take(&mut self.told);
        tell(told, &self.show(), changes);
    }

    /// Replaces the rows in memory; the tasks, in their places.
    fn show(self) -> Vec<Arc<Task>> {
        let show = |touched: super::Touched| {
            let superseded = touched.superseded;
            for twin in touched.twins {
                replace(&twin, touched.row.clone(), superseded);
            }
            match touched.home {
                // Nothing more happens to it there.
                Home::Held(task)
                    if superseded && task.is_final() && task.with_row(|row| *row != touched.row) =>
                {
                    task.supersede(touched.row.clone());
                    let new = Task::new(task.spec().clone(), touched.row.clone(), None);
                    new.supersede(touched.row);
                    new
                }
                Home::Held(task) => match replace(&task, touched.row, superseded) {
                    None => task,
                    Some(row) => Task::new(task.spec().clone(), row, None),
                },
                Home::Read(spec) => {
                    let task = Task::new(*spec, touched.row.clone(), None);
                    if superseded {
                        task.supersede(touched.row);
                    }
                    task
                }
            }
        };
        self.touched.into_iter().map(show).collect()
    }
}

impl Told {
    fn task(self, tasks: &[Arc<Task>]) -> Arc<Task> {
        match self {
            Self::Task(task) => task,
            Self::Place(place) => Arc::clone(&tasks[place]),
        }
    }
}

fn tell(told: Vec<(Told, Effects)>, tasks: &[Arc<Task>], changes: &mut Vec<Change>) {
    let change = |(told, effects): (Told, Effects)| Change { task: told.task(tasks), effects };
    changes.extend(told.into_iter().map(change));
}

/// A task that has settled, or was started over, keeps the outcome that its handles are told. What another one is to show
/// is returned.
fn replace(task: &Task, row: Row, superseded: bool) -> Option<Row> {
    if superseded {
        task.supersede(row);
    } else if task.with_row(|shown| *shown != row) {
        return task.replace_row(row);
    }
    None
}
