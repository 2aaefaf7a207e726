//! Encoded values, as tasks carry them: payloads and results.
//!
//! Many are a word long (an id, `null`, `true`). Those lie in the task itself: a piece of memory for each would cost its
//! submitter, and whoever frees it on another core, more than all else that is done with it.

use std::fmt;
use std::ops::Deref;

/// So many bytes lie in the value itself: what is beside the word that says where longer ones are.
const SHORT: usize = 7;

/// An encoded value. It is as large as a box of its bytes.
///
/// ```
/// use taskloom_model::Bytes;
///
/// let (short, long) = (Bytes::from(*b"null"), Bytes::from(vec![b'x'; 100]));
/// assert_eq!((&*short, long.len()), (&b"null"[..], 100));
/// ```
#[derive(Clone)]
pub struct Bytes(Repr);

#[derive(Clone)]
enum Repr {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

impl Bytes {
    #[inline]
    fn short(from: &[u8]) -> Option<Self> {
        // In pieces of a known length, which take no call: two of them may overlap.
        let (mut bytes, len) = ([0; SHORT], from.len());
        match len {
            0 => {}
            1 => bytes[0] = from[0],
            2..4 => {
                bytes[..2].copy_from_slice(&from[..2]);
                bytes[len - 2..len].copy_from_slice(&from[len - 2..]);
            }
            4..=SHORT => {
                bytes[..4].copy_from_slice(&from[..4]);
                bytes[len - 4..len].copy_from_slice(&from[len - 4..]);
            }
            _ => return None,
        }
        Some(Self(Repr::Short { len: len as u8, bytes }))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Short { len, bytes } => &bytes[..usize::from(*len).min(SHORT)],
            Repr::Long(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Self(Repr::Short { len: 0, bytes: [0; SHORT] })
    }
}

impl From<&[u8]> for Bytes {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        Self::short(bytes).unwrap_or_else(|| Self(Repr::Long(bytes.into())))
    }
}

impl<const LEN: usize> From<[u8; LEN]> for Bytes {
    fn from(bytes: [u8; LEN]) -> Self {
        bytes.as_slice().into()
    }
}

impl<const LEN: usize> From<&[u8; LEN]> for Bytes {
    fn from(bytes: &[u8; LEN]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Box<[u8]>> for Bytes {
    #[inline]
    fn from(bytes: Box<[u8]>) -> Self {
        Self::short(&bytes).unwrap_or(Self(Repr::Long(bytes)))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::short(&bytes).unwrap_or_else(|| Self(Repr::Long(bytes.into())))
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Bytes> for Box<[u8]> {
    fn from(bytes: Bytes) -> Self {
        match bytes.0 {
            Repr::Short { .. } => bytes.deref().into(),
            Repr::Long(bytes) => bytes,
        }
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        Box::<[u8]>::from(bytes).into_vec()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What a handler returned, if it has: an [`Option`] of [`Bytes`] without a word more.
#[derive(Clone)]
pub struct Returned(Repr);

/// As the length of a short value: there is none.
const NOTHING: u8 = u8::MAX;

impl Returned {
    /// Nothing has been returned.
    pub const NOTHING: Self = Self(Repr::Short { len: NOTHING, bytes: [0; SHORT] });

    /// What was returned.
    #[inline]
    pub fn as_deref(&self) -> Option<&[u8]> {
        match &self.0 {
            Repr::Short { len: NOTHING, .. } => None,
            Repr::Short { len, bytes } => Some(&bytes[..usize::from(*len).min(SHORT)]),
            Repr::Long(bytes) => Some(bytes),
        }
    }

    /// The same, taken out.
    pub fn into_bytes(self) -> Option<Bytes> {
        if let Repr::Short { len: NOTHING, .. } = self.0 { None } else { Some(Bytes(self.0)) }
    }
}

impl Default for Returned {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl From<Bytes> for Returned {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Self(bytes.0)
    }
}

impl<B: Into<Bytes>> From<Option<B>> for Returned {
    fn from(bytes: Option<B>) -> Self {
        bytes.map_or(Self::NOTHING, |bytes| bytes.into().into())
    }
}

impl PartialEq for Returned {
    fn eq(&self, other: &Self) -> bool {
        self.as_deref() == other.as_deref()
    }
}

impl Eq for Returned {}

impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_deref().fmt(f)
    }
}

/// A million tasks have two of these each.
const _: () =
    assert!(size_of::<Bytes>() == size_of::<Box<[u8]>>() && size_of::<Returned>() == size_of::<Bytes>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_every_length_they_are_what_they_were_made_of() {
        for len in (0..20).chain([1_000]) {
            let all: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let made =
                [Bytes::from(&*all), Bytes::from(all.clone()), Bytes::from(all.clone().into_boxed_slice())];
            for bytes in made {
                assert_eq!(*bytes, *all);
                assert_eq!(matches!(bytes.0, Repr::Short { .. }), len <= SHORT);
                assert_eq!(Vec::from(bytes.clone()), all);
                let returned = Returned::from(bytes.clone());
                assert_eq!((returned.as_deref(), returned.clone().into_bytes()), (Some(&*all), Some(bytes)));
                assert_ne!(returned, Returned::NOTHING);
            }
        }
    }

    #[test]
    fn nothing_is_not_something_empty() {
        let empty = Returned::from(Bytes::default());
        assert_eq!((empty.as_deref(), Returned::default().as_deref()), (Some(&[][..]), None));
        assert_eq!(Returned::from(None::<Bytes>).into_bytes(), None);
        assert_ne!(empty, Returned::NOTHING);
    }

    #[test]
    fn they_are_shown_as_bytes() {
        assert_eq!(format!("{:?} {:?}", Bytes::from(*b"1"), Returned::from(Some(*b"2"))), "[49] Some([50])");
    }
}
