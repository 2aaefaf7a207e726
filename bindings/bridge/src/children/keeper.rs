//! A thread that keeps one child process: starts it, sees it through its life ([`super::life`]), and starts the next.

use std::collections::{HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use taskloom_engine::{Clock, SystemClock};

use super::life::{End, Life, wait};
use super::wire::{Incoming, Outgoing, down};
use super::{Doing, Mailbox, Pool};

/// The pause before the next child is started, when one has died: it doubles, from the first to the last of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

pub(super) struct Keeper {
    pub(super) pool: Arc<Pool>,
    pub(super) number: usize,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) heard: UnixStream,
    /// How many children have died one after the other without having finished a task.
    deaths: u32,
}

impl Keeper {
    pub(super) fn new(pool: Arc<Pool>, number: usize, mailbox: Arc<Mailbox>, heard: UnixStream) -> Self {
        Self { pool, number, mailbox, heard, deaths: 0 }
    }

    pub(super) fn live(mut self) {
        let _gone = Gone { pool: Arc::clone(&self.pool), number: self.number };
        while !self.is_closing() {
            match self.start() {
                Ok(mut life) => match life.live() {
                    End::Left => return,
                    End::Retired => self.deaths = 0,
                    End::Died => {
                        if life.finished {
                            self.deaths = 0;
                        }
                        self.deaths += 1;
                        self.pause();
                    }
                },
                Err(trouble) => {
                    self.pool.state.lock().totals.trouble = Some(trouble);
                    self.deaths += 1;
                    self.pause();
                }
            }
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.pool.state.lock().closing || self.pool.engine.strong_count() == 0
    }

    /// Waits before the next child is started, unless the pool is closed meanwhile.
    fn pause(&self) {
        self.pool.with_slot(self.number, |slot, _| {
            slot.stats =
                super::ChildStats { number: slot.stats.number, doing: Doing::Starting, ..Default::default() };
        });
        let clock = SystemClock;
        let doubled = PAUSES.0.saturating_mul(1 << (self.deaths - 1).min(16));
        let end = clock.monotonic() + doubled.min(PAUSES.1);
        while !self.is_closing() {
            let left = end.saturating_sub(clock.monotonic());
            if left.is_zero() {
                return;
            }
            wait(&self.heard, None, false, left);
        }
    }

    fn start(&self) -> Result<Life<'_>, String> {
        let pool = &self.pool;
        pool.with_slot(self.number, |slot, _| slot.stats.doing = Doing::Starting);
        let (mut command, brief) = pool.trade.brief()?;
        let told = |error: std::io::Error| format!("{}: {error}", command.get_program().to_string_lossy());
        let (own, theirs) = UnixStream::pair().map_err(told)?;
        own.set_nonblocking(true).map_err(told)?;
        let spawned = command.stdin(OwnedFd::from(theirs)).spawn();
        let child =
            spawned.map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
        // The command holds the child's end of the socket.
        drop(command);
        let pid = child.id();
        pool.with_slot(self.number, |slot, totals| {
            slot.stats = super::ChildStats {
                number: slot.stats.number,
                pid: Some(pid),
                doing: Doing::Starting,
                ..Default::default()
            };
            totals.started += 1;
        });
        let number = pool.state.lock().totals.started;
        let mut life = Life {
            keeper: self,
            number,
            clock: SystemClock,
            child,
            pid,
            socket: own,
            out: Outgoing::default(),
            incoming: Incoming::default(),
            hands: VecDeque::new(),
            held: None,
            told: HashSet::new(),
            loans: Vec::new(),
            says_idle: false,
            known: 0,
            preparing: 1,
            seq: 0,
            ran: 0,
            finished: false,
            head_since: Duration::ZERO,
            recalled: false,
            stopping: None,
            end: None,
            killed: None,
            look_at_memory: Duration::ZERO,
            over: None,
            shown: (Doing::Starting, 0, None),
        };
        life.out.frame(down::BRIEF, |out| out.bytes(&brief));
        Ok(life)
    }
}

/// Strikes a keeper off however it ends.
struct Gone {
    pool: Arc<Pool>,
    number: usize,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.slots.retain(|slot| slot.stats.number != self.number);
        drop(state);
        self.pool.changed.notify_all();
    }
}
