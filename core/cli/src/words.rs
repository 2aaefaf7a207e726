//! How things are said: texts of strangers, spans of time, numbers of things.

use std::time::Duration;

use taskloom_model::{State, Timestamp};

use crate::terminal::Colour;

/// A text on one line, in which nothing steers the terminal: whoever submits a task chooses its name, and must not paint
/// with it.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // The second set turns the direction of what follows around.
        if character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// The same, over several lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// A span in its two largest units.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0 if span.is_zero() => "0s".to_owned(),
        0 => match span.as_millis() {
            0 => format!("{}us", span.as_micros()),
            millis => format!("{millis}ms"),
        },
        1..60 => format!("{seconds}s"),
        60..3600 => two(minutes, 'm', seconds % 60, 's'),
        3600..86_400 => two(hours, 'h', minutes, 'm'),
        _ => two(days, 'd', hours, 'h'),
    }
}

fn two(large: u64, unit: char, small: u64, smaller: char) -> String {
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{smaller}") }
}

/// A time as seen from now.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let micros = at.micros().saturating_sub(now.micros());
    let distance = Duration::from_micros(micros.unsigned_abs());
    match micros {
        _ if distance < Duration::from_secs(1) => "now".to_owned(),
        0.. => format!("in {}", span(distance)),
        _ => format!("{} ago", span(distance)),
    }
}

/// So many things.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// So many bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The colour of a state.
pub(crate) fn colour_of(state: State) -> Option<Colour> {
    Some(match state {
        State::Succeeded => Colour::Green,
        State::Failed | State::TimedOut => Colour::Red,
        State::Running => Colour::Blue,
        State::Retrying => Colour::Yellow,
        State::Cancelled | State::Expired => Colour::Magenta,
        State::Queued => Colour::Cyan,
        State::Pending | State::Skipped => Colour::Dim,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (micros, said) in [
            (0, "0s"),
            (7, "7us"),
            (1_500, "1ms"),
            (59_999_999, "59s"),
            (60_000_000, "1m"),
            (61_000_000, "1m1s"),
            (3_600_000_000, "1h"),
            (90_000_000_000, "1d1h"),
            (86_400_000_000, "1d"),
        ] {
            assert_eq!(span(Duration::from_micros(micros)), said);
        }
        let now = Timestamp::from_micros(1_000_000_000);
        assert_eq!(relative(now + Duration::from_secs(5), now), "in 5s");
        assert_eq!(relative(now - Duration::from_secs(65), now), "1m5s ago");
        assert_eq!(relative(now, now), "now");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\u{202e}c\td"), "a\\u{1b}[2Jb\\u{202e}c\\td");
        assert_eq!(clean_lines("a\n\tb\r\n"), "a\n    b");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(5 << 20), "5.0 MiB");
    }
}
