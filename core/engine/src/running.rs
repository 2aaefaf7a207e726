//! What is being run right now: who must be told when an attempt is cancelled or takes too long.
//!
//! Every worker thread has a [`Seat`]; every attempt on an event loop has a place in a list, whose number its task keeps
//! (that of the latest attempt: an earlier one may still run whose time was up, and is found by a table of such).
//! Both are written when an attempt begins and when it ends, and read by the timer service. Seats are few, so it looks at all of them. On loops
//! thousands of attempts may be in flight that have no timeout and that nobody calls off; so those that must be looked at
//! have a line in an agenda, in the order of their times. An attempt that ends takes its line with it: nothing is left
//! behind by those that end in time. One that does not end although it was called off is *given up*: its thread gets a
//! replacement, its place on a loop goes to another.
//!
//! A seat's lock is never held while a handler runs, or any other code of a user's. A worker holds it from before it
//! takes a task from a lane until the attempt is written down, or will not be. So whoever shuts a queue and then goes
//! through all seats ([`Running::wait_for_begins`]) knows that each task that was taken before is one that runs, and
//! that no other will be taken.
//!
//! Whoever begins an attempt looks, once it is written down here, whether it still counts: whoever calls it off changes
//! the task first and looks here after that. So one of the two sees the other, and no attempt that was called off goes
//! unnoticed. Who claims a plain task writes it down in the moment of the claim, under the task's own lock, and need not
//! look: who changes the task after that finds the seat taken, or the place on the loop. (The seat's lock and that of the
//! list come before the task's, here as where the timers look at all attempts.)

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use taskloom_model::{Fence, TaskId, Timestamp};
use taskloom_store::Task;

use crate::stats::RunningStats;

/// How long after its attempt was called off a worker thread counts as stuck and is replaced, and a place on a loop goes
/// to another attempt.
const GRACE: Duration = Duration::from_millis(200);

/// A handler that was called off is told again after this time, then after twice that, up to a second.
const FIRST_REMINDER: Duration = Duration::from_millis(20);

/// A timeout that could not be committed is tried again after this time.
const NEXT_TRY: Duration = Duration::from_secs(1);

/// An attempt in progress.
pub(crate) struct Current {
    pub(crate) task: Arc<Task>,
    pub(crate) fence: Fence,
    /// Whether it has one of the places that a loop has, and others wait for.
    has_place: bool,
    /// Boxed: few attempts are looked at, and each is moved about with what it has.
    watch: Option<Box<Watch>>,
}

/// Of an attempt that is looked at: why, and when.
#[derive(Default)]
struct Watch {
    /// When it has taken too long, on the monotonic clock.
    deadline: Option<Duration>,
    called_off: Option<CalledOff>,
    /// Its line in the agenda; of an attempt on a loop.
    look_at: Option<Duration>,
}

struct CalledOff {
    since: Duration,
    remind_at: Duration,
    pause: Duration,
    given_up: bool,
}

/// What the timer service has to do about an attempt.
#[derive(Debug)]
pub(crate) enum Due {
    /// It took too long: commit the timeout.
    TimeOut(Arc<Task>, Fence),
    /// It was called off and still runs: tell it again.
    Remind(Arc<Task>, Fence),
    /// Its thread does not come back: put another in its place.
    Replace(Arc<Task>, Fence),
    /// It keeps its place on a loop: give that to another one, too.
    Lend(Arc<Task>, Fence),
}

impl Current {
    pub(crate) fn new(task: Arc<Task>, fence: Fence, deadline: Option<Duration>) -> Self {
        let watch = |deadline| Box::new(Watch { deadline: Some(deadline), ..Watch::default() });
        Self { task, fence, has_place: false, watch: deadline.map(watch) }
    }

    /// The same, in a place that others wait for.
    pub(crate) fn in_place(self, has_place: bool) -> Self {
        Self { has_place, ..self }
    }

    /// Whether nobody waits for its end any more.
    fn is_given_up(&self) -> bool {
        self.watch.as_ref().and_then(|watch| watch.called_off.as_ref()).is_some_and(|off| off.given_up)
    }

