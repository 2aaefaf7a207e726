//! Between the engine's points in time and the standard library's.

use std::time::{Duration, SystemTime};

use taskloom_engine::{Clock, SystemClock, time_here};
use taskloom_model::Timestamp;

use crate::attempts::polled;

/// A point in time as users have it.
pub(crate) fn system_time(at: Timestamp) -> SystemTime {
    let span = Duration::from_micros(at.micros().unsigned_abs());
    let time = match at.micros() >= 0 {
        true => SystemTime::UNIX_EPOCH.checked_add(span),
        false => SystemTime::UNIX_EPOCH.checked_sub(span),
    };
    // Beyond what this system's clock can say.
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A point in time as the engine has it.
pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    })
}

/// How long it is until then; zero if it is past. In a handler, by its app's clock.
pub(crate) fn until(at: Timestamp) -> Duration {
    let here = polled().map(|attempt| attempt.now()).or_else(time_here);
    at.since(here.unwrap_or_else(|| SystemClock.now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for micros in [1, -1, 1_700_000_000_123_456, -5_000_000] {
            let at = Timestamp::from_micros(micros);
            assert_eq!(timestamp(system_time(at)), at);
        }
        assert!(until(Timestamp::from_micros(1)).is_zero());
    }
}
