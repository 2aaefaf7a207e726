//! What a power cut leaves: nothing that was acknowledged is lost, and the file is never damaged.
//!
//! A store works on files through a shim that writes down what SQLite does to the disk ([`vfs`]). The power is then
//! cut after every write, sync, truncation, creation and deletion, in several ways each ([`disk`]), and what is left
//! is opened by an ordinary store and compared with what had been promised ([`judge`]). The mix of steps has whole
//! checkpoints, interrupted ones, logs that begin anew, files that are closed and opened, and lives that begin with
//! what a power cut has left ([`plan`], [`search`]).
//!
//! `TASKLOOM_POWER_STATES` says how many different states there are to be, for a run over night.
#![cfg(unix)] // how directories are synced is the Unix VFS's way

#[allow(dead_code, reason = "the test of faults looks at what is there while nothing fails")]
#[path = "../vfs/mod.rs"]
mod vfs;

mod chance;
mod contents;
mod disk;
mod judge;
mod life;
mod plan;
mod search;
#[allow(dead_code, reason = "the test of faults looks at the tasks in memory, too")]
mod steps;

use search::{Promise, Report, Search};
use taskloom_store_sqlite::Durability;

/// How many different states an ordinary run looks at.
const STATES: usize = 10_000;

fn states(part: usize) -> usize {
    let wanted = std::env::var("TASKLOOM_POWER_STATES").ok();
    wanted.map_or(STATES, |wanted| wanted.parse().expect("TASKLOOM_POWER_STATES is a number")) / part
}

fn expect_nothing_wrong(report: &Report) {
    println!(
        "{} cuts, {} different states in {} lives; {} checkpoints, {} openings, {} failures; {} states were older",
        report.total,
        report.distinct,
        report.lives,
        report.checkpoints,
        report.reopened,
        report.failures,
        report.older
    );
    let complaints = report.complaints();
    assert!(
        complaints.is_empty(),
        "{} states, among them: {:#?}",
        complaints.len(),
        &complaints[..complaints.len().min(5)]
    );
    // The mix has in it what is dangerous.
    assert!(report.checkpoints > report.lives && report.reopened > 0);
}

/// What is promised by default.
const SAFE: Search =
    Search { durability: Durability::Disk, promise: Promise::All, honest: true, failing: false, states: 0 };

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let report = Search { states: states(1), ..SAFE }.run();
    expect_nothing_wrong(&report);
    assert_eq!(report.older, 0);
}

/// A step whose sync failed is refused. The system forgets what it could not write; what is acknowledged later does not
/// build on it.
///
/// Without readers that hold checkpoints up. SQLite does not sync what it copies while one does, and does not copy it
/// again when a later sync of the database fails: docs/durability.md tells.
#[test]
fn and_one_after_a_sync_that_failed() {
    let report = Search { failing: true, states: states(5), ..SAFE }.run();
    expect_nothing_wrong(&report);
    assert!(report.failures > report.lives);
}

#[test]
fn durability_process_loses_the_newest_commits_at_most() {
    let (durability, promise) = (Durability::Process, Promise::Prefix);
    let report = Search { durability, promise, states: states(5), ..SAFE }.run();
    expect_nothing_wrong(&report);
    assert!(report.older > 0, "it is not as safe as the other, or nobody would need that");
}

/// The search finds what it is for: the same store, held to more than it promises.
#[test]
fn the_search_finds_commits_that_were_not_synced() {
    let report = Search { durability: Durability::Process, states: 500, ..SAFE }.run();
    assert!(!report.lost.is_empty());
    assert!(report.never.is_empty() && report.damaged.is_empty(), "{:?}", report.complaints());
}

/// And on a disk that says it has synced and has not, it finds all three: old, wrong and damaged content.
#[test]
fn the_search_finds_what_a_lying_disk_does() {
    let report = Search { honest: false, states: 4_000, ..SAFE }.run();
    println!("{} lost, {} wrong, {} damaged", report.lost.len(), report.never.len(), report.damaged.len());
    assert!(!report.lost.is_empty() && !report.never.is_empty() && !report.damaged.is_empty());
}
