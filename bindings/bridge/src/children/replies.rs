//! Answers to what handlers ask, and the places that they lend while they wait for one.
//!
//! # Invariants
//! * A handler that waits for another task lends its place from then until it is answered, gives the wait up, or its
//!   attempt is over; whichever comes first, and once ([`Loan::end`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use taskloom_engine::Needed;
use taskloom_model::{Error, Result};

use super::{Asked, Mailbox, Order, Pool, wire};

/// Where the answer to a request of a handler goes. It may be kept for as long as that takes.
pub struct Reply {
    pool: Arc<Pool>,
    mailbox: Arc<Mailbox>,
    asked: Asked,
    loan: Arc<Loan>,
}

impl Reply {
    pub(super) fn new(pool: &Arc<Pool>, mailbox: &Arc<Mailbox>, asked: Asked) -> Self {
        let loan = Arc::new(Loan {
            pool: Arc::clone(pool),
            mailbox: Arc::clone(mailbox),
            lends: AtomicBool::new(false),
            needed: Mutex::new(None),
        });
        Self { pool: Arc::clone(pool), mailbox: Arc::clone(mailbox), asked, loan }
    }

    /// The handler waits for another task: until it is answered, gives up or is over it lends its place, so that a pool of
    /// one child can run that task. `needed` is kept for as long.
    pub fn lend(&self, needed: Option<Needed>) {
        *self.loan.needed.lock() = needed;
        self.loan.lends.store(true, Ordering::SeqCst);
        self.mailbox.lent.fetch_add(1, Ordering::SeqCst);
        self.pool.lend(true);
    }

    /// What the handler lends, if anything.
    pub(super) fn loan(&self) -> Arc<Loan> {
        Arc::clone(&self.loan)
    }

    /// Gives the answer. `good` says which of two kinds it is.
    pub fn give(self, good: bool, body: Vec<u8>) {
        self.mailbox.post(Order::Reply(self.asked, good, body));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.loan.end();
    }
}

/// The place of a handler that waits for another task.
pub(super) struct Loan {
    pool: Arc<Pool>,
    mailbox: Arc<Mailbox>,
    lends: AtomicBool,
    needed: Mutex<Option<Needed>>,
}

impl Loan {
    pub(super) fn is_lent(&self) -> bool {
        self.lends.load(Ordering::SeqCst)
    }

    /// It is taken back.
    pub(super) fn end(&self) {
        if self.lends.swap(false, Ordering::SeqCst) {
            self.mailbox.lent.fetch_sub(1, Ordering::SeqCst);
            self.pool.lend(false);
            let needed = self.needed.lock().take();
            drop(needed);
        }
    }
}

/// An error as the answer to a request.
pub fn write_error(error: &Error) -> Vec<u8> {
    let mut out = wire::Outgoing::default();
    out.text(&format!("{:?}", error.kind()));
    out.text(error.code().as_str());
    out.text(error.message());
    out.maybe(error.hint_text(), |out, hint| out.text(hint));
    out.take()
}

/// What a request for something that can fail is answered with.
pub fn give(reply: Reply, answer: Result<Vec<u8>>) {
    match answer {
        Ok(body) => reply.give(true, body),
        Err(error) => reply.give(false, write_error(&error)),
    }
}
