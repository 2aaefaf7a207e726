//! Which child is given which task, and how many at a time.
//!
//! # Rules
//! * A child is given as much as it will have run in [`WINDOW`], by what its handlers have lately taken; no more than
//!   [`SHARE`] while another child is idle, which is roused for the rest. What nobody knows the duration of is given alone.
//! * Nothing is given behind a task that is *slow*: one that has run for [`SLOW`], or that waits for another task, whatever
//!   it was expected to take.
//! * What is behind a slow task is called back, and goes to the lanes again at no cost
//!   ([`taskloom_engine::Completion::give_back`]): at once if the slow one waits for another task, which may be one of
//!   those; as soon as another child is idle; and otherwise after [`VERY_SLOW`], so that whichever child is first to be
//!   idle finds it there. Between the two it is left alone, since to call back and to hand over again costs about as much
//!   as it would wait.
//!
//! So no task waits for more than about a millisecond behind one that runs on while another child has nothing to do.
//!
//! # Invariants
//! * A child that becomes idle and finds the lanes empty rings those that have more than one task; one that has more than
//!   one looks, when its first becomes slow, whether another is idle. Each is shown before the other is looked for
//!   (`Slot::idle` before the ring, `in_hand` before the sleep), so one of the two finds the other.
//! * A keeper that was roused either looks into the lanes, or passes that on ([`super::Pool::pass_on`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taskloom_engine::{Handler, Started};

use super::PooledHandler;
use super::hands::{InHand, Load, MOST, write_task};
use super::life::{End, Life};
use super::vitals::memory_of;
use super::wire::down;

/// A child is given what it will have run after this time.
pub(super) const WINDOW: Duration = Duration::from_millis(2);

/// While another child is idle, it is given only as much.
const SHARE: Duration = Duration::from_micros(200);

/// A task that has taken this long is slow.
const SLOW: Duration = Duration::from_millis(1);

/// After this time what is behind one goes back to the lanes in any case.
const VERY_SLOW: Duration = Duration::from_millis(10);

