//! Versions of handlers: `major.minor.patch`, in the order of their numbers.

use std::fmt;
use std::str::FromStr;

use crate::{Code, Error};

/// A version, such as `1.4.0`. Missing numbers are zero: `2` is `2.0.0`.
///
/// ```
/// use taskloom_model::Version;
/// let version: Version = "1.10".parse().unwrap();
/// assert!(version > "1.9.3".parse().unwrap());
/// assert_eq!(version.to_string(), "1.10.0");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// What breaks callers.
    pub major: u32,
    /// What adds to it.
    pub minor: u32,
    /// What repairs it.
    pub patch: u32,
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let shown: String = text.chars().take(50).collect();
            Error::new(Code::InvalidOption, format!("version {shown:?} is not one such as \"1.4.0\""))
                .hint("give up to three numbers with dots between them")
        };
        let mut numbers = [0; 3];
        let parts: Vec<_> = text.split('.').collect();
        if parts.len() > numbers.len() {
            return Err(wrong());
        }
        for (number, part) in numbers.iter_mut().zip(parts) {
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(wrong());
            }
            *number = part.parse().map_err(|_| wrong())?;
        }
        let [major, minor, patch] = numbers;
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a", "1.", ".1", "1.2.3.4", "-1", "+1", "1.2.x", "99999999999"] {
            let error = text.parse::<Version>().unwrap_err();
            assert!(error.code() == Code::InvalidOption && error.message().contains("version"), "{error}");
        }
        assert_eq!("7".parse::<Version>().unwrap().to_string(), "7.0.0");
    }
}
