//! How commands and news are written down, for one crossing.
//!
//! A message is a few words (unsigned, of 32 bits), the first of which says what it is, and some lines of text. Words go
//! into one typed array, and the lines of all messages, with a newline after each, into one string. The lines are JSON
//! or names, so that no line contains a newline: in JSON one can only stand between tokens, and [`Writer::line`] makes
//! a space of it there.
//!
//! Payloads and results that JavaScript writes by itself stand one after the other in bytes of their own, as ASCII or UTF-8;
//! each message says how many are its.
//!
//! `node/src/wire.ts` is the other side, and must be changed along with this.

/// What JavaScript says.
pub(crate) mod command {
    /// `app, slot, handler, flags`; lines: name, options (as the flags say), payload.
    pub(crate) const SUBMIT: u32 = 1;
    /// `app, handler, flags, count`, and so many slots; lines: name, options, and a payload for each.
    pub(crate) const SUBMIT_MANY: u32 = 2;
    /// `job`; line: the result.
    pub(crate) const SUCCEEDED: u32 = 3;
    /// `job`; line: the failure.
    pub(crate) const FAILED: u32 = 4;
    /// `app, request`; line: what is asked.
    pub(crate) const REQUEST: u32 = 5;
    /// `job, slot, app, handler, flags`; lines as with `SUBMIT`.
    pub(crate) const SUBMIT_CHILD: u32 = 6;
    /// `app, slot, handler, size`; so many bytes: the payload.
    pub(crate) const SUBMIT_PLAIN: u32 = 7;
    /// `job, size`; so many bytes: the result.
    pub(crate) const SUCCEEDED_PLAIN: u32 = 8;
    /// `app, handler, count`, and so many times `slot, size`; so many bytes for each: its payload.
    pub(crate) const SUBMIT_MANY_PLAIN: u32 = 9;
}

/// Flags of a submit: which lines it has.
pub(crate) mod flag {
    pub(crate) const OPTIONS: u32 = 1;
    pub(crate) const BY_NAME: u32 = 2;
    /// Before each payload of many its key in JSON; an empty line if it has none.
    pub(crate) const KEYS: u32 = 4;
}

/// What JavaScript hears.
pub(crate) mod news {
    /// `count`, and so many times `slot, id (four words)`.
    pub(crate) const ACCEPTED: u32 = 1;
    /// `slot`; line: the error.
    pub(crate) const REFUSED: u32 = 2;
    /// `app, handler, job, attempt, id (four words)`; line: the payload.
    pub(crate) const START: u32 = 3;
    /// `slot`; line: the result.
    pub(crate) const SUCCEEDED: u32 = 4;
    /// `slot`; line: the error.
    pub(crate) const ENDED: u32 = 5;
    /// `job`; line: why.
    pub(crate) const CALL_OFF: u32 = 6;
    /// `request`; line: the answer.
    pub(crate) const ANSWER: u32 = 7;
    /// `request`; line: the error.
    pub(crate) const REFUSAL: u32 = 8;
    /// `subscription, ended`; line: the events, as an array.
    pub(crate) const EVENTS: u32 = 9;
    /// `app, moment, id (four words)`; line: the handler's name.
    pub(crate) const HOOK: u32 = 10;
    /// Nothing; line: the handlers that blocked the loop, and for how long.
    pub(crate) const BLOCKED: u32 = 11;
    /// As `START`, with the slot in the place of the line: JavaScript has kept the input there.
    pub(crate) const START_OWN: u32 = 12;
    /// `slot`: JavaScript has kept the result there.
    pub(crate) const SUCCEEDED_OWN: u32 = 13;
    /// `app, thread`: the app's pool wants this thread ended, or one started if it is none (0).
    pub(crate) const THREAD: u32 = 14;
}

/// Reads what JavaScript wrote. What does not fit the form is a mistake of ours, and ends the reading.
pub(crate) struct Reader<'a> {
    words: &'a [u32],
    text: &'a str,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(words: &'a [u32], text: &'a str, bytes: &'a [u8]) -> Self {
        Self { words, text, bytes }
    }

    pub(crate) fn word(&mut self) -> Option<u32> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(*first)
    }

    pub(crate) fn words<const N: usize>(&mut self) -> Option<[u32; N]> {
        let (first, rest) = self.words.split_first_chunk()?;
        self.words = rest;
        Some(*first)
    }

    pub(crate) fn slice(&mut self, count: u32) -> Option<&'a [u32]> {
        let (first, rest) = self.words.split_at_checked(count as usize)?;
        self.words = rest;
        Some(first)
    }

    pub(crate) fn line(&mut self) -> Option<&'a str> {
        let (line, rest) = self.text.split_once('\n')?;
        self.text = rest;
        Some(line)
    }

    pub(crate) fn bytes(&mut self, count: u32) -> Option<&'a [u8]> {
        let (first, rest) = self.bytes.split_at_checked(count as usize)?;
        self.bytes = rest;
        Some(first)
    }

    /// How many messages of so many words may be left.
    pub(crate) fn left(&self, words: usize) -> usize {
        self.words.len() / words
    }

    /// The next words without taking them.
    pub(crate) fn peek<const N: usize>(&self) -> Option<[u32; N]> {
        self.words.first_chunk().copied()
    }
}

/// How much text goes into one crossing; a single line may be longer.
const MAX_TEXT: usize = 8 << 20;

/// Writes what JavaScript is to read.
pub(crate) struct Writer<'a> {
    words: &'a mut [u32],
    used: usize,
    text: Vec<u8>,
    is_ascii: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(words: &'a mut [u32]) -> Self {
        Self { words, used: 0, text: Vec::new(), is_ascii: true }
    }

    /// Whether there is room for so many words, and for any text at all.
    pub(crate) fn has_room(&self, words: usize) -> bool {
        self.words.len() - self.used >= words && self.text.len() < MAX_TEXT
    }

    /// How many words are left.
    pub(crate) fn room(&self) -> usize {
        self.words.len() - self.used
    }

    pub(crate) fn word(&mut self, word: u32) {
        self.words[self.used] = word;
        self.used += 1;
    }

    pub(crate) fn words(&mut self, words: &[u32]) {
        words.iter().for_each(|word| self.word(*word));
    }

    pub(crate) fn id(&mut self, id: taskloom_model::TaskId) {
        self.words(&id_words(id));
    }

    /// Where the writer is, to come back to.
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.used, self.text.len())
    }

    /// Takes back what was written since.
    pub(crate) fn take_back(&mut self, (used, text): (usize, usize)) {
        self.used = used;
        self.text.truncate(text);
    }

    /// A line that is written by `write` straight into the text.
    pub(crate) fn line_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.text.len();
        let value = write(&mut self.text);
        let line = &mut self.text[start..];
        self.is_ascii &= line.is_ascii();
        line.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        self.text.push(b'\n');
        value
    }

    pub(crate) fn line(&mut self, line: &[u8]) {
        self.line_with(|text| text.extend_from_slice(line));
    }

    /// How many words there are, the text, and whether all of it is ASCII.
    pub(crate) fn finish(self) -> (usize, Vec<u8>, bool) {
        (self.used, self.text, self.is_ascii)
    }
}

/// An id as four words, the first bytes first.
pub(crate) fn id_words(id: taskloom_model::TaskId) -> [u32; 4] {
    let number = u128::from_be_bytes(*id.as_bytes());
    [(number >> 96) as u32, (number >> 64) as u32, (number >> 32) as u32, number as u32]
}
