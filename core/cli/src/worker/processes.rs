//! The supervisor's hands: processes, the sockets to them, and signals.
//!
//! # What it owns
//! One [`Process`] for each that was started and has not been waited for: its number, and our end of a pair of sockets
//! whose other end is its standard input. The process tells over it that it is ready; that we hold our end tells it that
//! we live. The kernel closes ours however we end, and the process leaves then (`lifeline`).
//!
//! # One thread
//! Everything is done by the thread that runs the command: it waits for signals, sockets and the next moment that the
//! [`Supervisor`] has named. It has to be one that lives as long as the process, since Linux tells children of the end of
//! the thread that started them.
//!
//! # Process groups
//! Each process leads a group of its own. So Ctrl-C in a terminal reaches the supervisor only, and what a process has
//! started can be killed with it, even when it has ended itself: that is done before it is waited for, while nobody else
//! can be given its number.
//!
//! # What can go wrong
//! A process that cannot be started is one that ended. Standard error that cannot be written is no reason to end: whoever
//! read it has gone. If the system's calls for waiting fail, the command ends with that error, and the processes leave as
//! they do whenever it ends.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use signal_hook::consts::{SIGCHLD, SIGHUP};
use taskloom_engine::{Clock, SystemClock};
use taskloom_model::{Code, Error};

use super::message::{Lines, Message};
use super::signals::{Signals, signals};
use super::terminal::Terminal;
use crate::exit::{Failure, Outcome};
use crate::session::Session;
use crate::supervise::{Action, ChildId, Ending, Event, Notice, Plan, Supervisor};

/// How often the memory of processes is looked at, where it has a bound.
const LOOK: Duration = Duration::from_millis(250);

/// Runs the processes until the command is to end; its exit code.
pub(crate) fn run(session: &Session<'_>, plan: Plan, app: &OsStr, settings: &str) -> Outcome {
    // Refused now if this package has no such program.
    drop(session.host.program("worker")?);
    let measures = plan.max_memory.is_some();
    let seed = u64::from(std::process::id()) ^ SystemClock.now().micros().unsigned_abs();
    let mut house = House {
        session,
        app,
        settings,
        supervisor: Supervisor::new(plan, seed),
        processes: BTreeMap::new(),
        terminal: Terminal::new(),
        code: None,
    };
    house.live(measures).map_err(|error| {
        Failure::Error(
            Error::new(Code::StoreFailed, "the system does not let processes be watched").caused_by(error),
        )
    })
}

/// A process that was started and has not been waited for.
struct Process {
    child: Child,
    pid: Pid,
    socket: UnixStream,
    lines: Lines,
}

struct House<'a> {
    session: &'a Session<'a>,
    app: &'a OsStr,
    settings: &'a str,
    supervisor: Supervisor,
    processes: BTreeMap<ChildId, Process>,
    terminal: Terminal,
    /// The command's exit code, once it is to end.
    code: Option<u8>,
}

