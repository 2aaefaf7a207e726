//! Waking an event loop from a thread that is not attached to Python.
//!
//! A pair of sockets: writing a byte to one makes the other readable, which the loop watches (`add_reader`). At most
//! one byte is under way: whoever raises the signal writes only if it was down, and whoever clears it reads first and
//! lowers it then, before looking at what it was raised for.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// A wake-up call for one event loop.
pub(crate) struct Signal {
    raised: AtomicBool,
    write: UnixStream,
    read: UnixStream,
}

impl Signal {
    pub(crate) fn new() -> std::io::Result<Self> {
        let (write, read) = UnixStream::pair()?;
        write.set_nonblocking(true)?;
        read.set_nonblocking(true)?;
        Ok(Self { raised: AtomicBool::new(false), write, read })
    }

    pub(crate) fn fileno(&self) -> i32 {
        self.read.as_raw_fd()
    }

    pub(crate) fn raise(&self) {
        if !self.raised.swap(true, Ordering::SeqCst) {
            // A full or closed socket means that the loop is awake already, or gone.
            let _ = (&self.write).write(&[1]);
        }
    }

    pub(crate) fn clear(&self) {
        let mut bytes = [0; 16];
        // Nothing to read is fine: the loop may look unasked.
        let _ = (&self.read).read(&mut bytes);
        self.raised.store(false, Ordering::SeqCst);
    }
}
