//! Interned names of handlers and queues.
//!
//! Every task names a handler and a queue, and there are few of either beside millions of tasks. A [`Name`] is one
//! pointer to a text that is stored once per process and never freed, so that copying is free and comparing is one
//! instruction. What a process can leak is bounded by the number of different names it ever sees: a few dozen
//! bytes each.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The interned name of a handler or a queue.
///
/// ```
/// use taskloom_model::Name;
/// assert_eq!(Name::new("email/send"), Name::new("email/send"));
/// assert_eq!(Name::new("email/send").as_str(), "email/send");
/// ```
#[derive(Clone, Copy)]
pub struct Name(&'static &'static str);

static NAMES: OnceLock<Mutex<HashMap<&'static str, Name>>> = OnceLock::new();

impl Name {
    /// The one name with this text.
    pub fn new(text: &str) -> Self {
        // The map holds no half-made entry at any point, so a panic elsewhere cannot have harmed it.
        let mut names = NAMES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(text) {
            return *known;
        }
        let text: &'static str = Box::leak(text.into());
        let name = Self(Box::leak(Box::new(text)));
        names.insert(text, name);
        name
    }

    /// Its text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl From<&str> for Name {
    /// As [`Name::new`].
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self.0).hash(state);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