    fn watch(&mut self) -> &mut Watch {
        self.watch.get_or_insert_default()
    }

    fn called_off(&mut self) -> Option<&mut CalledOff> {
        self.watch.as_mut()?.called_off.as_mut()
    }

    /// Gives it up; whether it was called off and has not been given up yet.
    fn give_up(&mut self) -> bool {
        self.called_off().is_some_and(|off| !std::mem::replace(&mut off.given_up, true))
    }

    fn is(&self, task: &Task, fence: Fence) -> bool {
        self.fence == fence && (std::ptr::eq(&raw const *self.task, task) || self.task.id() == task.id())
    }

    /// Collects what is due, and returns when to look again.
    fn step(&mut self, monotonic: Duration, on_thread: bool, due: &mut Vec<Due>) -> Option<Duration> {
        let due_for =
            |make: fn(Arc<Task>, Fence) -> Due, task: &Arc<Task>, fence| make(Arc::clone(task), fence);
        if self.called_off().is_none() && !self.task.is_current(self.fence) {
            let remind_at = monotonic + FIRST_REMINDER;
            let off = CalledOff { since: monotonic, remind_at, pause: FIRST_REMINDER, given_up: false };
            self.watch().called_off = Some(off);
        }
        let watch = self.watch.as_mut()?;
        if let Some(off) = &mut watch.called_off {
            if monotonic >= off.remind_at {
                due.push(due_for(Due::Remind, &self.task, self.fence));
                off.pause = (off.pause * 2).min(Duration::from_secs(1));
                off.remind_at = monotonic + off.pause;
            }
            if off.given_up || !on_thread && !self.has_place {
                return Some(off.remind_at);
            }
            let give_up_at = off.since + GRACE;
            if monotonic >= give_up_at {
                let give_up = if on_thread { Due::Replace } else { Due::Lend };
                due.push(due_for(give_up, &self.task, self.fence));
                return Some(off.remind_at);
            }
            return Some(off.remind_at.min(give_up_at));
        }
        let deadline = watch.deadline?;
        if monotonic < deadline {
            return Some(deadline);
        }
        due.push(due_for(Due::TimeOut, &self.task, self.fence));
        // If it is committed, the attempt is called off, and the deadline means nothing any more.
        watch.deadline = Some(monotonic + NEXT_TRY);
        Some(monotonic + FIRST_REMINDER)
    }
}

/// A worker thread's place.
pub(crate) struct Seat {
    /// The thread's number.
    number: usize,
    current: Mutex<Option<Current>>,
}

/// A seat whose worker is about to take a task and to begin its attempt.
pub(crate) type Place<'a> = MutexGuard<'a, Option<Current>>;

impl Seat {
    /// For its own worker, before it takes a task: the attempt that comes of it is to be put in there.
    pub(crate) fn place(&self) -> Place<'_> {
        self.current.lock()
    }

    /// Ends the attempt; which one it was if its thread was replaced meanwhile.
    pub(crate) fn leave(&self) -> Option<(Arc<Task>, Fence)> {
        let current = self.current.lock().take()?;
        let is_given_up = current.is_given_up();
        is_given_up.then_some((current.task, current.fence))
    }

    /// Gives the thread up, if it is still in this attempt; whether it is. `note` is called under the seat's lock, so
    /// it comes before whatever follows [`Seat::leave`].
    fn give_up(&self, task: &Task, fence: Fence, note: impl FnOnce(usize)) -> bool {
        let mut current = self.current.lock();
        let is_new = current.as_mut().filter(|current| current.is(task, fence)).is_some_and(Current::give_up);
        if is_new {
            note(self.number);
        }
        is_new
    }
}

/// A list that is empty keeps room for so many attempts.
const ROOM: usize = 4_096;

