//! What a worker process tells its supervisor: lines of JSON, from the worker only. Both ends are of the same package.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The longest line. Whoever writes a longer one is no worker of ours.
const LONGEST: usize = 16 << 20;

/// What a worker process tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// It runs tasks now.
    Ready {
        /// Of these handlers.
        handlers: BTreeSet<String>,
        /// Its store.
        store: String,
    },
    /// So many attempts have ended in it.
    Tasks(u64),
}

impl Message {
    /// The line, with its end.
    pub(crate) fn line(&self) -> String {
        let json = match self {
            Self::Ready { handlers, store } => json!({"ready": {"handlers": handlers, "store": store}}),
            Self::Tasks(ended) => json!({"tasks": ended}),
        };
        format!("{json}\n")
    }

    /// Reads a line; nothing if it says nothing that we know.
    fn read(line: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(line).ok()?;
        if let Some(ended) = json["tasks"].as_u64() {
            return Some(Self::Tasks(ended));
        }
        let ready = json.get("ready")?;
        let handlers = ready["handlers"].as_array()?;
        Some(Self::Ready {
            handlers: handlers.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            store: ready["store"].as_str()?.to_owned(),
        })
    }
}

/// Lines that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Takes the next piece, and gives what is whole.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Vec<Message> {
        self.0.extend_from_slice(piece);
        let mut messages = Vec::new();
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            messages.extend(Message::read(&line));
        }
        if self.0.len() > LONGEST {
            self.0.clear();
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_any_pieces() {
        let ready = Message::Ready {
            handlers: ["a", "mail/send", "ü\n"].into_iter().map(str::to_owned).collect(),
            store: "sqlite:tasks.db".into(),
        };
        let sent = format!("{}{}", ready.line(), Message::Tasks(7).line());
        for size in [1, 2, 3, 7, 1000] {
            let mut lines = Lines::default();
            let got: Vec<Message> =
                sent.as_bytes().chunks(size).flat_map(|piece| lines.take(piece)).collect();
            assert_eq!(got, [ready.clone(), Message::Tasks(7)]);
        }
    }

    #[test]
    fn nonsense_is_passed_over() {
        let mut lines = Lines::default();
        let nonsense = b"hello\n{}\n[1]\n{\"ready\":3}\n\xff\xfe\n{\"tasks\":-1}\n{\"tasks\":2}\n";
        assert_eq!(lines.take(nonsense), [Message::Tasks(2)]);
    }
}
