//! What a child says, frame by frame, and what follows from it in the engine.

use std::time::Duration;

use taskloom_engine::{Attempt, Clock, Failed, Outcome};
use taskloom_model::{Code, Error};

use super::hands::InHand;
use super::life::Life;
use super::wire::{Broken, Fields, up};
use super::{Asked, Reply, give};

impl Life<'_> {
    pub(super) fn read_frames(&mut self) -> Result<(), Broken> {
        let mut incoming = std::mem::take(&mut self.incoming);
        while let Some((kind, fields)) = incoming.next_frame()? {
            self.read_frame(kind, Fields(fields))?;
        }
        self.incoming = incoming;
        Ok(())
    }

    fn read_frame(&mut self, kind: u8, mut fields: Fields<'_>) -> Result<(), Broken> {
        match kind {
            up::READY | up::PREPARED => {
                self.preparing = self.preparing.checked_sub(1).ok_or(Broken)?;
                if self.preparing == 0 {
                    self.pool().state.lock().totals.trouble = None;
                }
            }
            up::DONE => {
                let own = self.taken_back(&mut fields, true)?;
                let result: Box<[u8]> = fields.bytes()?.into();
                own.completion.complete(Outcome::success(result));
            }
            up::FAILED => {
                let own = self.taken_back(&mut fields, true)?;
                let (kind, message, backtrace) = (fields.text()?, fields.text()?, fields.text()?);
                let failed = Failed {
                    kind: kind.to_owned(),
                    message: message.to_owned(),
                    backtrace: backtrace.to_owned(),
                    permanent: fields.u8()? != 0,
                    retry_after: fields
                        .maybe(Fields::f64)?
                        .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
                };
                if let Some(exception) = fields.maybe(Fields::bytes)? {
                    self.pool().trade.failed(own.attempt.task(), exception);
                }
                own.completion.complete(Outcome::Failed(failed));
            }
            up::POSTPONED => {
                let own = self.taken_back(&mut fields, true)?;
                let (key, wait) = (fields.text()?.to_owned(), fields.f64()?);
                let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX);
                own.completion.complete(Outcome::Postponed { key, wait });
            }
            up::RETURNED => {
                for _ in 0..fields.u32()? {
                    let own = self.taken_back(&mut fields, false)?;
                    self.ran -= 1;
                    match own.called_off {
                        Some(_) => own.completion.abandon(),
                        None => own.completion.give_back(),
                    }
                }
            }
            up::PROGRESS => {
                let seq = fields.u64()?;
                let (value, message) = (fields.f64()?, fields.maybe(Fields::text)?);
                if let Some(attempt) = self.attempt(seq) {
                    // One that does not count any more has been called off, which the child hears.
                    let _ = attempt.progress(value, message.map(str::to_owned));
                }
            }
            up::LOG => {
                let (seq, level, message) = (fields.u64()?, fields.text()?, fields.text()?);
                if let Some(attempt) = self.attempt(seq) {
                    let _ = attempt.log(level, message.to_owned());
                }
            }
            up::REQUEST => {
                let (request, seq, what) = (fields.u64()?, fields.u64()?, fields.u8()?);
                let body = fields.bytes()?;
                let reply =
                    Reply::new(self.pool(), &self.keeper.mailbox, Asked { life: self.number, request });
                match (self.attempt(seq), self.pool().engine.upgrade()) {
                    (Some(attempt), Some(engine)) => {
                        let (attempt, loan) = (attempt.clone(), reply.loan());
                        self.pool().trade.answer(&engine, &attempt, what, body, reply);
                        self.loans.retain(|(.., loan)| loan.is_lent());
                        if loan.is_lent() {
                            self.loans.push((seq, request, loan));
                        }
                    }
                    _ => {
                        let code = Code::LeaseLost;
                        give(reply, Err(Error::new(code, "the attempt is over")));
                    }
                }
            }
            up::GIVEN_UP => {
                let request = fields.u64()?;
                self.end_loans(|_, own| own == request);
            }
            _ => return Err(Broken),
        }
        Ok(())
    }

    /// Takes places back that were lent.
    fn end_loans(&mut self, which: impl Fn(u64, u64) -> bool) {
        self.loans.retain(|(seq, request, loan)| {
            let ends = which(*seq, *request);
            if ends {
                loan.end();
            }
            !ends
        });
    }

    fn attempt(&self, seq: u64) -> Option<&Attempt> {
        self.hands.iter().find(|own| own.seq == seq).map(|own| &own.attempt)
    }

    /// What a frame is about, which is no longer in the child's hands; with the time that it took, if it ran.
    fn taken_back(&mut self, fields: &mut Fields<'_>, ran: bool) -> Result<InHand, Broken> {
        let seq = fields.u64()?;
        let place = self.hands.iter().position(|own| own.seq == seq).ok_or(Broken)?;
        let own = self.hands.remove(place).ok_or(Broken)?;
        if ran {
            if !self.loans.is_empty() {
                self.end_loans(|of, _| of == seq);
            }
            own.handler.took(fields.u32()?);
            self.finished = true;
            (self.head_since, self.recalled) = (self.clock.monotonic(), false);
            let id = own.attempt.task().id();
            let mut state = self.pool().state.lock();
            if !state.suspects.is_empty() {
                state.suspects.remove(&id);
            }
        }
        Ok(own)
    }
}
