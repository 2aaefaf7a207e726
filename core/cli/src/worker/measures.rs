//! Sizes and times as people write them.

use std::time::Duration;

/// Bytes: `512M`, `2G`, `1.5GiB`; powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: f64 = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "k" => 1024.0,
        "m" => 1024.0 * 1024.0,
        "g" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("{text:?} is no size: write a number and K, M or G, as in 512M")),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number * factor < 1e18 => Ok((number * factor) as u64),
        _ => Err(format!("{text:?} is no size: write a number and K, M or G, as in 512M")),
    }
}

/// A time: `500ms`, `30s`, `5m`, `1h`; a number alone is seconds.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} is no time: write a number and ms, s, m or h, as in 30s")),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * factor).ok())
        .filter(|span| *span <= Duration::from_secs(30 * 24 * 3600))
        .ok_or_else(|| {
            format!("{text:?} is no time up to 30 days: write a number and ms, s, m or h, as in 30s")
        })
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..end].trim(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("512M").unwrap(), 512 << 20);
        assert_eq!(size("2g").unwrap(), 2 << 30);
        assert_eq!(size("1.5 GiB").unwrap(), 3 << 29);
        assert_eq!(size("64kb").unwrap(), 64 << 10);
        for wrong in ["512", "", "M", "-1M", "0M", "NaNM", "1e30G", "12X", "inf G"] {
            assert!(size(wrong).unwrap_err().contains("as in 512M"), "{wrong}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(span("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(span("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(span("1.5m").unwrap(), Duration::from_secs(90));
        assert_eq!(span("0").unwrap(), Duration::ZERO);
        for wrong in ["", "s", "-1s", "soon", "3 days", "inf", "nan", "1e9h"] {
            assert!(span(wrong).unwrap_err().contains("as in 30s"), "{wrong}");
        }
    }
}
