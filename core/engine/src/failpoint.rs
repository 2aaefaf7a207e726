//! Places at which a test has the process die.
//!
//! Compiled only with the feature `failpoints`, which nothing that is shipped turns on. `TASKLOOM_FAILPOINT=name:3` in
//! the environment ends the process, at once and without any cleaning up, when it comes to the place of that name for
//! the third time.

/// The process has come to this place.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn reached(_: &str) {}

/// The process has come to this place.
#[cfg(feature = "failpoints")]
pub(crate) fn reached(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let set = std::env::var("TASKLOOM_FAILPOINT").ok()?;
        let (name, count) = set.split_once(':')?;
        Some((name.to_owned(), AtomicU32::new(count.parse().ok()?)))
    });
    if let Some((own, left)) = armed
        && own == name
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}
