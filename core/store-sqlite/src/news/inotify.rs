//! Events of the Linux kernel.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use super::{Event, Watch};

/// A queue for each: the system merges equal events that nobody has read yet, if no other stands between them.
#[derive(Debug)]
pub(super) struct Events {
    log: OwnedFd,
    owners: OwnedFd,
    rouse: OwnedFd,
}

impl Events {
    pub(super) fn new(log: &Path, owners: &Path) -> io::Result<Self> {
        let queue = || inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let events = Self {
            log: queue()?,
            owners: queue()?,
            rouse: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        };
        // The first owner to join would make it.
        std::fs::create_dir_all(owners)?;
        inotify::add_watch(&events.log, log, WatchFlags::MODIFY)?;
        inotify::add_watch(&events.owners, owners, WatchFlags::CLOSE_WRITE)?;
        Ok(events)
    }

    fn poll(&self, limit: Duration, log: bool) -> Event {
        let limit = Timespec::try_from(limit).ok();
        let input = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = [input(self.rouse.as_fd()), input(self.owners.as_fd()), input(self.log.as_fd())];
        // Interrupted by a signal, it has heard nothing, and is called again.
        let asked = if log { &mut fds[..] } else { &mut fds[..2] };
        if poll(asked, limit.as_ref()).is_err() {
            return Event::default();
        }
        let ready = |index: usize| fds[index].revents().contains(PollFlags::IN);
        let event = Event { roused: ready(0), owners: ready(1), log: log && ready(2) };
        if event.roused {
            // It counts; whatever it has come to, it begins anew.
            let _ = rustix::io::read(&self.rouse, &mut [0; 8]);
        }
        for (happened, queue) in [(event.owners, &self.owners), (event.log, &self.log)] {
            if happened {
                drain(queue);
            }
        }
        event
    }
}

/// Reads what is there now; what comes meanwhile makes the next poll end at once.
fn drain(queue: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(queue, &mut buffer);
    while events.next().is_ok() && !events.is_buffer_empty() {}
}

impl Watch for Events {
    fn rouse(&self) {
        // It fails only if it was roused already, beyond counting.
        let _ = rustix::io::write(&self.rouse, &1u64.to_ne_bytes());
    }

    fn wait(&self, limit: Duration, log: bool) -> Event {
        self.poll(limit, log)
    }

    fn is_told(&self) -> bool {
        true
    }
}
