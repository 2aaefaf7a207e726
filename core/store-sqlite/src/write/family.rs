//! Cancels that follow from another change: of a task whose unique key is taken over, of the children of a task that
//! is cancelled, of their children.
//!
//! A child whose row makes no sense is left alone: that its parent is cancelled must not depend on it, and whoever
//! comes upon it will hear of it.

use std::ops::Range;

use rusqlite::OptionalExtension;
use taskloom_model::{Operation, Parent, TaskId, Unique};

use super::{Sql, Told, Writing};
use crate::rows::Fault;

impl Writing<'_> {
    /// Cancels tasks whose keys were taken over. Those that have ended only kept them, and stay as they are.
    pub(super) fn replace(&mut self, places: Vec<usize>) -> Result<(), Fault> {
        for place in places {
            if self.cancel(place, Unique::TAKEN_OVER.into())? {
                self.cancel_children(place)?;
            }
        }
        Ok(())
    }

    /// Cancels what a task that was cancelled has submitted, and what that has. (No recursion: families may be deep.)
    pub(super) fn cancel_children(&mut self, place: usize) -> Result<(), Fault> {
        let mut line = vec![self.children(place)];
        while let Some((parent, left)) = line.last_mut() {
            let parent = *parent;
            let Some(ordinal) = left.next() else {
                line.pop();
                continue;
            };
            if let Some(child) = self.unfinished_child(parent, ordinal)?
                && self.cancel(child, Parent::reason(parent))?
            {
                line.push(self.children(child));
            }
        }
        Ok(())
    }

    /// Cancels a task, and tells it as a consequence; whether it had not ended.
    pub(super) fn cancel(&mut self, place: usize, reason: Box<str>) -> Result<bool, Fault> {
        let effects = self.apply(place, Operation::Cancel { reason: Some(reason) })?;
        if effects.moved() {
            self.told.push((Told::Place(place), effects));
        }
        Ok(effects.moved())
    }

    /// A task's id, and the ordinals of its children.
    fn children(&self, place: usize) -> (TaskId, Range<u32>) {
        let touched = &self.touched[place];
        (touched.id(), 0..touched.row.history.as_ref().map_or(0, |history| history.children))
    }

    /// A child that goes with its parent.
    fn unfinished_child(&mut self, parent: TaskId, ordinal: u32) -> Result<Option<usize>, Fault> {
        let id = parent.child(ordinal);
        let statement = self.statements.get(self.conn, Sql::UnfinishedById)?;
        let seq = statement.query_row([id.as_bytes().as_slice()], |stored| stored.get(0)).optional()?;
        let Some(seq) = seq else { return Ok(None) };
        match self.find(seq, id) {
            Ok(place) => {
                let above = self.touched[place].home.spec().parent();
                Ok(above.is_some_and(|above| above.takes_along(parent)).then_some(place))
            }
            Err(Fault::Task(..)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}
