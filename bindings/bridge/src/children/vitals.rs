//! What the system knows of a process.

use std::path::Path;

/// How many bytes of memory a process has resident (RSS), shared libraries and all; None where the system does not tell.
pub fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn this_process_uses_memory_and_a_missing_one_none() {
        assert!(super::memory_of(std::process::id()).unwrap() > 100_000);
        assert_eq!(super::memory_of(u32::MAX), None);
    }
}
