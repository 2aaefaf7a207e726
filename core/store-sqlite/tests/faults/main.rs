//! A disk that fails: full, broken, or unwilling, at every single call that SQLite makes.
//!
//! A script of steps is run on a healthy disk first, and the content after each step written down. Then it is run again
//! and again on a shim ([`vfs`]) that fails the first call of a kind, the second, and so on until the script comes to
//! its end without ([`trial`]). What the store says must be true each time: a step that succeeded is there; one that
//! failed is there as a whole or not at all, can be run again, and was told with an error that says what is wrong; and
//! when the disk works again, so does the store, without being opened anew.
//!
//! What is *not* tried is a short read in the middle of a file. To SQLite that is no failure but the end of the file;
//! a disk that says so is damaged, not failing.
//!
//! `TASKLOOM_FAULT_SCRIPTS` says how many scripts are tried, for a run over night.
#![cfg(unix)] // as the test beside it, which has the shim for its own sake

#[path = "../power/chance.rs"]
mod chance;
#[path = "../power/contents.rs"]
mod contents;
#[path = "../power/plan.rs"]
mod plan;
#[path = "../power/steps.rs"]
mod steps;
#[allow(dead_code, reason = "it records only for the test of power cuts")]
#[path = "../vfs/mod.rs"]
mod vfs;

mod slow;
mod trial;

use rusqlite::ffi;
use trial::{Script, try_every_call};
use vfs::{Call, Fault};

/// A fault whose place is yet to be chosen.
fn fault(call: Call, code: i32) -> Fault {
    Fault { call, code, nth: 0, lasts: false, halfway: false }
}

/// Fails every call of a kind, once and for good.
fn nothing_goes_wrong(fault: Fault) {
    let scripts = std::env::var("TASKLOOM_FAULT_SCRIPTS").ok();
    let scripts = scripts.map_or(1, |count| count.parse().expect("TASKLOOM_FAULT_SCRIPTS is a number"));
    for seed in 1..=scripts {
        let script = Script::new(seed);
        for lasts in [false, true] {
            let tally = try_every_call(&script, Fault { lasts, ..fault });
            println!("{:?} {} lasts {lasts}: {}", fault.call, fault.code, tally);
            let complaints = &tally.complaints;
            assert!(
                complaints.is_empty(),
                "{} complaints, among them: {:#?}",
                complaints.len(),
                &complaints[..complaints.len().min(5)]
            );
            assert!(tally.runs > 0, "there is something to fail");
        }
    }
}

#[test]
fn a_full_disk() {
    nothing_goes_wrong(fault(Call::Write, ffi::SQLITE_FULL));
}

#[test]
fn a_disk_that_cannot_write() {
    nothing_goes_wrong(Fault { halfway: true, ..fault(Call::Write, ffi::SQLITE_IOERR_WRITE) });
}

#[test]
fn a_disk_that_cannot_sync() {
    nothing_goes_wrong(fault(Call::Sync, ffi::SQLITE_IOERR_FSYNC));
}

#[test]
fn a_disk_that_cannot_read() {
    nothing_goes_wrong(fault(Call::Read, ffi::SQLITE_IOERR_READ));
}

#[test]
fn a_disk_that_cannot_truncate() {
    nothing_goes_wrong(fault(Call::Truncate, ffi::SQLITE_IOERR_TRUNCATE));
}

#[test]
fn a_system_that_opens_no_file() {
    nothing_goes_wrong(fault(Call::Open, ffi::SQLITE_CANTOPEN));
}

#[test]
fn a_system_that_deletes_no_file() {
    nothing_goes_wrong(fault(Call::Delete, ffi::SQLITE_IOERR_DELETE));
}

#[test]
fn a_system_that_does_not_find_files() {
    nothing_goes_wrong(fault(Call::Access, ffi::SQLITE_IOERR_ACCESS));
    nothing_goes_wrong(fault(Call::Size, ffi::SQLITE_IOERR_FSTAT));
}

#[test]
fn a_system_that_locks_no_file() {
    nothing_goes_wrong(fault(Call::Lock, ffi::SQLITE_IOERR_LOCK));
}

#[test]
fn a_system_without_shared_memory() {
    nothing_goes_wrong(fault(Call::MapShared, ffi::SQLITE_IOERR_SHMMAP));
    nothing_goes_wrong(fault(Call::LockShared, ffi::SQLITE_IOERR_SHMLOCK));
}

/// The trial finds what it is for: a write that was said to have succeeded, and did not happen.
#[test]
fn the_trial_finds_writes_that_were_swallowed() {
    let tally = try_every_call(&Script::new(1), fault(Call::Write, ffi::SQLITE_OK));
    println!("swallowed writes: {tally}");
    assert!(!tally.complaints.is_empty());
}
