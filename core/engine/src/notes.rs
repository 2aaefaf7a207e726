//! What handlers note beside their results, until the attempt ends.
//!
//! Few handlers note anything, so it is kept beside the tasks and not in them; a count says whether there is any, and
//! an attempt that ends looks at that first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use taskloom_model::{Fence, TaskId};

/// How many bytes of notes one attempt may have.
pub const MAX_NOTES: usize = 64 << 10;

/// Keys and their values, as JSON.
type Noted = Vec<(String, String)>;

#[derive(Default)]
pub(crate) struct Notes {
    count: AtomicUsize,
    by_attempt: Mutex<HashMap<(TaskId, u32), Noted>>,
}

impl Notes {
    /// Sets a key of an attempt's notes; whether there was room for it.
    pub(crate) fn set(&self, id: TaskId, fence: Fence, key: &str, json: &str) -> bool {
        let mut all = self.by_attempt.lock();
        let notes = all.entry((id, fence.attempt)).or_default();
        let others: usize =
            notes.iter().filter(|(other, _)| other != key).map(|(key, json)| key.len() + json.len()).sum();
        let fits = others + key.len() + json.len() <= MAX_NOTES;
        if fits {
            match notes.iter_mut().find(|(other, _)| other == key) {
                Some((_, value)) => json.clone_into(value),
                None => notes.push((key.to_owned(), json.to_owned())),
            }
        }
        self.count.store(all.len(), Ordering::Release);
        fits
    }

    /// Whether any attempt has noted anything.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    /// Takes what an attempt has noted, as a JSON object.
    pub(crate) fn take(&self, id: TaskId, fence: Fence) -> Option<Box<[u8]>> {
        if !self.are_there() {
            return None;
        }
        let mut all = self.by_attempt.lock();
        let notes = all.remove(&(id, fence.attempt));
        self.count.store(all.len(), Ordering::Release);
        drop(all);
        let mut object = crate::events::json::Map::new();
        for (key, json) in notes? {
            object.add(&key, &json);
        }
        Some(object.build().into_boxed_bytes())
    }
}