impl Life<'_> {
    /// Tells it of handlers that it does not know, and waits for it to have made them before it is given tasks. So what
    /// they import is no attempt's time.
    pub(super) fn tell_of_handlers(&mut self) {
        if self.pool().known.load(Ordering::Acquire) == self.known || self.stopping.is_some() {
            return;
        }
        let new: Vec<_> = self.pool().state.lock().handlers[self.known..].to_vec();
        self.known += new.len();
        for handler in new {
            self.tell_of(&handler);
        }
    }

    fn tell_of(&mut self, handler: &PooledHandler) {
        if !self.told.insert(handler.number) {
            return;
        }
        let recipe = self.pool().trade.recipe(handler);
        self.out.frame(down::PREPARE, |out| {
            out.u32(handler.number);
            out.u8(recipe.is_ok().into());
            match &recipe {
                Ok(recipe) => out.bytes(recipe),
                Err(trouble) => out.text(trouble),
            }
        });
        self.preparing += 1;
    }

    pub(super) fn give_held(&mut self, now: Duration) {
        if let Some(handler) = self.held.as_ref().map(|held| Arc::clone(&held.handler)) {
            self.tell_of(&handler);
        }
        if self.preparing == 0
            && self.hands.is_empty()
            && let Some(held) = self.held.take()
        {
            self.give(held, now);
        }
    }

    fn give(&mut self, mut own: InHand, now: Duration) {
        own.mark = self.out.mark();
        write_task(&mut self.out, &own);
        if self.hands.is_empty() {
            (self.head_since, self.recalled) = (now, false);
        }
        self.hands.push_back(own);
    }

    /// Whether it can be given tasks, but for what it has.
    fn takes_tasks(&self) -> bool {
        self.preparing == 0
            && self.held.is_none()
            && self.stopping.is_none()
            && self.over.is_none()
            && !self.is_used_up()
    }

    /// Whether its handler waits for another task.
    fn waits(&self) -> bool {
        self.keeper.mailbox.lent.load(Ordering::SeqCst) > 0
    }

    /// Whether the task that it runs is slow.
    fn is_slow(&self, now: Duration) -> bool {
        !self.hands.is_empty() && (now >= self.head_since + SLOW || self.waits())
    }

    fn is_used_up(&self) -> bool {
        self.pool().settings.max_tasks.is_some_and(|most| self.ran >= most)
    }

    pub(super) fn look_for_tasks(&mut self, now: Duration) {
        let pool = Arc::clone(self.pool());
        if self.stopping.is_none() && self.preparing == 0 && self.hands.is_empty() && self.held.is_none() {
            self.over = None;
            let kept = pool.settings.max_memory;
            let too_much = kept.is_some_and(|most| memory_of(self.pid).is_some_and(|own| own > most));
            if self.is_used_up() || too_much {
                pool.with_slot(self.keeper.number, |_, totals| totals.retired += 1);
                self.stop(now, End::Retired);
            }
        }
        if !self.takes_tasks() {
            if std::mem::take(&mut self.says_idle) {
                pool.pass_on(self.keeper.number);
            }
            return;
        }
        if self.is_slow(now) {
            return;
        }
        let mut load = Load::of(&self.hands);
        // It is worth a look when about half of what it was given is done.
        if !self.hands.is_empty() && (load.expected > WINDOW / 2 || self.hands.len() > MOST / 2) {
            return;
        }
        let Some(engine) = pool.engine.upgrade() else { return };
        let was_idle = self.hands.is_empty();
        if was_idle {
            pool.with_slot(self.keeper.number, |slot, _| slot.idle = true);
            self.says_idle = true;
        }
        let number = self.keeper.number;
        let window = if pool.has_other_idle(number) { SHARE } else { WINDOW };
        let suspects = pool.state.lock().suspects.clone();
        let mut wants_more = false;
        engine.take_pooled(&mut |started| {
            if let Some(started) = started {
                let Some(own) = self.in_hand(started) else { return true };
                load.add(&own);
                let suspect = suspects.contains(&own.attempt.task().id());
                if suspect || !self.told.contains(&own.handler.number) {
                    self.held = Some(own);
                } else {
                    self.give(own, now);
                }
            }
            wants_more = self.takes_tasks() && load.has_room(window);
            wants_more
        });
        let left = !wants_more && engine.has_pooled();
        drop(engine);
        if was_idle && !(self.hands.is_empty() && self.held.is_none()) {
            pool.with_slot(number, |slot, _| slot.idle = false);
            self.says_idle = false;
        }
        if left {
            // There is more than this one was given.
            pool.rouse_or_start();
        } else if wants_more && was_idle && self.hands.is_empty() && self.held.is_none() {
            if self.is_surplus() {
                self.stop(now, End::Left);
            } else {
                pool.ask_for_tasks();
            }
        }
    }

    /// Whether there are more children than there may be, since one that had lent its place has it back. Then this one
    /// goes, unless it has just been roused.
    fn is_surplus(&self) -> bool {
        let pool = self.pool();
        let mut state = pool.state.lock();
        let staying = state.slots.iter().filter(|slot| !slot.leaves).count();
        let number = self.keeper.number;
        let too_many = staying > pool.settings.size + state.lent;
        match state.slots.iter_mut().find(|slot| slot.stats.number == number) {
            Some(slot) if too_many && slot.idle => {
                // Nobody is to rouse it any more.
                (slot.idle, slot.leaves) = (false, true);
                true
            }
            _ => false,
        }
    }

    fn in_hand(&mut self, started: Started) -> Option<InHand> {
        let Started { entry, attempt, completion } = started;
        let handler = match entry.handler() {
            Handler::Pooled(handler) => Arc::clone(handler).downcast::<PooledHandler>().ok(),
            Handler::Blocking(_) | Handler::Asynchronous(_) => None,
        };
        // Without one the completion says that its handler is lost.
        let handler = handler?;
        self.seq += 1;
        self.ran += 1;
        Some(InHand { seq: self.seq, attempt, completion, handler, mark: 0, called_off: None })
    }

    // ── what is behind a slow task ──────────────────────────────────────────────────────────────────────────────

    /// Whether it has tasks that it has not begun, and that it was not asked to give back.
    fn has_more(&self) -> bool {
        !self.recalled && !self.hands.is_empty() && (self.hands.len() > 1 || self.held.is_some())
    }

    /// Calls them back, if another can run them sooner.
    pub(super) fn mind_those_behind(&mut self, now: Duration) {
        if self.has_more()
            && self.is_slow(now)
            && (self.waits()
                || now >= self.head_since + VERY_SLOW
                || self.pool().has_other_idle(self.keeper.number))
        {
            self.recall();
        }
    }

    /// When it is to look at them again.
    pub(super) fn look_behind(&self, now: Duration) -> Duration {
        match self.head_since + SLOW {
            _ if !self.has_more() => Duration::MAX,
            slow if now < slow => slow,
            _ => self.head_since + VERY_SLOW,
        }
    }

    /// Has it give back what it has not begun.
    pub(super) fn recall(&mut self) {
        self.recalled = true;
        self.out.frame(down::RECALL, |_| {});
        if let Some(held) = self.held.take_if(|_| !self.hands.is_empty()) {
            self.ran -= 1;
            held.completion.give_back();
        }
    }
}
