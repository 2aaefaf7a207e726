//! The socket of a child, and what has come through it: the reader, the flusher, and the inbox of the main thread.
//!
//! What always holds, and what happens when the parent goes, is said in [`super`].

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use taskloom_bridge::children::wire::{Broken, Fields, Incoming, Outgoing, down, up};
use taskloom_model::TaskId;

use super::job::Job;
use crate::runtime::PyRuntime;

/// A result waits no longer than this for others to go with it.
const LINGER: Duration = Duration::from_micros(100);

/// What the main thread is to do next.
pub(super) enum Event {
    Brief(Vec<u8>),
    Prepare(u32, bool, Vec<u8>),
    Task(Job),
}

type Answer = (u64, bool, Vec<u8>);

#[derive(Default)]
struct Inbox {
    events: VecDeque<Event>,
    stopping: bool,
    /// The attempt that runs: its number in the socket, and its task's.
    current: Option<(u64, TaskId, u32)>,
    /// It was called off.
    called_off: bool,
    /// The answer that the main thread waits for, or any other thread of the handler.
    answers: Vec<Answer>,
    requests: u64,
}

impl Inbox {
    /// Whether the attempt with this number does not run any more, or was called off.
    fn is_over(&self, seq: u64) -> bool {
        !matches!(self.current, Some((current, ..)) if current == seq) || self.called_off
    }
}

pub(super) struct Link {
    socket: UnixStream,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    pending: Mutex<Outgoing>,
    /// There is something to send.
    filled: Condvar,
    sending: Mutex<()>,
    runtime: Arc<PyRuntime>,
}

/// Nobody is left who could take a result.
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

impl Link {
    /// Over this socket; the reader and the flusher run from now on.
    pub(super) fn open(socket: UnixStream) -> io::Result<Arc<Self>> {
        let runtime = Arc::new(PyRuntime::default());
        runtime.enlist();
        let link = Arc::new(Self {
            socket,
            inbox: Mutex::default(),
            arrived: Condvar::new(),
            pending: Mutex::default(),
            filled: Condvar::new(),
            sending: Mutex::new(()),
            runtime,
        });
        let (reader, flusher) = (Arc::clone(&link), Arc::clone(&link));
        taskloom_engine::spawn_thread("taskloom-reader", move || reader.reader())?;
        taskloom_engine::spawn_thread("taskloom-flusher", move || flusher.flusher())?;
        Ok(link)
    }

    /// Sends what is pending.
    pub(super) fn flush(&self) {
        let _sending = self.sending.lock();
        let bytes = self.pending.lock().take();
        if !bytes.is_empty() && (&self.socket).write_all(&bytes).is_err() {
            die();
        }
    }

    /// Writes a frame, to be sent soon.
    pub(super) fn write(&self, kind: u8, fields: impl FnOnce(&mut Outgoing)) -> usize {
        let mut pending = self.pending.lock();
        let was_empty = pending.is_empty();
        pending.frame(kind, fields);
        let len = pending.len();
        drop(pending);
        if was_empty {
            self.filled.notify_one();
        }
        len
    }

    fn flusher(&self) {
        let mut pending = self.pending.lock();
        loop {
            while pending.is_empty() {
                self.filled.wait(&mut pending);
            }
            drop(pending);
            std::thread::park_timeout(LINGER);
            self.flush();
            pending = self.pending.lock();
        }
    }

