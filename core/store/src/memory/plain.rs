//! The short ways of plain tasks: those that were eligible from the first, and ask for nothing but to be run.
//!
//! Such a task has no key, no time, no parent and no schedule, and keeps none: what a task asks for never changes. So
//! where nothing is limited ([`Gates::are_open`](super::gates::Gates::are_open)) there is nothing to see to but its row,
//! the table and the counts, and what its changes entail is known beforehand. The rules are the model's, as everywhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskloom_model::{Bytes, Effects, Error, Fence, Timestamp};

use super::MemoryStore;
use super::insert::exists;
use crate::{FreeEnd, Task};

impl MemoryStore {
    /// Whether a task has nothing to pass. One that was started over has another generation, which is found by its id.
    #[inline]
    pub(super) fn is_free(&self, task: &Task) -> bool {
        task.is_plain() && self.gates.are_open() && !task.is_superseded()
    }

    /// Adds a plain task.
    pub(super) fn add_plain(&self, task: &Arc<Task>) -> Result<(), Error> {
        self.reserve(1)?;
        if !self.tasks.insert(task) {
            self.submitters.0.count.fetch_sub(1, Ordering::Relaxed);
            return Err(exists(task));
        }
        Ok(())
    }

    /// Ends a free task well.
    #[inline]
    pub(super) fn end_free(
        &self,
        task: &Arc<Task>,
        fence: Fence,
        result: Bytes,
        now: Timestamp,
    ) -> Result<Effects, Error> {
        // It was running, and so not over; and it has no time to come.
        let effects = task.succeed(fence, result, now)?;
        self.retire_plain(task, now);
        Ok(effects)
    }

