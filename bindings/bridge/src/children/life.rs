//! One child process: it is handed tasks, what comes back is taken, and it is killed if it must be.
//!
//! # Invariants
//! * A task that was taken from the engine is in `hands` (written to the child), in `held` (to be written as soon as the
//!   child has nothing else in its hands), or its completion was used.
//! * Only this thread writes to the child and reads from it; others leave [`Order`]s and ring. So an attempt that is
//!   called off while it is being handed over is found when the order is read.
//! * Before it sleeps with an idle child it says so ([`Slot::idle`]) and then looks for tasks once more: whoever pushes
//!   a task after that look finds it idle.
//! * The socket never blocks: what a child does not read waits here, and there is a bound on what it is given.

use std::collections::{HashSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use taskloom_engine::{Clock, SystemClock};
use taskloom_model::TaskId;

use super::hands::InHand;
use super::keeper::Keeper;
use super::replies::Loan;
use super::vitals::{memory_of, said};
use super::wire::{Incoming, Outgoing, down};
use super::{Doing, Order, Pool};

/// How long a handler may go on after it was interrupted, before its child is killed.
const KILL_AFTER: Duration = Duration::from_secs(1);

/// How long a child may take to end that was asked to.
const EXIT: Duration = Duration::from_secs(2);

/// How often the memory of a busy child is looked at.
const MEMORY: Duration = Duration::from_millis(50);

/// How often it is looked at whether a busy child is still there, should its end go unheard: a process that it has
/// forked may hold its end of the socket.
const ALIVE: Duration = Duration::from_millis(500);

/// What came from a child.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Something,
    /// Nothing more will.
    End,
}

/// How it was with a child.
pub(super) enum End {
    /// It was asked to end, and nobody needs another.
    Left,
    /// It was asked to end, to be replaced.
    Retired,
    /// It died, or could not be started.
    Died,
}

/// One child, as long as it lives.
pub(super) struct Life<'a> {
    pub(super) keeper: &'a Keeper,
    /// No other that the keeper has had, or will have, has it.
    pub(super) number: u64,
    pub(super) clock: SystemClock,
    pub(super) child: Child,
    pub(super) pid: u32,
    pub(super) socket: UnixStream,
    pub(super) out: Outgoing,
    pub(super) incoming: Incoming,
    /// What it has been given, in that order.
    pub(super) hands: VecDeque<InHand>,
    /// What is to be given when it has nothing else: a suspect, or a task whose handler it does not know yet.
    pub(super) held: Option<InHand>,
    pub(super) told: HashSet<u32>,
    /// What its handlers lend: of which task, for which request.
    pub(super) loans: Vec<(u64, u64, Arc<Loan>)>,
    /// How many of the pool's handlers it has been told of.
    pub(super) known: usize,
    /// How many answers it owes before it can be given a task: that it is ready, that a handler is made.
    pub(super) preparing: usize,
    pub(super) seq: u64,
    /// How many tasks it was given and did not return.
    pub(super) ran: u64,
    /// Whether it has finished a task.
    pub(super) finished: bool,
    /// Since when it is at the first of what it has in its hands.
    pub(super) head_since: Duration,
    /// Whether it was asked to give back what is behind that.
    pub(super) recalled: bool,
    /// Whether its slot was last said to be idle. Others may have roused it since.
    pub(super) says_idle: bool,
    /// Until when it must have ended, once it was asked to.
    pub(super) stopping: Option<Duration>,
    pub(super) end: Option<End>,
    /// Why we have killed it.
    pub(super) killed: Option<String>,
    pub(super) look_at_memory: Duration,
    /// What it was at when it was last found to use too much memory.
    pub(super) over: Option<u64>,
    /// What was last shown of it.
    pub(super) shown: (Doing, usize, Option<TaskId>),
}

/// Waits until one of these can be read from, or written to, or the time is over.
pub(super) fn wait(heard: &UnixStream, socket: Option<&UnixStream>, writes: bool, span: Duration) {
    let mut flags = PollFlags::IN;
    if writes {
        flags |= PollFlags::OUT;
    }
    let mut fds = vec![PollFd::new(heard, PollFlags::IN)];
    fds.extend(socket.map(|socket| PollFd::new(socket, flags)));
    // Rounded up, or the end of a wait would be a loop without one.
    let span = span.saturating_add(Duration::from_micros(50));
    let time = Timespec::try_from(span).ok();
    // An error is a signal that came, or something that the next look finds too.
    let _ = poll(&mut fds, time.as_ref());
    let mut bytes = [0; 64];
    let _ = (&mut &*heard).read(&mut bytes);
}

