//! Task ids.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::{Code, Error};

/// The id of a task: a UUID, version 7 unless the caller set another, so ids sort by the time of submission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Uuid);

impl TaskId {
    /// A version 7 id from a time in milliseconds since the epoch and 74 bits of chance.
    pub fn from_parts(millis: u64, chance: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid())
    }

    /// From its sixteen bytes, big endian.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its sixteen bytes, big endian.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// A hash for tables in memory. An id that we made has 74 random bits; one that a caller set may have few, so
    /// both halves are mixed.
    pub const fn table_hash(&self) -> u64 {
        let (high, low) = self.0.as_u64_pair();
        (low ^ high.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::parse_str(text).map(Self).map_err(|_| {
            Error::new(Code::InvalidOption, format!("id {text:?} is not a UUID"))
                .hint("leave the id out to have one made, or pass a UUID such as uuid.uuid4() gives")
        })
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
