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

    /// The same from words: twelve bits that tell the fraction of the millisecond, and 62 of chance. What is above those is
    /// left out.
    #[inline]
    pub const fn from_words(millis: u64, fraction: u64, chance: u64) -> Self {
        Self(Uuid::from_u64_pair(
            millis << 16 | 0x7000 | fraction & 0xFFF,
            1 << 63 | chance & (u64::MAX >> 2),
        ))
    }

    /// The id of this task's child with an ordinal. It follows from the two, so an attempt that submits its children
    /// again finds those that an earlier attempt submitted. It sorts with its parent.
    #[must_use]
    pub fn child(&self, ordinal: u32) -> Self {
        // Two rounds of a strong mixer over all of the input: children of one parent, and of parents that differ in
        // one bit, differ in about half of their 74 bits. (splitmix64's finalizer.)
        const fn mix(mut word: u64) -> u64 {
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^ (word >> 31)
        }
        let (high, low) = self.0.as_u64_pair();
        let first = mix(mix(high.wrapping_add(0x9E37_79B9_7F4A_7C15)) ^ low ^ (u64::from(ordinal) << 32 | 1));
        let second = mix(first ^ low.rotate_left(17) ^ u64::from(ordinal));
        let mut chance = [0; 10];
        chance[..8].copy_from_slice(&first.to_be_bytes());
        chance[8..].copy_from_slice(&second.to_be_bytes()[..2]);
        Self::from_parts(high >> 16, chance)
    }

    /// From its sixteen bytes, big endian.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its sixteen bytes, big endian.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// A hash for tables in memory: its lower bits are the place, the uppermost seven tell those apart that have the
    /// same.
    ///
    /// Version 7 ids that a thread made one after the other get places one after the other, so that a table which is
    /// filled and emptied in that order works on a few lines of memory, and not each time on another: both time and
    /// chance grow from one to the next, and the place is their sum. Other ids may have few bits that differ, anywhere:
    /// both halves are mixed.
    #[inline]
    pub const fn table_hash(&self) -> u64 {
        let (high, low) = self.0.as_u64_pair();
        if high & 0xF000 != 0x7000 {
            return (low ^ high.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        // About a microsecond, and what the chance of a thread's next id is ahead by, on average, twice.
        let micros = (high >> 16 << 10) + (high >> 2 & 0x3FF);
        let place = (low >> 32).wrapping_add(micros);
        (low << 57) | (place & (u64::MAX >> 7))
    }
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::parse_str(text).map(Self).map_err(|_| {
            Error::new(Code::InvalidOption, format!("id {text:?} is not a UUID"))
                .hint("an id is a UUID, such as 01956a0c-7d00-7a31-8c55-0a8f3d1c9b02; leave it out of a submit to have one made")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_make_the_same_ids_as_bytes() {
        for (millis, fraction, chance) in
            [(0, 0, 0), (1_700_000_000_000, 4095, 5), (u64::MAX >> 16, 0x1234, u64::MAX), (7, 1, 1 << 61)]
        {
            let mut bytes = [0; 10];
            bytes[..2].copy_from_slice(&(fraction as u16).to_be_bytes());
            bytes[2..].copy_from_slice(&u64::to_be_bytes(chance));
            assert_eq!(TaskId::from_words(millis, fraction, chance), TaskId::from_parts(millis, bytes));
        }
    }
}