/// The attempts on event loops.
#[derive(Default)]
pub(crate) struct OnLoops {
    /// By their places, which are used again.
    attempts: Vec<Option<Current>>,
    free: Vec<u32>,
    /// Of attempts that no longer count and have not ended, while a later one of the same task runs: that has the place
    /// which the task knows.
    displaced: HashMap<(TaskId, u32), u32>,
    /// Those that must be looked at, by when. Each line is that of an attempt above, which knows its time.
    agenda: BTreeSet<(Duration, u32)>,
}

impl OnLoops {
    /// Notes an attempt that nobody can have noted before.
    #[inline]
    pub(crate) fn note(&mut self, current: Current) -> u32 {
        let before = current.task.noted_at();
        if let Some(Some(old)) = self.attempts.get(before as usize)
            && Arc::ptr_eq(&old.task, &current.task)
        {
            self.displaced.insert((old.task.id(), old.fence.attempt), before);
        }
        let place = self.free.pop().unwrap_or(self.attempts.len() as u32);
        current.task.note_at(place);
        match self.attempts.get_mut(place as usize) {
            Some(free) => *free = Some(current),
            None => self.attempts.push(Some(current)),
        }
        place
    }

    /// The place of an attempt, if it is in progress. Whoever asks has the copy of the task by which it was begun: there is
    /// one in a process, as long as anybody holds it.
    #[inline]
    fn find(&self, task: &Task, fence: Fence) -> Option<u32> {
        let is_at = |place: u32| {
            let current = self.attempts.get(place as usize).and_then(Option::as_ref);
            current.is_some_and(|own| own.is(task, fence))
        };
        let place = task.noted_at();
        if is_at(place) {
            return Some(place);
        }
        if self.displaced.is_empty() {
            return None;
        }
        self.displaced.get(&(task.id(), fence.attempt)).copied().filter(|place| is_at(*place))
    }

    fn get_mut(&mut self, place: u32) -> Option<&mut Current> {
        self.attempts.get_mut(place as usize)?.as_mut()
    }

    fn begin(&mut self, current: Current) {
        // One that is handed out twice takes the place of what was there.
        if let Some(before) = self.find(&current.task, current.fence) {
            self.take(before);
        }
        let deadline = current.watch.as_ref().and_then(|watch| watch.deadline);
        let place = self.note(current);
        if let Some(deadline) = deadline {
            self.plan(place, deadline);
        }
    }

    fn take(&mut self, place: u32) -> Option<Current> {
        let current = self.attempts.get_mut(place as usize)?.take()?;
        if !self.displaced.is_empty() {
            let key = (current.task.id(), current.fence.attempt);
            if self.displaced.get(&key) == Some(&place) {
                self.displaced.remove(&key);
            }
        }
        if let Some(at) = current.watch.as_ref().and_then(|watch| watch.look_at) {
            self.agenda.remove(&(at, place));
        }
        self.free.push(place);
        if self.free.len() == self.attempts.len() && self.attempts.capacity() > ROOM {
            (self.attempts, self.free) = Default::default();
        }
        Some(current)
    }

    /// Whether it had been given up.
    fn end(&mut self, task: &Task, fence: Fence) -> bool {
        let current = self.find(task, fence).and_then(|place| self.take(place));
        current.is_some_and(|current| current.is_given_up())
    }

    /// Has an attempt be looked at then, and not at the time that was planned before.
    fn plan(&mut self, place: u32, at: Duration) {
        let Some(current) = self.get_mut(place) else { return };
        if let Some(before) = current.watch().look_at.replace(at) {
            self.agenda.remove(&(before, place));
        }
        self.agenda.insert((at, place));
    }

    /// Collects what is due, in the order of its time, and returns when to look again.
    fn step(&mut self, monotonic: Duration, due: &mut Vec<Due>) -> Option<Duration> {
        let mut looked_at = Vec::new();
        while let Some((at, place)) = self.agenda.first().copied().filter(|(at, _)| *at <= monotonic) {
            self.agenda.remove(&(at, place));
            looked_at.push(place);
        }
        for place in looked_at {
            let current = self.get_mut(place).expect("a line is that of an attempt");
            current.watch().look_at = None;
            if let Some(next) = current.step(monotonic, false, due) {
                self.plan(place, next);
            }
        }
        self.agenda.first().map(|(at, _)| *at)
    }

