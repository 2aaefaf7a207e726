//! What every store must do, as tests; and a clock that tests turn by hand.
//!
//! [`conformance!`] runs the clauses of the contract in [`taskloom_store::Store`] against a store, one `#[test]` for
//! each, so that a failure has a name. [`sequences::compare`] runs random commands against a store and the memory
//! store side by side. A change to the contract begins here.
//!
//! This crate is for development only: nothing that is shipped depends on it.
#![forbid(unsafe_code)]

pub mod clock;
pub mod conformance;
mod scene;
pub mod sequences;

pub use clock::VirtualClock;
pub use conformance::Harness;
