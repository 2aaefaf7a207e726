//! A worker process's end of what ties it to its supervisor.
//!
//! # What it owns
//! The socket that was the process's standard input, and a thread that waits for its end. Standard input itself is
//! `/dev/null` from then on, so that no handler reads what is not meant for it.
//!
//! # What always holds
//! However the supervisor ends, the kernel closes its end of the socket. The thread hears of it at once, needs nothing of
//! the language's (no lock, no event loop that a handler could block), and has the process end: by SIGINT, on which it
//! gives back what runs; and [`AT_ONCE`] later by killing its whole process group, itself included. So neither it nor what
//! it started stays behind. Linux besides sends SIGTERM when the supervisor ends, also to a process in which no thread has
//! been started yet.
//!
//! # What can go wrong
//! If the supervisor cannot be told something (its buffer is full, or it has gone) it is not told: it will see, or it does
//! not matter any more.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FileType, fstat};
use rustix::process::{Signal, getpid, kill_current_process_group, kill_process};

use crate::supervise::AT_ONCE;
use crate::worker::message::Message;

/// How often the supervisor is told how many tasks have ended, if it wants to know.
const OFTEN: Duration = Duration::from_millis(100);

/// How many attempts have ended, as far as that is known.
pub type Ended = Box<dyn Fn() -> Option<u64> + Send>;

/// See the module's essay.
#[derive(Debug)]
pub struct Lifeline {
    socket: UnixStream,
    is_orphan: Arc<AtomicBool>,
}

impl Lifeline {
    /// Takes standard input for what it is in a worker process, and starts the thread.
    ///
    /// Errors: standard input is no socket: the process was not started by a supervisor. Those of the system.
    pub fn take() -> io::Result<Self> {
        let input = io::stdin();
        let kind = FileType::from_raw_mode(fstat(&input)?.st_mode);
        if kind != FileType::Socket {
            return Err(io::Error::other("this program is started by `taskloom worker`, and by nobody else"));
        }
        let socket = UnixStream::from(input.as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        let is_orphan = Arc::new(AtomicBool::new(false));
        let lifeline = Self { socket, is_orphan };
        lifeline.spawn("taskloom-lifeline", {
            let (mut socket, is_orphan) = (lifeline.socket.try_clone()?, Arc::clone(&lifeline.is_orphan));
            move || {
                // The supervisor says nothing: whatever ends the reading is the end of it.
                let mut byte = [0];
                loop {
                    match socket.read(&mut byte) {
                        Ok(1..) => {}
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Ok(0) | Err(_) => break,
                    }
                }
                is_orphan.store(true, Ordering::Release);
                let _ = kill_process(getpid(), Signal::INT);
                wait(AT_ONCE);
                end_group();
            }
        })?;
        Ok(lifeline)
    }

    /// Tells the supervisor that this process runs tasks, of which handlers, on which store.
    pub fn ready(&self, handlers: impl IntoIterator<Item = String>, store: &str) {
        let handlers: BTreeSet<String> = handlers.into_iter().collect();
        self.tell(&Message::Ready { handlers, store: store.to_owned() });
    }

    /// Tells the supervisor from now on how many attempts have ended.
    ///
    /// Errors: there is no thread to do it.
    pub fn count(&self, ended: Ended) -> io::Result<()> {
        let own = Self { socket: self.socket.try_clone()?, is_orphan: Arc::clone(&self.is_orphan) };
        self.spawn("taskloom-counter", move || {
            let mut told = 0;
            while !own.is_orphan.load(Ordering::Acquire) {
                wait(OFTEN);
                let Some(count) = ended().filter(|count| *count != told) else { continue };
                own.tell(&Message::Tasks(count));
                told = count;
            }
        })
    }

    /// The last thing that a worker process does: if nobody is there to look after what it has started, that is killed,
    /// and the process with it.
    pub fn leave(&self) {
        if self.is_orphan.load(Ordering::Acquire) {
            end_group();
        }
    }

    fn tell(&self, message: &Message) {
        let _ = (&self.socket).write_all(message.line().as_bytes());
    }

    #[expect(clippy::unused_self, reason = "the thread is the lifeline's own")]
    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        // Not by the engine's edge: a process that forks after this has no thread of an engine to lose.
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }
}

/// Kills this process and all that it has started and that has not gone its own way.
fn end_group() {
    let _ = kill_current_process_group(Signal::KILL);
}

/// Waits on a signal that never comes.
fn wait(span: Duration) {
    let (_sender, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(span);
}