impl House<'_> {
    fn live(&mut self, measures: bool) -> io::Result<u8> {
        let mut signals = signals()?;
        let mut look_at = measures.then(|| now() + LOOK);
        self.happen(Event::Tick);
        loop {
            if let Some(code) = self.code {
                return Ok(code);
            }
            let wake = [self.supervisor.next_wake(), look_at].into_iter().flatten().min();
            let readable = self.wait(&signals, wake)?;
            for id in readable {
                self.listen(id);
            }
            let raised: Vec<i32> = signals.pending().collect();
            for signal in raised {
                match signal {
                    SIGCHLD => self.bury(),
                    SIGHUP if !self.terminal.has_gone() => self.happen(Event::Reload),
                    signal => self.happen(Event::Stop(signal)),
                }
            }
            if look_at.is_some_and(|at| at <= now()) {
                self.measure();
                look_at = Some(now() + LOOK);
            }
            self.happen(Event::Tick);
        }
    }

    /// Waits for a signal, a socket, or this moment. Which processes have said something.
    fn wait(&self, signals: &Signals, wake: Option<Duration>) -> io::Result<Vec<ChildId>> {
        let mut fds = vec![PollFd::new(signals.get_read(), PollFlags::IN)];
        let heard: Vec<ChildId> = self.processes.keys().copied().collect();
        fds.extend(self.processes.values().map(|process| PollFd::new(&process.socket, PollFlags::IN)));
        let left = wake.map(|wake| {
            // Up to the next whole millisecond, so that it has come by then.
            let left = wake.saturating_sub(now()) + Duration::from_millis(1);
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(heard
            .into_iter()
            .zip(&fds[1..])
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(id, _)| id)
            .collect())
    }

    /// Reads what a process has said.
    fn listen(&mut self, id: ChildId) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let mut messages = Vec::new();
        let mut piece = [0; 16 << 10];
        loop {
            match process.socket.read(&mut piece) {
                // Its end is closed: it has ended, or is about to. SIGCHLD will say so.
                Ok(0) => break,
                Ok(length) => messages.extend(process.lines.take(&piece[..length])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        for message in messages {
            self.happen(match message {
                Message::Ready { handlers, store } => Event::Ready { child: id, handlers, store },
                Message::Tasks(ended) => Event::Tasks { child: id, ended },
            });
        }
    }

    /// Looks which processes have ended.
    fn bury(&mut self) {
        let gone: Vec<ChildId> =
            self.processes.iter().filter(|(_, process)| has_ended(process.pid)).map(|(id, _)| *id).collect();
        for id in gone {
            self.listen(id);
            let Some(mut process) = self.processes.remove(&id) else { continue };
            // What it has started ends with it. Its number is still its own.
            let _ = kill_process_group(process.pid, Signal::KILL);
            let how = match process.child.wait() {
                Ok(status) => match (status.code(), status.signal()) {
                    (Some(code), _) => Ending::Exited(code),
                    (None, Some(signal)) => Ending::Signalled(signal),
                    (None, None) => Ending::NotStarted(format!("it ended in a way unknown here: {status}")),
                },
                Err(error) => Ending::NotStarted(format!("it ended, and how is not known: {error}")),
            };
            let pid = process.child.id();
            self.happen_to(Event::Ended { child: id, how }, |child| (child == id).then_some(pid));
        }
    }

    /// Looks how much memory they have.
    fn measure(&mut self) {
        let all: Vec<(ChildId, u32)> =
            self.processes.iter().map(|(id, process)| (*id, process.child.id())).collect();
        for (child, pid) in all {
            if let Some(bytes) = resident(pid) {
                self.happen(Event::Memory { child, bytes });
            }
        }
    }

    fn happen(&mut self, event: Event) {
        self.happen_to(event, |_| None);
    }

    /// Tells the supervisor, and does what it says. `gone` knows the numbers of processes that are no longer in the list.
    fn happen_to(&mut self, event: Event, gone: impl Fn(ChildId) -> Option<u32> + Copy) {
        for action in self.supervisor.step(now(), event) {
            match action {
                Action::Start(id) => {
                    if let Err(error) = self.start(id) {
                        let how = Ending::NotStarted(format!("it could not be started: {error}"));
                        self.happen_to(Event::Ended { child: id, how }, gone);
                    }
                }
                Action::Terminate(id) => self.signal(id, Signal::TERM),
                Action::Interrupt(id) => self.signal(id, Signal::INT),
                Action::Kill(id) => {
                    if let Some(process) = self.processes.get(&id) {
                        let _ = kill_process_group(process.pid, Signal::KILL);
                    }
                }
                Action::Say(notice) => self.say(&notice, gone),
                Action::Exit(code) => self.code = Some(code),
            }
        }
    }

    fn start(&mut self, id: ChildId) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = self.session.host.program("worker").map_err(io::Error::other)?;
        command.arg(self.app).arg(self.settings).stdin(Stdio::from(OwnedFd::from(theirs))).process_group(0);
        // Handed over, not inherited: Node has the system close them in whatever it starts.
        command.stdout(io::stdout().as_fd().try_clone_to_owned()?);
        command.stderr(io::stderr().as_fd().try_clone_to_owned()?);
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the system gave it no number"))?;
        self.processes.insert(id, Process { child, pid, socket: ours, lines: Lines::default() });
        Ok(())
    }

    fn signal(&self, id: ChildId, signal: Signal) {
        if let Some(process) = self.processes.get(&id) {
            // That it has ended meanwhile is no error: it will be heard of.
            let _ = kill_process(process.pid, signal);
        }
    }

    fn say(&self, notice: &Notice, gone: impl Fn(ChildId) -> Option<u32>) {
        let pid =
            |id: ChildId| self.processes.get(&id).map(|process| process.child.id()).or_else(|| gone(id));
        let line = if self.session.json {
            let mut json = notice.json(pid);
            json.insert("time".into(), SystemClock.now().to_string().into());
            format!("{}\n", serde_json::Value::Object(json))
        } else {
            format!("taskloom: {}\n", notice.text(pid))
        };
        // Whoever read it may have gone, and the workers go on.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

fn now() -> Duration {
    SystemClock.monotonic()
}

/// Whether a process has ended, and can be waited for; it stays so.
fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

/// How many bytes of memory of a process are resident.
#[cfg(target_os = "linux")]
fn resident(pid: u32) -> Option<u64> {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

/// How many bytes of memory of a process are resident: elsewhere than on Linux `ps` knows.
#[cfg(not(target_os = "linux"))]
fn resident(pid: u32) -> Option<u64> {
    let told = std::process::Command::new("ps").args(["-o", "rss=", "-p", &pid.to_string()]).output().ok()?;
    let kilobytes: u64 = String::from_utf8(told.stdout).ok()?.trim().parse().ok()?;
    Some(kilobytes.saturating_mul(1024))
}
