//! The allocator of an extension's own memory.
//!
//! A task is allocated by the thread that submits it and freed by the one that is last to let go of it, several small
//! pieces each. The system's allocator makes that a third of the cost of a task, and the two threads wait for each other
//! there; mimalloc is made for it. The crate of that name asks it for every piece as if its alignment were a special one,
//! which takes twice as long as where it is not; so it is asked here.
//!
//! It is mimalloc's version 2. Version 3 takes the thread that loads the extension for the program's main one, and crashes
//! when that has ended and another one comes. An extension stays loaded when the environment that has loaded it ends (it
//! is linked so), and with it what mimalloc does when a thread ends.
#![allow(unsafe_code, reason = "an allocator implements GlobalAlloc, which is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// mimalloc, as a `#[global_allocator]`.
pub struct Allocator;

/// What every piece that is as large is aligned to.
const ALIGNED: usize = 16;

/// Whether a piece is aligned as it must be without anybody asking for it.
#[inline(always)]
fn is_usual(layout: Layout) -> bool {
    layout.align() <= ALIGNED && layout.align() <= layout.size()
}

// SAFETY: mimalloc keeps the contract of `GlobalAlloc`: pieces as large and as aligned as they were asked for, or null. It
// aligns a piece to sixteen bytes if it has as many, and else to the largest power of two that fits into it.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_usual(layout) {
            // SAFETY: any size may be asked for.
            return unsafe { mi::mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: a layout's alignment is a power of two.
        unsafe { mi::mi_malloc_aligned(layout.size(), layout.align()) }.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_usual(layout) {
            // SAFETY: as in `alloc`.
            return unsafe { mi::mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: as in `alloc`.
        unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()) }.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, piece: *mut u8, _: Layout) {
        // SAFETY: it came from here, as the caller promises, and so from mimalloc.
        unsafe { mi::mi_free(piece.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: it came from here, as the caller promises, and so from mimalloc; the alignment is a layout's.
        unsafe { mi::mi_realloc_aligned(piece.cast(), size, layout.align()) }.cast()
    }
}