    fn reader(&self) {
        let mut incoming = Incoming::default();
        let mut bytes = vec![0; 64 * 1024];
        loop {
            match (&self.socket).read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => incoming.extend(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            while let Ok(Some((kind, fields))) = incoming.next_frame() {
                if self.hear(kind, Fields(fields)).is_err() {
                    die();
                }
            }
        }
        // If it was asked to end, it does so by itself.
        if !self.inbox.lock().stopping {
            die();
        }
    }

    fn hear(&self, kind: u8, mut fields: Fields<'_>) -> Result<(), Broken> {
        match kind {
            down::BRIEF => self.push(Event::Brief(fields.bytes()?.to_vec())),
            down::PREPARE => {
                let (number, good) = (fields.u32()?, fields.u8()? != 0);
                self.push(Event::Prepare(number, good, fields.bytes()?.to_vec()));
            }
            down::TASK => self.push(Event::Task(Job::read(&mut fields)?)),
            down::CANCEL => self.called_off(fields.u64()?),
            down::RECALL => self.give_back(|_| true),
            down::REPLY => {
                let answer = (fields.u64()?, fields.u8()? != 0, fields.bytes()?.to_vec());
                self.inbox.lock().answers.push(answer);
                self.arrived.notify_all();
            }
            down::STOP => {
                self.inbox.lock().stopping = true;
                self.arrived.notify_all();
            }
            _ => return Err(Broken),
        }
        Ok(())
    }

    fn push(&self, event: Event) {
        let mut inbox = self.inbox.lock();
        inbox.events.push_back(event);
        drop(inbox);
        self.arrived.notify_all();
    }

    /// Gives back tasks that have not begun.
    fn give_back(&self, which: impl Fn(&Job) -> bool) {
        let mut returned = Vec::new();
        {
            let mut inbox = self.inbox.lock();
            let fits = |event: &Event| matches!(event, Event::Task(job) if which(job));
            inbox.events.retain(|event| {
                let fits = fits(event);
                if fits && let Event::Task(job) = event {
                    returned.push(job.seq);
                }
                !fits
            });
        }
        if !returned.is_empty() {
            self.write(up::RETURNED, |out| {
                out.u32(returned.len() as u32);
                returned.iter().for_each(|seq| out.u64(*seq));
            });
            self.flush();
        }
    }

    fn called_off(&self, seq: u64) {
        let mut inbox = self.inbox.lock();
        if let Some((_, id, attempt)) = inbox.current.filter(|(current, ..)| *current == seq) {
            inbox.called_off = true;
            drop(inbox);
            self.arrived.notify_all();
            self.runtime.interrupt_running((id, attempt));
        } else {
            drop(inbox);
            self.give_back(|job| job.seq == seq);
        }
    }

    /// Waits for what is to be done next.
    pub(super) fn next(&self) -> Option<Event> {
        let mut inbox = self.inbox.lock();
        loop {
            if let Some(event) = inbox.events.pop_front() {
                if let Event::Task(job) = &event {
                    inbox.current = Some((job.seq, job.id, job.attempt));
                    inbox.called_off = false;
                }
                return Some(event);
            }
            if inbox.stopping {
                return None;
            }
            self.arrived.wait(&mut inbox);
        }
    }

    pub(super) fn has_events(&self) -> bool {
        !self.inbox.lock().events.is_empty()
    }

    /// Whether the attempt with this number does not run any more, or was called off.
    pub(super) fn is_over(&self, seq: u64) -> bool {
        self.inbox.lock().is_over(seq)
    }

    /// The outcome of the attempt that runs is written.
    pub(super) fn end(&self) {
        let mut inbox = self.inbox.lock();
        inbox.current = None;
        // Nobody waits for these any more.
        inbox.answers.clear();
    }

    /// Asks the parent, and waits for the answer: whether it is a good one, and what it is. None if the time is over, or
    /// the attempt.
    pub(super) fn ask(
        &self,
        seq: u64,
        what: u8,
        body: &[u8],
        span: Option<Duration>,
    ) -> Option<(bool, Vec<u8>)> {
        let request = {
            let mut inbox = self.inbox.lock();
            inbox.requests += 1;
            inbox.requests
        };
        self.write(up::REQUEST, |out| {
            out.u64(request);
            out.u64(seq);
            out.u8(what);
            out.bytes(body);
        });
        self.flush();
        let answer = self.answer(seq, request, span);
        if answer.is_none() {
            self.write(up::GIVEN_UP, |out| out.u64(request));
        }
        answer
    }

    fn answer(&self, seq: u64, request: u64, span: Option<Duration>) -> Option<(bool, Vec<u8>)> {
        let end = span.and_then(taskloom_engine::deadline_after);
        let mut inbox = self.inbox.lock();
        loop {
            if let Some(place) = inbox.answers.iter().position(|(own, ..)| *own == request) {
                let (_, good, bytes) = inbox.answers.swap_remove(place);
                return Some((good, bytes));
            }
            if inbox.is_over(seq) {
                return None;
            }
            match end {
                Some(end) if self.arrived.wait_until(&mut inbox, end).timed_out() => return None,
                Some(_) => {}
                None => self.arrived.wait(&mut inbox),
            }
        }
    }
}
