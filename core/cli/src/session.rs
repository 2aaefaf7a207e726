//! What every command is given: the host, the store, the output.
//!
//! # The store
//! It is opened when a command asks, and never made. Commands that only look use the store itself: they write nothing, and
//! no other process hears of them. Those that change something have an engine that was not started: it has no workers, timers
//! or schedules, runs nobody's tasks and judges nobody dead. It is one of the store's processes for as long as it is there.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use taskloom::{StoreOptions, open_store_with};
use taskloom_engine::{Clock, Engine, EngineOptions, SystemClock};
use taskloom_model::{Code, Error, Result, Timestamp, nearest};
use taskloom_store::Store;

use crate::arguments::Global;
use crate::host::Host;
use crate::terminal::Look;

/// How many files a hint names.
const NAMED: usize = 3;

/// What every command is given.
pub(crate) struct Session<'a> {
    /// The package that the command came with.
    pub(crate) host: &'a dyn Host,
    /// Whether to answer in JSON.
    pub(crate) json: bool,
    /// How to write for whoever reads.
    pub(crate) look: Look,
    /// The URL of the store, as it was given.
    pub(crate) store: Option<String>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(host: &'a dyn Host, global: Global) -> Self {
        // Not by clap, which would show an option that nobody typed in what it says of others.
        let store = global.store.or_else(|| std::env::var("TASKLOOM_STORE").ok());
        Self { host, json: global.json, look: Look::of_output(), store }
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    /// The URL of the store.
    ///
    /// Errors: `InvalidStoreUrl` if none is named, or one that no other process can see.
    pub(crate) fn url(&self) -> Result<&str> {
        let Some(url) = self.store.as_deref().filter(|url| !url.is_empty()) else {
            let error = Error::new(Code::InvalidStoreUrl, "no store is named");
            return Err(error.hint(match &stores_in(Path::new("."))[..] {
                [] => "say --store sqlite:FILE, or set TASKLOOM_STORE, as your app does in App(…)".to_owned(),
                some => format!("say --store {}, or set TASKLOOM_STORE", listed(some)),
            }));
        };
        if !url.contains(':') && url != "memory" {
            return Err(Error::new(Code::InvalidStoreUrl, format!("store {url:?} is no URL"))
                .hint(format!("if it is a file: --store sqlite:{url}")));
        }
        if url == "memory" || url.starts_with("memory:") {
            let message = format!("store {url:?} is in the memory of the process that opened it");
            return Err(Error::new(Code::InvalidStoreUrl, message).hint(
                "no other process can see it: ask that app itself (app.list(), app.stats()), or have it use sqlite:FILE",
            ));
        }
        Ok(url)
    }

    /// The store's file, if it is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let rest = self.store.as_deref()?.strip_prefix("sqlite:")?;
        Some(PathBuf::from(rest.strip_prefix("///").unwrap_or(rest)))
    }

    /// Opens the store, to look at.
    ///
    /// Errors: `InvalidStoreUrl`, `NoStore`, and those of the store.
    pub(crate) fn store(&self) -> Result<Box<dyn Store>> {
        let options = StoreOptions { existing: true, ..StoreOptions::default() };
        open_store_with(self.url()?, options).map_err(|error| match self.file() {
            Some(file) if matches!(error.code(), Code::NoStore | Code::NotADatabase) => {
                error.hint(near(&file))
            }
            _ => error,
        })
    }

    /// Opens the store, to change something in it.
    ///
    /// Errors: as [`Session::store`].
    pub(crate) fn engine(&self) -> Result<Engine> {
        let options = EngineOptions {
            // Whoever runs the tasks keeps house.
            retention: None,
            ..EngineOptions::default()
        };
        Engine::new(self.store()?, options)
    }

    /// Writes to standard output.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Writes a text, and a line's end if it has none.
    pub(crate) fn say(&self, text: &str) -> io::Result<()> {
        let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
        self.write(format!("{text}{end}").as_bytes())
    }

    /// Writes the answer: JSON if that was asked for, else a text.
    pub(crate) fn answer(
        &self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        if self.json { self.say(&json().to_string()) } else { self.say(&text()) }
    }

    /// Tells something beside the answer, on standard error; nothing where programs read.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            // It is not what was asked for: whoever cannot hear it has lost nothing.
            let _ = writeln!(io::stderr(), "taskloom: {text}");
        }
    }
}

/// What to do where there is no such file.
fn near(file: &Path) -> String {
    let folder = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("."),
    };
    if !folder.is_dir() {
        return format!("{} is not a directory; name the file that your app opens", folder.display());
    }
    let found = stores_in(folder);
    let wanted = file.file_name().unwrap_or_default().to_string_lossy();
    let names: Vec<String> = found.iter().map(|path| name_of(path)).collect();
    match nearest(&wanted, names.iter().map(String::as_str)) {
        Some(near) => {
            let path = found.iter().zip(&names).find(|(_, name)| name.as_str() == near);
            format!("did you mean {}?", path.map_or(String::new(), |(path, _)| shown(path)))
        }
        None if found.is_empty() => {
            "name the file that your app opens; a store is made by the first app that opens it".to_owned()
        }
        None => format!("there is {}", listed(&found)),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn shown(path: &Path) -> String {
    let plain = path.strip_prefix(".").unwrap_or(path);
    format!("sqlite:{}", plain.display())
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().take(NAMED).map(|path| shown(path)).collect::<Vec<_>>().join(" or ")
}

/// The stores in a folder, by name: SQLite files whose header says that they are ours.
fn stores_in(folder: &Path) -> Vec<PathBuf> {
    /// How many entries of a folder are looked at.
    const LOOKED_AT: usize = 1_000;
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .take(LOOKED_AT)
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file() && is_store(path))
        .collect();
    found.sort();
    found
}

/// Whether a file's header is that of a store. It is read through no SQLite, and only where no SQLite of this process has
/// the file open: closing it would drop that one's locks, where a system has no others.
fn is_store(path: &Path) -> bool {
    use std::io::Read;
    let mut header = [0; 72];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header.starts_with(b"SQLite format 3\0") && header[68..72] == *b"Loom"
}
