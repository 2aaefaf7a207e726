//! What every command is given.

use std::io::{self, Write};

use crate::arguments::Global;
use crate::host::Host;

/// What every command is given.
pub(crate) struct Session<'a> {
    /// The package that the command came with.
    pub(crate) host: &'a dyn Host,
    /// The URL of the store, as given.
    pub(crate) store: Option<String>,
    /// Whether to answer in JSON.
    pub(crate) json: bool,
}

impl<'a> Session<'a> {
    pub(crate) fn new(host: &'a dyn Host, global: Global) -> Self {
        Self { host, store: global.store, json: global.json }
    }

    /// Writes to standard output.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }
}