    fn iter(&self) -> impl Iterator<Item = &Current> {
        self.attempts.iter().flatten()
    }
}

/// Everything that runs.
#[derive(Default)]
pub(crate) struct Running {
    seats: Mutex<Vec<Arc<Seat>>>,
    on_loops: Mutex<OnLoops>,
}

impl Running {
    pub(crate) fn add_seat(&self, number: usize) -> Arc<Seat> {
        let seat = Arc::new(Seat { number, current: Mutex::new(None) });
        self.seats.lock().push(Arc::clone(&seat));
        seat
    }

    pub(crate) fn remove_seat(&self, seat: &Arc<Seat>) {
        self.seats.lock().retain(|other| !Arc::ptr_eq(other, seat));
    }

    pub(crate) fn begin_on_loop(&self, current: Current) {
        self.on_loops.lock().begin(current);
    }

    /// The list of attempts on loops, for whoever notes many in the moments of their claims. Under its lock nothing is
    /// changed but the tasks that are claimed.
    pub(crate) fn on_loops(&self) -> MutexGuard<'_, OnLoops> {
        self.on_loops.lock()
    }

    /// Attempts on loops have ended: how many of them had been given up.
    pub(crate) fn end_on_loop<'t>(&self, many: impl Iterator<Item = (&'t Arc<Task>, Fence)>) -> usize {
        let mut on_loops = self.on_loops.lock();
        many.filter(|(task, fence)| on_loops.end(task, *fence)).count()
    }

    /// For whoever has called an attempt off: has the next step look at it. Whether it is in progress.
    pub(crate) fn call_off(&self, task: &Task, fence: Fence) -> bool {
        let is_on_loop = {
            let mut on_loops = self.on_loops.lock();
            let place = on_loops.find(task, fence);
            place.inspect(|place| on_loops.plan(*place, Duration::ZERO)).is_some()
        };
        is_on_loop || self.is_on_thread(task, fence)
    }

    /// Collects what is due, and returns when to look again.
    pub(crate) fn step(&self, monotonic: Duration, due: &mut Vec<Due>) -> Option<Duration> {
        let seats: Vec<_> = self.seats.lock().clone();
        let on_threads = seats
            .iter()
            .filter_map(|seat| {
                seat.current.lock().as_mut().and_then(|current| current.step(monotonic, true, due))
            })
            .min();
        let on_loops = self.on_loops.lock().step(monotonic, due);
        [on_threads, on_loops].into_iter().flatten().min()
    }

    /// Waits until what the workers have taken by now is in progress, or will not be. That is a matter of moments.
    pub(crate) fn wait_for_begins(&self) {
        let seats: Vec<_> = self.seats.lock().clone();
        seats.iter().for_each(|seat| drop(seat.current.lock()));
    }

    /// Whether a worker thread is in an attempt, or may be about to begin one; but for some, by their numbers. Waits for
    /// nobody.
    pub(crate) fn is_any_thread_busy(&self, but: impl Fn(usize) -> bool) -> bool {
        let seats: Vec<_> = self.seats.lock().clone();
        let is_busy = |seat: &Arc<Seat>| seat.current.try_lock().is_none_or(|current| current.is_some());
        seats.iter().any(|seat| is_busy(seat) && !but(seat.number))
    }

    /// The task that a worker thread is at.
    pub(crate) fn on_thread(&self, number: usize) -> Option<TaskId> {
        let seat = self.seats.lock().iter().find(|seat| seat.number == number).cloned()?;
        seat.current.lock().as_ref().map(|current| current.task.id())
    }

    /// Every attempt in progress.
    pub(crate) fn all(&self) -> Vec<(Arc<Task>, Fence)> {
        let seats: Vec<_> = self.seats.lock().clone();
        let pair = |current: &Current| (Arc::clone(&current.task), current.fence);
        let mut all: Vec<_> =
            seats.iter().filter_map(|seat| seat.current.lock().as_ref().map(pair)).collect();
        let from = all.len();
        all.extend(self.on_loops.lock().iter().map(pair));
        // Not in the order of their places, which those have that ended before: the same run is to have the same releases in the same order.
        all[from..].sort_unstable_by_key(|(task, fence)| (task.id(), fence.attempt));
        all
    }

    /// Whether this attempt is in progress.
    pub(crate) fn contains(&self, task: &Task, fence: Fence) -> bool {
        self.on_loops.lock().find(task, fence).is_some() || self.is_on_thread(task, fence)
    }

    fn is_on_thread(&self, task: &Task, fence: Fence) -> bool {
        let seats: Vec<_> = self.seats.lock().clone();
        seats.iter().any(|seat| seat.current.lock().as_ref().is_some_and(|current| current.is(task, fence)))
    }

    /// Gives up the thread that is in this attempt, and passes its number to `note`; see [`Seat::give_up`].
    pub(crate) fn give_up(&self, task: &Task, fence: Fence, mut note: impl FnMut(usize)) -> bool {
        let seats: Vec<_> = self.seats.lock().clone();
        seats.iter().any(|seat| seat.give_up(task, fence, &mut note))
    }

    /// Every attempt in progress, for a monitor.
    pub(crate) fn stats(&self, now: Timestamp) -> Vec<RunningStats> {
        let seats: Vec<_> = self.seats.lock().clone();
        let about = |worker: Option<usize>, current: &Current| RunningStats {
            worker,
            task: current.task.id(),
            name: current.task.spec().name,
            attempt: current.fence.attempt,
            running_for: current.task.with_row(|row| row.started).map_or(Duration::ZERO, |at| now.since(at)),
            stuck: current.is_given_up(),
        };
        let on_threads = seats
            .iter()
            .filter_map(|seat| seat.current.lock().as_ref().map(|current| about(Some(seat.number), current)));
        let mut all: Vec<_> = on_threads.collect();
        all.extend(self.on_loops.lock().iter().map(|current| about(None, current)));
        all
    }

    /// How many worker threads are in a handler whose attempt was called off.
    pub(crate) fn stuck(&self) -> usize {
        let seats: Vec<_> = self.seats.lock().clone();
        seats.iter().filter(|seat| seat.current.lock().as_ref().is_some_and(Current::is_given_up)).count()
    }

    /// Gives up an attempt on a loop, if it keeps a place and has not been given up before; whether that is so. `note` is
    /// called before anybody can see that it has ended.
    pub(crate) fn give_up_place(&self, task: &Task, fence: Fence, note: impl FnOnce()) -> bool {
        let mut on_loops = self.on_loops.lock();
        let place = on_loops.find(task, fence);
        let this = place.and_then(|place| on_loops.get_mut(place));
        let is_new = this.is_some_and(|current| current.has_place && current.give_up());
        if is_new {
            note();
        }
        is_new
    }

    /// How many attempts on loops were given up and have not ended.
    pub(crate) fn given_up_on_loops(&self) -> usize {
        self.on_loops.lock().iter().filter(|current| current.is_given_up()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskloom_model::{Admission, Name, Operation, Options, OwnerId, admit};

    const SECOND: Duration = Duration::from_secs(1);

    fn attempt(number: u8, timeout: Option<Duration>) -> (Arc<Task>, Fence, Current) {
        let now = Timestamp::from_micros(1);
        let id = TaskId::from_bytes([number; 16]);
        let admission = Admission::new(&Options { timeout, ..Options::default() }).expect("they are right");
        let (spec, row, _) =
            admit(&admission, id, Name::new("work"), Default::default(), now).expect("it is new");
        let task = Task::new(spec, row, None);
        let owner = OwnerId::new(7).expect("a number");
        task.apply(Operation::Claim { owner }, now).expect("it is queued");
        let (fence, _) = task.begin(owner).expect("it was claimed");
        let current = Current::new(Arc::clone(&task), fence, timeout);
        (task, fence, current)
    }

    /// What is due then, as words, and when to look again.
    fn step(running: &Running, at: Duration) -> (Vec<&'static str>, Option<Duration>) {
        let mut due = Vec::new();
        let next = running.step(at, &mut due);
        let word = |due| match due {
            Due::TimeOut(..) => "time out",
            Due::Remind(..) => "remind",
            Due::Replace(..) => "replace",
            Due::Lend(..) => "lend",
        };
        (due.into_iter().map(word).collect(), next)
    }

    #[test]
    fn an_attempt_that_ends_takes_its_line_with_it() {
        let running = Running::default();
        let (task, fence, current) = attempt(1, Some(SECOND));
        running.begin_on_loop(current);
        assert_eq!(step(&running, Duration::ZERO), (vec![], Some(SECOND)));
        running.end_on_loop([(&task, fence)].into_iter());
        assert_eq!(step(&running, SECOND), (vec![], None));
        assert!(running.on_loops.lock().agenda.is_empty());
    }

    #[test]
    fn an_attempt_that_goes_on_beside_a_later_one_of_its_task_is_found_and_ends() {
        let running = Running::default();
        let (task, first, current) = attempt(1, None);
        running.begin_on_loop(current);
        let later = Timestamp::from_micros(2);
        task.apply(Operation::Release { fence: first }, later).expect("it runs");
        task.apply(Operation::Claim { owner: first.owner }, later).expect("it is queued");
        let (second, _) = task.begin(first.owner).expect("it was claimed");
        running.begin_on_loop(Current::new(Arc::clone(&task), second, None));
        assert!(running.contains(&task, first) && running.contains(&task, second));
        assert!(running.call_off(&task, first));
        assert_eq!(step(&running, SECOND), (vec![], Some(SECOND + FIRST_REMINDER)));
        running.end_on_loop([(&task, second)].into_iter());
        assert!(running.contains(&task, first) && !running.contains(&task, second));
        assert_eq!(step(&running, SECOND + FIRST_REMINDER).0, ["remind"]);
        running.end_on_loop([(&task, first)].into_iter());
        assert_eq!(step(&running, 5 * SECOND), (vec![], None));
        assert!(running.all().is_empty() && running.on_loops.lock().displaced.is_empty());
    }

    #[test]
    fn what_has_no_timeout_is_not_looked_at() {
        let running = Running::default();
        let (task, fence, current) = attempt(1, None);
        running.begin_on_loop(current);
        assert_eq!(step(&running, SECOND), (vec![], None));
        assert!(running.contains(&task, fence));
    }

    #[test]
    fn timeouts_come_in_the_order_of_their_times() {
        let running = Running::default();
        for seconds in [3_u8, 1, 2] {
            running.begin_on_loop(attempt(seconds, Some(u32::from(seconds) * SECOND)).2);
        }
        assert_eq!(step(&running, SECOND / 2), (vec![], Some(SECOND)));
        assert_eq!(step(&running, 2 * SECOND).0, ["time out", "time out"]);
        let (due, next) = step(&running, 2 * SECOND + FIRST_REMINDER);
        assert_eq!((due, next), (vec![], Some(3 * SECOND)), "those two are tried again a second later");
    }

    #[test]
    fn one_that_is_called_off_is_reminded_until_it_ends() {
        let running = Running::default();
        let (task, fence, current) = attempt(1, None);
        running.begin_on_loop(current);
        task.apply(Operation::Cancel { reason: None }, Timestamp::from_micros(2)).expect("it runs");
        assert!(running.call_off(&task, fence));
        assert_eq!(step(&running, SECOND), (vec![], Some(SECOND + FIRST_REMINDER)));
        let (due, next) = step(&running, SECOND + FIRST_REMINDER);
        assert_eq!((due, next), (vec!["remind"], Some(SECOND + 3 * FIRST_REMINDER)));
        running.end_on_loop([(&task, fence)].into_iter());
        assert_eq!(step(&running, 5 * SECOND), (vec![], None));
        assert!(!running.call_off(&task, fence));
    }
}
