//! What SIGHUP means: new code, or a terminal that was closed.

use std::fs;

/// What was known of the terminal when the command began.
#[derive(Debug)]
pub(crate) struct Terminal {
    had_one: bool,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        Self { had_one: is_there() }
    }

    /// Whether there was one, and it has gone.
    pub(crate) fn has_gone(&self) -> bool {
        self.had_one && !is_there()
    }
}

/// Whether the process has a terminal that controls it.
fn is_there() -> bool {
    fs::File::options().read(true).write(true).open("/dev/tty").is_ok()
}

/// Whether whoever started the command had it ignore SIGHUP, as `nohup` does. Where the system does not say, not.
pub(crate) fn hangups_are_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status)
}

fn ignored_in(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bit_is_that_of_hangups() {
        assert!(ignored_in("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignored_in("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t1\n"));
        assert!(!ignored_in(""));
    }
}
