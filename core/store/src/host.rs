//! What the submitting language leaves with a task of a resident store: context variables, say, or where it waits.
//!
//! That is either an object of the language's ([`Host`]), or a [`Note`] of two numbers, for a language that keeps what
//! belongs to a task at home and has a number for it. A note lies in the task itself: to make a piece of memory for each task
//! on one core, and to free it on another, takes as long as a tenth of all else that is done for it.
//!
//! # Invariants
//! Whatever it is hears once that its task has settled, on any thread and before whoever waits for the task wakes up. Who
//! hears it for notes is said once in a process, by [`keep_notes`]: only one language is compiled into a library that has
//! this code.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Task;

/// What a host language keeps with a task until it runs.
pub trait Host: Any + Send + Sync {
    /// The task has settled: no attempt will need this any more. Called once, on any thread, before whoever waits
    /// wakes up; it must not block.
    fn settled(&self) {}

    /// The same, with the attempt by which its task succeeded, if it did: what is called, and calls the other unless it is
    /// overridden.
    fn ended(&self, succeeded: Option<u32>) {
        let _ = succeeded;
        self.settled();
    }
}

/// What came with one task.
pub type HostData = Box<dyn Host>;

/// Who has left something with a task, and under which number it keeps what belongs to it.
#[derive(Debug)]
pub struct Note {
    number: u32,
    /// Whose it is, and below that eight bits for marks of theirs.
    whose: AtomicU32,
}

/// How many bits of it are marks.
const MARKS: u32 = u8::BITS;

impl Note {
    /// There are no larger numbers of those who leave notes.
    pub const MOST: u32 = u32::MAX >> MARKS;

    /// A note of somebody's: of one whose own number is from one to [`Note::MOST`].
    pub fn new(whose: u32, number: u32) -> Self {
        debug_assert!((1..=Self::MOST).contains(&whose), "{whose} is nobody's number");
        Self { number, whose: AtomicU32::new(whose << MARKS) }
    }

    /// Whose it is.
    #[inline]
    pub fn whose(&self) -> u32 {
        self.whose.load(Ordering::Relaxed) >> MARKS
    }

    /// The number.
    #[inline]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The marks that it has.
    #[inline]
    pub fn marks(&self) -> u8 {
        self.whose.load(Ordering::Acquire) as u8
    }

    /// Sets marks, besides those that it has. There is to be one who does that at a time.
    #[inline]
    pub fn mark(&self, marks: u8) {
        self.whose.store(self.whose.load(Ordering::Relaxed) | u32::from(marks), Ordering::Release);
    }
}

/// Who hears of the ends of tasks with notes.
pub trait Keeper: Sync {
    /// The task of a note has settled; with the attempt by which it succeeded, if it did. It must not block.
    fn ended(&self, note: &Note, task: &Arc<Task>, succeeded: Option<u32>);
}

static KEEPER: OnceLock<&'static dyn Keeper> = OnceLock::new();

/// Says who hears of the ends of tasks with notes. The first one counts.
pub fn keep_notes(keeper: &'static dyn Keeper) {
    // Only ever the same one.
    let _ = KEEPER.set(keeper);
}

/// What was left with a task; most often nothing. As large as a box.
#[derive(Debug)]
pub struct Keepsake(Kind);

enum Kind {
    Boxed(HostData),
    /// Nobody's, if nothing was left.
    Noted(Note),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boxed(_) => f.write_str("Boxed"),
            Self::Noted(note) => note.fmt(f),
        }
    }
}

impl Keepsake {
    /// Nothing.
    pub const fn nothing() -> Self {
        Self(Kind::Noted(Note { number: 0, whose: AtomicU32::new(0) }))
    }

    /// The object, if that is what was left, and of this type.
    pub(crate) fn host<T: Host>(&self) -> Option<&T> {
        let Kind::Boxed(host) = &self.0 else { return None };
        let host: &dyn Any = &**host;
        host.downcast_ref()
    }

    /// The note, if that is what was left.
    #[inline]
    pub(crate) fn note(&self) -> Option<&Note> {
        match &self.0 {
            Kind::Noted(note) if note.whose() > 0 => Some(note),
            _ => None,
        }
    }

    /// Tells whoever has left it that the task has settled.
    #[inline]
    pub(crate) fn ended(&self, task: &Arc<Task>, succeeded: Option<u32>) {
        // A panic has been printed, and is the host's own: it must not take the settling thread with it.
        let _ = match &self.0 {
            Kind::Boxed(host) => catch_unwind(AssertUnwindSafe(|| host.ended(succeeded))),
            Kind::Noted(note) => match KEEPER.get() {
                Some(keeper) if note.whose() > 0 => {
                    catch_unwind(AssertUnwindSafe(|| keeper.ended(note, task, succeeded)))
                }
                _ => Ok(()),
            },
        };
    }
}

impl From<Option<HostData>> for Keepsake {
    #[inline]
    fn from(host: Option<HostData>) -> Self {
        host.map_or_else(Self::nothing, |host| Self(Kind::Boxed(host)))
    }
}

impl From<Note> for Keepsake {
    #[inline]
    fn from(note: Note) -> Self {
        Self(Kind::Noted(note))
    }
}

const _: () = assert!(size_of::<Keepsake>() == size_of::<HostData>());

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use taskloom_model::{Admission, Name, TaskId, Timestamp, admit};

    use super::*;

    fn task() -> Arc<Task> {
        let (id, now) = (TaskId::from_bytes([1; 16]), Timestamp::from_micros(0));
        let (spec, row, _) =
            admit(&Admission::default(), id, Name::new("f"), Default::default(), now).expect("it is small");
        Task::new(spec, row, None)
    }

    struct Object(AtomicBool);

    impl Host for Object {
        fn settled(&self) {
            assert!(!self.0.swap(true, Ordering::Relaxed), "it is told once");
        }
    }

    struct Other;

    impl Host for Other {
        fn ended(&self, _: Option<u32>) {
            panic!("its own affair");
        }
    }

    #[test]
    fn an_object_is_found_by_its_type_and_hears_of_the_end() {
        let left = Keepsake::from(Some(Box::new(Object(AtomicBool::new(false))) as HostData));
        assert!(left.host::<Other>().is_none() && left.note().is_none());
        left.ended(&task(), None);
        assert!(left.host::<Object>().expect("it was left").0.load(Ordering::Relaxed));
        Keepsake::from(Some(Box::new(Other) as HostData)).ended(&task(), Some(1));
    }

    #[test]
    fn a_note_says_whose_it_is_and_its_keeper_hears_of_the_end() {
        static TOLD: Mutex<Vec<(u32, u32, Option<u32>)>> = Mutex::new(Vec::new());
        struct Own;
        impl Keeper for Own {
            fn ended(&self, note: &Note, _: &Arc<Task>, succeeded: Option<u32>) {
                TOLD.lock().unwrap().push((note.whose(), note.number(), succeeded));
            }
        }
        keep_notes(&Own);
        let left = Keepsake::from(Note::new(Note::MOST, u32::MAX));
        let note = left.note().expect("it was left");
        assert_eq!((note.whose(), note.number(), note.marks()), (Note::MOST, u32::MAX, 0));
        note.mark(1);
        note.mark(128);
        assert_eq!((note.whose(), note.marks()), (Note::MOST, 129));
        left.ended(&task(), Some(2));
        let nothing = Keepsake::from(None::<HostData>);
        assert!(nothing.note().is_none() && nothing.host::<Object>().is_none());
        nothing.ended(&task(), None);
        assert_eq!(*TOLD.lock().unwrap(), [(Note::MOST, u32::MAX, Some(2))]);
    }
}
