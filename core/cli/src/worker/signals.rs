//! Signals as bytes in a pipe.
//!
//! # Unsafe
//! `signal-hook` calls the handlers that it finds. Node's own for SIGINT and SIGTERM raises its signal again, for the
//! default action to end the process: it would come to us again, and so for ever. So whatever handles them is taken away
//! first, and there is no safe way to say so.
#![allow(unsafe_code, reason = "takes away handlers that the host has for our signals")]

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::terminal::hangups_are_ignored;

/// Signals that have come.
pub(super) type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// The signals that are for us, from now on. One that whoever started us has had ignored stays so.
pub(super) fn signals() -> io::Result<Signals> {
    let (read, write) = UnixStream::pair()?;
    let mut all = vec![SIGTERM, SIGINT, SIGCHLD];
    if !hangups_are_ignored() {
        all.push(SIGHUP);
    }
    for signal in [SIGTERM, SIGINT] {
        // SAFETY: the default action is one that every signal may have, and no handler of ours is installed yet.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    SignalDelivery::with_pipe(read, write, SignalOnly, all)
}