    /// Ends tasks well, as many of them as are free: what came of each.
    pub(super) fn end_all_free(
        &self,
        ended: &mut dyn Iterator<Item = FreeEnd<'_>>,
        now: Timestamp,
    ) -> Vec<Option<Result<(), Error>>> {
        let (mut gone, room) = (Vec::new(), ended.size_hint().0);
        let mut verdicts = Vec::with_capacity(room);
        let is_tidied = self.is_tidied();
        for (task, fence, result) in ended {
            let free = result.filter(|_| self.is_free(task));
            let verdict = free.map(|result| {
                if !is_tidied {
                    return self.end_free(task, fence, std::mem::take(result), now).map(drop);
                }
                task.succeed(fence, std::mem::take(result), now)?;
                gone.push(Arc::downgrade(task));
                Ok(())
            });
            verdicts.push(verdict);
        }
        if !gone.is_empty() {
            self.retire_all(gone, now);
        }
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use taskloom_model::{
        Admission, Limit, LimitFor, LimitRow, Name, Operation, Options, OwnerId, SetBy, State, TaskId, admit,
    };

    use std::time::Duration;

    use super::*;
    use crate::{Batch, Insert, MemoryOptions, Nobody, Store};

    const OWNER: OwnerId = OwnerId::new(1).unwrap();

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn task(number: u8, options: &Options) -> Arc<Task> {
        let admission = Admission::new(options).expect("they are valid");
        let id = TaskId::from_bytes([number; 16]);
        let (spec, row, _) =
            admit(&admission, id, Name::new("f"), Default::default(), at(1)).expect("it is small");
        Task::new(spec, row, None)
    }

    fn claim(store: &MemoryStore, task: &Arc<Task>) -> (Option<bool>, Vec<(Fence, Timestamp)>) {
        let mut noted = Vec::new();
        let answer = store.claim_freely(task, OWNER, at(2), &mut |fence, since| noted.push((fence, since)));
        (answer.map(|answer| answer.is_ok()), noted)
    }

    #[test]
    fn a_plain_task_is_claimed_and_begun_at_once() {
        let (store, task) = (MemoryStore::default(), task(1, &Options::default()));
        store.insert(std::slice::from_ref(&task), at(1)).unwrap();
        let fence = Fence { owner: OWNER, attempt: 1 };
        assert_eq!(claim(&store, &task), (Some(true), vec![(fence, at(1))]));
        assert!(task.is_current(fence));
        assert_eq!(task.begin(OWNER), None, "it has begun");
        assert_eq!(claim(&store, &task), (Some(false), vec![]), "it runs already");
        let mut result = Bytes::from(b"1");
        store.succeed_freely(&task, fence, &mut result, at(3)).expect("it is free").unwrap();
        assert!(result.is_empty(), "it was taken");
        let late = store.succeed_freely(&task, fence, &mut result, at(4)).expect("it is free");
        assert_eq!(late.unwrap_err().code(), taskloom_model::Code::LeaseLost);
        assert_eq!(task.with_row(|row| row.result.clone()).as_deref(), Some(&b"1"[..]));
        assert_eq!(store.counts().unwrap().get(State::Succeeded), 1);
    }

    #[test]
    fn one_that_is_ended_the_long_way_ends_alike() {
        let store = MemoryStore::default();
        let ended = [1, 2].map(|number| {
            let task = task(number, &Options::default());
            store.insert(std::slice::from_ref(&task), at(1)).unwrap();
            let fence = claim(&store, &task).1[0].0;
            let mut result = Bytes::from(b"1");
            if number == 1 {
                store.succeed_freely(&task, fence, &mut result, at(3)).expect("it is free").unwrap();
            } else {
                let succeed = Operation::Succeed { fence, result, metadata: None };
                let effects = store.change(&task, succeed, &mut Vec::new(), at(3)).unwrap();
                assert!(effects.finished() && effects.left == Some(fence));
            }
            task.with_row(Clone::clone)
        });
        assert_eq!(ended[0], ended[1]);
        assert_eq!((store.counts().unwrap().get(State::Succeeded), store.room()), (2, Some(1_000_000)));
    }

    #[test]
    fn what_is_not_free_takes_the_long_way() {
        let store = MemoryStore::default();
        let tagged = task(1, &Options { tags: vec!["a".into()], ..Options::default() });
        let plain = task(2, &Options::default());
        store.insert(&[Arc::clone(&tagged), Arc::clone(&plain)], at(1)).unwrap();
        assert_eq!(claim(&store, &tagged), (None, vec![]));
        let limit = Limit { concurrency: Some(1), ..Limit::default() };
        let row = LimitRow { what: LimitFor::Queue(Name::new("default")), by: SetBy::Operator, limit };
        store.set_limit(row, &mut Vec::new(), at(2)).unwrap();
        assert_eq!(claim(&store, &plain), (None, vec![]));
        let fence = Fence { owner: OWNER, attempt: 1 };
        let mut result = Bytes::from(b"1");
        for task in [tagged, plain] {
            assert!(store.succeed_freely(&task, fence, &mut result, at(3)).is_none());
        }
        assert_eq!(&*result, b"1", "it is left");
    }

    #[test]
    fn lots_of_ended_tasks_are_forgotten_in_their_order_one_by_one() {
        let options = MemoryOptions { keep_finished: 5, ..MemoryOptions::default() };
        let store = MemoryStore::new(options);
        assert!(!store.tidy(100, at(1)), "somebody tidies up, and there is nothing to do");
        let unique = Options { unique_key: Some("k".into()), ..Options::default() };
        let unique = Options { unique_for: Some(Duration::from_micros(100)), ..unique };
        let tasks: Vec<_> = (1..=20)
            .map(|number| if number == 3 { task(number, &unique) } else { task(number, &Options::default()) })
            .collect();
        for one in &tasks {
            let insert = Insert { tasks: vec![Arc::clone(one)], verdict: None };
            store.write(&mut Batch { inserts: vec![insert], ..Batch::default() }, &Nobody, at(1)).unwrap();
        }
        let fence = Fence { owner: OWNER, attempt: 1 };
        for one in &tasks {
            let claim = Operation::Claim { owner: OWNER };
            store.change(one, claim, &mut Vec::new(), at(2)).unwrap();
        }
        let room = store.room().unwrap();
        // The third has a key, and is ended between the lots.
        let mut results = vec![Bytes::from(b"1"); tasks.len()];
        let mut ends = tasks.iter().zip(&mut results).map(|(task, result)| (task, fence, Some(result)));
        let verdicts = store.succeed_all_freely(&mut ends, at(3));
        assert_eq!(verdicts.iter().position(Option::is_none), Some(2));
        assert!(verdicts.iter().flatten().all(Result::is_ok));
        let succeed = Operation::Succeed { fence, result: b"1".into(), metadata: None };
        store.change(&tasks[2], succeed, &mut Vec::new(), at(3)).unwrap();
        assert_eq!(store.room(), Some(room + 20));
        let known = || {
            let is_known = |task: &&Arc<Task>| store.get(task.id(), &Nobody).unwrap().is_some();
            tasks.iter().filter(is_known).map(|task| task.id().as_bytes()[0]).collect::<Vec<_>>()
        };
        assert_eq!(known().len(), 20, "nobody has tidied up since");
        assert!(store.tidy(10, at(4)), "there are more");
        assert_eq!(
            known().first_chunk(),
            Some(&[3, 12, 13]),
            "the oldest ten are gone; the one between the lots came after them"
        );
        assert!(!store.tidy(100, at(4)));
        assert_eq!(known(), [3, 17, 18, 19, 20], "its key is kept");
        assert!(!store.tidy(100, at(200)));
        let again = task(21, &Options::default());
        store.insert(std::slice::from_ref(&again), at(200)).unwrap();
        claim(&store, &again);
        let mut result = Bytes::from(b"1");
        let mut ends = std::iter::once((&again, fence, Some(&mut result)));
        assert!(matches!(store.succeed_all_freely(&mut ends, at(201))[..], [Some(Ok(()))]));
        assert!(!store.tidy(100, at(201)));
        assert_eq!(known(), [3, 18, 19, 20], "the line is as long as it should be");
    }

    #[test]
    fn where_none_are_kept_a_lot_is_forgotten_at_once() {
        for is_tidied in [false, true] {
            let store = MemoryStore::new(MemoryOptions { keep_finished: 0, ..MemoryOptions::default() });
            if is_tidied {
                store.tidy(1, at(1));
            }
            let tasks: Vec<_> = (1..=3).map(|number| task(number, &Options::default())).collect();
            store.insert(&tasks, at(1)).unwrap();
            let fence = Fence { owner: OWNER, attempt: 1 };
            tasks.iter().for_each(|task| drop(claim(&store, task)));
            let mut results = vec![Bytes::default(); 3];
            let mut ends = tasks.iter().zip(&mut results).map(|(task, result)| (task, fence, Some(result)));
            assert!(store.succeed_all_freely(&mut ends, at(3)).iter().flatten().all(Result::is_ok));
            assert!(tasks.iter().all(|task| store.get(task.id(), &Nobody).unwrap().is_none()));
            assert_eq!(store.room(), Some(1_000_000));
        }
    }

    #[test]
    fn an_id_is_taken_once() {
        let store = MemoryStore::default();
        let insert = || store.insert(&[task(1, &Options::default())], at(1));
        insert().unwrap();
        assert_eq!(insert().unwrap_err().code(), taskloom_model::Code::DuplicateId);
        assert_eq!(store.room(), Some(999_999));
    }
}
