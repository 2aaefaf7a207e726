//! The one place where the crate touches JavaScript's memory: it writes into the typed array that a crossing lends it,
//! makes strings of bytes, and looks at the words in which JavaScript says what runs.
#![allow(
    unsafe_code,
    reason = "napi hands out typed arrays read-only, and has no string of Latin-1 without a copy"
)]

use std::sync::atomic::{AtomicU32, Ordering};

use napi::bindgen_prelude::{FromNapiValue, Uint32Array, Uint32ArraySlice};
use napi::{Env, JsString, sys};

/// Lends the words of a typed array.
pub(crate) fn with<T>(mut words: Uint32ArraySlice<'_>, write: impl FnOnce(&mut [u32]) -> T) -> T {
    // SAFETY: JavaScript made the array for this crossing to write to, passes no other view of it, and is not running:
    // this is its thread, and `write` calls nothing of it.
    write(unsafe { words.as_mut() })
}

/// A string of ASCII, which JavaScript keeps with one byte for each character, and need not decode.
pub(crate) fn ascii<'env>(env: &'env Env, text: &[u8]) -> napi::Result<JsString<'env>> {
    let mut value = std::ptr::null_mut();
    // SAFETY: the environment is the one of the call that we are in, and the bytes are read before this returns.
    let status = unsafe {
        sys::napi_create_string_latin1(env.raw(), text.as_ptr().cast(), text.len() as isize, &mut value)
    };
    if status != sys::Status::napi_ok {
        return Err(napi::Error::from_status(status.into()));
    }
    // SAFETY: the value was just made in this environment, and is a string.
    unsafe { JsString::from_napi_value(env.raw(), value) }
}

/// Words of JavaScript's that other threads look at.
pub(crate) struct Lent {
    /// Keeps the memory where it is.
    array: Uint32Array,
}

impl Lent {
    /// JavaScript must keep writing to this very array, and must not detach its buffer.
    pub(crate) fn new(array: Uint32Array) -> Option<Self> {
        (array.len() == 2).then_some(Self { array })
    }

    /// What stands there.
    pub(crate) fn read(&self) -> [u32; 2] {
        let words: *mut u32 = self.array.as_ptr().cast_mut();
        [0, 1].map(|place| {
            // SAFETY: the reference that the array holds keeps its memory, which is aligned and two words long, for as
            // long as this lives; JavaScript writes it a word at a time, and nothing here writes it.
            unsafe { AtomicU32::from_ptr(words.add(place)) }.load(Ordering::Relaxed)
        })
    }
}
