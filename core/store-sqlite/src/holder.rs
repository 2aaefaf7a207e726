//! Who holds the lock that a write waits for: what an error about a locked file can say.
//!
//! SQLite only knows that somebody does. The system knows more: Linux lists all locks in `/proc/locks`, those that belong
//! to a process with its number. Those that belong to an open file, as Taskloom's do, have no process there; but each
//! process lists the locks of its own open files in `/proc/PID/fdinfo`, which may be read by the same user and by root.
//!
//! This is looked up when a write has already failed, and decides nothing: who cannot be found is not named, and
//! somebody who let go of the lock in this very moment may be missing.

use std::fmt;
#[cfg(not(target_os = "linux"))]
use std::path::Path;

/// Who holds a store's file against writers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its process.
    pub(crate) pid: u32,
    /// What that is called, if it says so.
    pub(crate) name: Option<String>,
    /// Whether it was stopped, and cannot let go.
    pub(crate) is_stopped: bool,
}

impl Holder {
    /// Whether it is this process.
    pub(crate) fn is_here(&self) -> bool {
        self.pid == std::process::id()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_here() {
            return f.write_str("this process itself");
        }
        write!(f, "process {}", self.pid)?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        if self.is_stopped {
            f.write_str(", which is stopped,")?;
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_: &Path) -> Option<Holder> {
    None
}

#[cfg(target_os = "linux")]
pub(crate) use linux::of;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    use super::Holder;

    /// The bytes of a store's files that whoever writes, or keeps everybody else out, has locked.
    const IN_SHARED_MEMORY: (u64, u64) = (120, 127);
    const IN_FILE: (u64, u64) = (0x4000_0000, 0x4000_01FF);

    /// A range of a file on which a lock keeps writers out.
    struct Place {
        file: String,
        bytes: (u64, u64),
    }

    impl Place {
        fn of(path: &Path, bytes: (u64, u64)) -> Option<Self> {
            let found = fs::metadata(path).ok()?;
            let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
            // As the kernel writes it.
            Some(Self { file: format!("{major:02x}:{minor:02x}:{}", found.ino()), bytes })
        }
    }

    /// Who holds a write lock on a store, if that can be told.
    pub(crate) fn of(store: &Path) -> Option<Holder> {
        let store = fs::canonicalize(store).ok()?;
        let mut memory = store.clone().into_os_string();
        memory.push("-shm");
        let places: Vec<_> = [
            // Whoever writes to the log has the first of these; the others are for rare and short work.
            Place::of(&PathBuf::from(memory), (IN_SHARED_MEMORY.0, IN_SHARED_MEMORY.0)),
            Place::of(&store, IN_FILE),
        ]
        .into_iter()
        .flatten()
        .collect();
        let listed = fs::read_to_string("/proc/locks").ok()?;
        for place in &places {
            match listed.lines().find_map(|line| holder_in(line, place)) {
                None => {}
                Some(0) => {
                    if let Some(pid) = owner_of_open_file(place) {
                        return Some(described(pid));
                    }
                }
                Some(pid) => return Some(described(pid)),
            }
        }
        None
    }

    /// The process of a lock that stands in a line, such as `1: POSIX  ADVISORY  WRITE 812 fe:00:17 120 120`; zero if the
    /// lock is an open file's. (Somebody who waits for one has an arrow in the second place, and is none.)
    fn holder_in(line: &str, place: &Place) -> Option<u32> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, kind, _, "WRITE", pid, file, first, last] = words[..] else { return None };
        let last = if last == "EOF" { u64::MAX } else { last.parse().ok()? };
        let overlaps = first.parse::<u64>().ok()? <= place.bytes.1 && last >= place.bytes.0;
        if file != place.file || !overlaps {
            return None;
        }
        match kind {
            "POSIX" => pid.parse().ok(),
            "OFDLCK" => Some(0),
            _ => None,
        }
    }

    /// The process that has the file open which a lock belongs to.
    fn owner_of_open_file(place: &Place) -> Option<u32> {
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers.find(|pid| {
            let Ok(open) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
            open.flatten().any(|entry| {
                let Ok(said) = fs::read_to_string(entry.path()) else { return false };
                let mut locks = said.lines().filter_map(|line| line.strip_prefix("lock:"));
                locks.any(|lock| holder_in(lock.trim(), place) == Some(0))
            })
        })
    }

    fn described(pid: u32) -> Holder {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default();
        Holder {
            pid,
            name: name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
            is_stopped: matches!(state.trim().chars().next(), Some('T' | 't')),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn lines_of_locks() {
            let place = Place { file: "fe:00:17".to_owned(), bytes: (120, 120) };
            for (line, expected) in [
                ("1: POSIX  ADVISORY  WRITE 812 fe:00:17 120 120", Some(812)),
                ("1: POSIX  ADVISORY  WRITE 812 fe:00:17 0 EOF", Some(812)),
                ("2: OFDLCK ADVISORY  WRITE -1 fe:00:17 120 127", Some(0)),
                ("2: OFDLCK ADVISORY  WRITE -1 fe:00:17 121 127", None),
                ("3: POSIX  ADVISORY  READ 812 fe:00:17 120 120", None),
                ("3: POSIX  ADVISORY  WRITE 812 fe:00:18 120 120", None),
                ("3: -> POSIX  ADVISORY  WRITE 812 fe:00:17 120 120", None),
                ("4: FLOCK  ADVISORY  WRITE 812 fe:00:17 0 EOF", None),
                ("nonsense", None),
            ] {
                assert_eq!(holder_in(line, &place), expected, "{line}");
            }
        }
    }
}
