//! Frames between a process and its children: what is written into a socket, and read from it.
//!
//! A frame is its length (four bytes, the kind included), its kind (one byte) and its fields, one after the other, all
//! numbers little-endian, texts and bytes with their length before them. The two ends are always of one version, since a
//! child is started with the package of its parent; so nothing here is versioned. What does not parse means that the
//! other end is broken, and that ends the connection: a child dies, and a parent lets its child die.

/// The kinds of frames that go to a child.
pub mod down {
    /// What the child needs to know before all else.
    pub const BRIEF: u8 = 1;
    /// How to make a handler.
    pub const PREPARE: u8 = 2;
    /// A task to run.
    pub const TASK: u8 = 3;
    /// An attempt was called off.
    pub const CANCEL: u8 = 4;
    /// Give back what has not begun.
    pub const RECALL: u8 = 5;
    /// The answer to a request.
    pub const REPLY: u8 = 6;
    /// Finish, and end.
    pub const STOP: u8 = 7;
}

/// The kinds of frames that come from a child.
pub mod up {
    /// It runs, and has been briefed.
    pub const READY: u8 = 1;
    /// A handler is made, or can never be.
    pub const PREPARED: u8 = 2;
    /// A handler returned.
    pub const DONE: u8 = 3;
    /// A handler raised.
    pub const FAILED: u8 = 4;
    /// A handler put off its key.
    pub const POSTPONED: u8 = 5;
    /// Tasks that were not begun.
    pub const RETURNED: u8 = 6;
    /// How far a task is.
    pub const PROGRESS: u8 = 7;
    /// A line of a task's log.
    pub const LOG: u8 = 8;
    /// Something that wants an answer.
    pub const REQUEST: u8 = 9;
    /// It does not wait for that answer any more.
    pub const GIVEN_UP: u8 = 10;
}

/// A frame that says it is longer is none. Payloads end at 4 MiB; but nobody limits a checkpoint.
const LONGEST: usize = 1 << 30;

/// Frames on their way out.
#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    /// Where the frame begins that is being written.
    start: usize,
    /// How many bytes have been sent, ever.
    gone: u64,
}

impl Outgoing {
    /// Writes a frame; `fields` writes what is in it.
    pub fn frame(&mut self, kind: u8, fields: impl FnOnce(&mut Self)) {
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.push(kind);
        fields(self);
        let length = u32::try_from(self.bytes.len() - self.start - 4).unwrap_or(u32::MAX);
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// A byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A number.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A number.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A number.
    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A number.
    pub fn f64(&mut self, value: f64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes, with their length.
    pub fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(value);
    }

    /// A text, with its length.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// Something that may be missing.
    pub fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// What has been written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes those are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where the next frame begins, among all that was ever written.
    pub fn mark(&self) -> u64 {
        self.gone + self.bytes.len() as u64
    }

    /// Whether anything of the frame that begins at a mark has been sent.
    pub fn has_begun(&self, mark: u64) -> bool {
        self.gone > mark
    }

    /// So many bytes have been sent.
    pub fn sent(&mut self, count: usize) {
        self.gone += count as u64;
        if count == self.bytes.len() {
            self.bytes.clear();
            // A burst of large payloads must not be held for good.
            self.bytes.shrink_to(1 << 20);
        } else {
            self.bytes.drain(..count);
        }
    }

    /// Takes what has been written.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// A frame that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// The fields of a frame.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Broken)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        self.take(N)?.try_into().map_err(|_| Broken)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, Broken> {
        Ok(self.array::<1>()?[0])
    }

    /// A number.
    pub fn u32(&mut self) -> Result<u32, Broken> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number.
    pub fn u64(&mut self) -> Result<u64, Broken> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number.
    pub fn i64(&mut self) -> Result<i64, Broken> {
        self.array().map(i64::from_le_bytes)
    }

    /// A number.
    pub fn f64(&mut self) -> Result<f64, Broken> {
        self.array().map(f64::from_le_bytes)
    }

    /// Bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a str, Broken> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Broken)
    }

    /// Something that may be missing.
    pub fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Broken>,
    ) -> Result<Option<T>, Broken> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(Broken),
        }
    }
}

/// Bytes as they come in, until they are frames.
#[derive(Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// How much of it has been read.
    read: usize,
}

impl Incoming {
    /// More has come.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.is_empty() {
            self.bytes.shrink_to(1 << 20);
        }
    }

    /// The next frame that is there as a whole: its kind and its fields.
    pub fn next_frame(&mut self) -> Result<Option<(u8, &[u8])>, Broken> {
        let rest = &self.bytes[self.read..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > LONGEST {
            return Err(Broken);
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.read += 4 + length;
        Ok(Some((frame[0], &frame[1..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_however_it_is_cut() {
        let mut out = Outgoing::default();
        out.frame(down::TASK, |out| {
            out.u8(7);
            out.u32(8);
            out.u64(9);
            out.i64(-10);
            out.f64(0.5);
            out.text("è");
            out.maybe(Some("x"), Outgoing::text);
            out.maybe(None::<&str>, Outgoing::text);
        });
        out.frame(down::STOP, |_| {});
        for cut in 0..=out.len() {
            let (head, tail) = out.as_slice().split_at(cut);
            let (mut incoming, mut frames) = (Incoming::default(), Vec::new());
            for piece in [head, tail] {
                incoming.extend(piece);
                while let Some((kind, fields)) = incoming.next_frame().unwrap() {
                    frames.push((kind, fields.to_vec()));
                }
            }
            assert_eq!(frames.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [down::TASK, down::STOP]);
            let mut fields = Fields(&frames[0].1);
            assert_eq!((fields.u8(), fields.u32(), fields.u64()), (Ok(7), Ok(8), Ok(9)));
            assert_eq!((fields.i64(), fields.f64(), fields.text()), (Ok(-10), Ok(0.5), Ok("è")));
            assert_eq!((fields.maybe(Fields::text), fields.maybe(Fields::text)), (Ok(Some("x")), Ok(None)));
            assert_eq!(fields.u8(), Err(Broken), "and there is no more");
        }
    }

    #[test]
    fn a_frame_has_begun_when_its_first_byte_is_sent() {
        let mut out = Outgoing::default();
        let first = out.mark();
        out.frame(down::TASK, |out| out.text("first"));
        let second = out.mark();
        out.frame(down::TASK, |out| out.text("second"));
        assert!(!out.has_begun(first));
        out.sent(1);
        assert!(out.has_begun(first));
        out.sent(second as usize - 1);
        assert!(!out.has_begun(second));
        drop(out.take());
        assert!(!out.has_begun(second), "what is thrown away was not sent");
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [[0; 4], [255; 4]] {
            let mut incoming = Incoming::default();
            incoming.extend(&bytes);
            assert_eq!(incoming.next_frame(), Err(Broken));
        }
    }
}