impl Life<'_> {
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.keeper.pool
    }

    pub(super) fn live(&mut self) -> End {
        loop {
            let now = self.clock.monotonic();
            self.hear(now);
            // Before it is given anything: one that is known to have died is not.
            let heard = self.receive();
            if heard == Heard::End {
                self.show();
                return self.bury();
            }
            self.tell_of_handlers();
            self.look_for_tasks(now);
            self.give_held(now);
            self.mind(now);
            self.send();
            self.show();
            // If something has come, more may have.
            if heard == Heard::Nothing {
                let span = self.until_next(self.clock.monotonic());
                wait(&self.keeper.heard, Some(&self.socket), !self.out.is_empty(), span);
            }
        }
    }

    // ── what others say ─────────────────────────────────────────────────────────────────────────────────────────

    fn hear(&mut self, now: Duration) {
        let orders = std::mem::take(&mut *self.keeper.mailbox.orders.lock());
        for order in orders {
            match order {
                // One that has died asked before this one: its answer is nobody's.
                Order::Reply(asked, ..) if asked.life != self.number => {}
                Order::Reply(asked, good, body) => self.out.frame(down::REPLY, |out| {
                    out.u64(asked.request);
                    out.u8(good.into());
                    out.bytes(&body);
                }),
                Order::Interrupt(id, attempt) => self.call_off(now, |own| {
                    own.attempt.task().id() == id && own.attempt.fence().attempt == attempt
                }),
            }
        }
        if self.stopping.is_none() && self.keeper.is_closing() {
            // What it runs does not count any more.
            self.call_off(now, |_| true);
            if self.hands.is_empty() {
                self.stop(now, End::Left);
            }
        }
    }

    fn call_off(&mut self, now: Duration, which: impl Fn(&InHand) -> bool) {
        if let Some(held) = self.held.take_if(|held| which(held)) {
            held.completion.abandon();
        }
        for own in self.hands.iter_mut().filter(|own| which(own)) {
            own.called_off.get_or_insert(now);
            self.out.frame(down::CANCEL, |out| out.u64(own.seq));
        }
    }

    pub(super) fn stop(&mut self, now: Duration, end: End) {
        self.out.frame(down::STOP, |_| {});
        self.stopping = Some(now + EXIT);
        self.end = Some(end);
    }

    // ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Does what is due.
    fn mind(&mut self, now: Duration) {
        self.mind_those_behind(now);
        let overdue = |own: &InHand| own.called_off.is_some_and(|since| now >= since + KILL_AFTER);
        if self.hands.iter().any(overdue) {
            self.kill("was killed: its handler went on after it was interrupted".into());
        }
        if self.stopping.is_some_and(|end| now >= end) {
            self.kill("was killed: it did not end".into());
        }
        if let Some(most) = self.pool().settings.max_memory
            && !self.hands.is_empty()
            && now >= self.look_at_memory
        {
            self.look_at_memory = now + MEMORY;
            let at = self.hands.front().map(|own| own.seq);
            match memory_of(self.pid).filter(|own| *own > most) {
                Some(own) if self.over == at => {
                    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                    self.kill(format!(
                        "was killed: it used {} MiB of memory, and max_memory is {} MiB",
                        mib(own),
                        mib(most)
                    ));
                }
                // It may be what earlier tasks have left. If this one ends soon, the child is replaced, and nobody blamed.
                Some(_) => {
                    self.over = at;
                    self.recall();
                }
                None => self.over = None,
            }
        }
    }

    fn kill(&mut self, why: String) {
        if self.killed.is_none() {
            self.killed = Some(why);
            // It may be dead already.
            let _ = self.child.kill();
        }
    }

    fn until_next(&self, now: Duration) -> Duration {
        let mut next = Duration::MAX;
        if !self.hands.is_empty() || self.stopping.is_some() || self.preparing > 0 {
            next = next.min(now + ALIVE);
        }
        next = next.min(self.look_behind(now));
        if self.killed.is_none() {
            for since in self.hands.iter().filter_map(|own| own.called_off) {
                next = next.min(since + KILL_AFTER);
            }
            next = next.min(self.stopping.unwrap_or(Duration::MAX));
            if self.pool().settings.max_memory.is_some() && !self.hands.is_empty() {
                next = next.min(self.look_at_memory);
            }
        }
        next.saturating_sub(now)
    }

    // ── the socket ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Sends what there is to send, as far as it goes.
    fn send(&mut self) {
        while !self.out.is_empty() {
            match (&self.socket).write(self.out.as_slice()) {
                Ok(0) => return,
                Ok(count) => self.out.sent(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It is dead. What it has said before is still to be read.
                Err(_) => drop(self.out.take()),
            }
        }
    }

    /// Takes what has come.
    fn receive(&mut self) -> Heard {
        let mut bytes = [0; 64 * 1024];
        loop {
            match (&self.socket).read(&mut bytes) {
                Ok(0) => return Heard::End,
                Ok(count) => {
                    self.incoming.extend(&bytes[..count]);
                    if self.read_frames().is_err() {
                        self.kill("was killed: it wrote what nobody can read".into());
                        return Heard::End;
                    }
                    return Heard::Something;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Heard::End,
            }
        }
        // Somebody else may hold its end of the socket.
        if matches!(self.child.try_wait(), Ok(None)) { Heard::Nothing } else { Heard::End }
    }

    // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// It is dead, or as good as that.
    fn bury(&mut self) -> End {
        let status = self.reap();
        self.loans.drain(..).for_each(|(.., loan)| loan.end());
        if std::mem::take(&mut self.says_idle) {
            self.pool().pass_on(self.keeper.number);
        }
        if let Some(held) = self.held.take() {
            held.completion.give_back();
        }
        let hands = std::mem::take(&mut self.hands);
        // It may have died just before it was given them. What it got nothing of it has not begun.
        let (hands, unsent): (Vec<_>, Vec<_>) =
            hands.into_iter().partition(|own| self.out.has_begun(own.mark));
        unsent.into_iter().for_each(|own| match own.called_off {
            Some(_) => own.completion.abandon(),
            None => own.completion.give_back(),
        });
        let (called_off, rest): (Vec<_>, Vec<_>) =
            hands.into_iter().partition(|own| own.called_off.is_some());
        let was_called_off = !called_off.is_empty();
        called_off.into_iter().for_each(|own| own.completion.abandon());
        let asked = self.end.take();
        let cause = match (&self.killed, status) {
            (Some(why), _) => why.clone(),
            (None, Some(status)) => said(status),
            (None, None) => "was lost".into(),
        };
        self.pool().with_slot(self.keeper.number, |_, totals| {
            if self.killed.is_some() {
                totals.killed += 1;
            } else if asked.is_none() {
                totals.crashed += 1;
            }
            if !self.finished && asked.is_none() && self.preparing > 0 && self.killed.is_none() {
                totals.trouble = Some(format!("a child {cause} before it could run a task"));
            }
        });
        let one = rest.len() == 1 && !was_called_off;
        for own in rest {
            if one {
                own.handler.took.store(super::UNKNOWN, Ordering::Relaxed);
                own.completion.crash(&cause);
            } else {
                if !was_called_off {
                    self.pool().state.lock().suspects.insert(own.attempt.task().id());
                }
                own.completion.give_back();
            }
        }
        asked.unwrap_or(End::Died)
    }

    /// How it ended. Somebody else may hold its socket, or it may have closed that and live: then it is killed.
    fn reap(&mut self) -> Option<ExitStatus> {
        let start = self.clock.monotonic();
        while self.clock.monotonic() < start + ALIVE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            wait(&self.keeper.heard, None, false, Duration::from_millis(1));
        }
        let _ = self.child.kill();
        self.child.wait().ok()
    }

    // ── for a monitor ───────────────────────────────────────────────────────────────────────────────────────────

    fn show(&mut self) {
        let doing = match () {
            () if self.stopping.is_some() => Doing::Leaving,
            () if self.preparing > 0 => Doing::Starting,
            () if self.hands.is_empty() => Doing::Idle,
            () => Doing::Busy,
        };
        let head = self.hands.front().map(|own| own.attempt.task().id());
        let shown = (doing, self.hands.len(), head);
        if shown == self.shown {
            return;
        }
        self.shown = shown;
        let tasks = self.ran - self.hands.len() as u64;
        self.pool().with_slot(self.keeper.number, |slot, _| {
            (slot.stats.doing, slot.stats.in_hand, slot.stats.running) = shown;
            slot.stats.tasks = tasks;
        });
    }
}
