//! From a URL to a store.

use std::path::Path;

use taskloom_model::{Code, Error, Result, nearest};
use taskloom_store::{MemoryOptions, MemoryStore, Store};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};

pub use taskloom_store_sqlite::Durability;

/// What a store is opened with, as far as its kind knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreOptions {
    /// Whether the store has to be there already: a file is not made then, and that there is none is `NoStore`. For
    /// whoever operates what others run.
    pub existing: bool,
    /// What an acknowledged task outlives, on a file.
    pub durability: Durability,
    /// How many unfinished tasks a memory store takes; a million.
    pub capacity: Option<usize>,
}

/// Opens the store that a URL names, as [`open_store_with`] does, with the usual options.
pub fn open_store(url: &str, durability: Durability) -> Result<Box<dyn Store>> {
    open_store_with(url, StoreOptions { durability, ..StoreOptions::default() })
}

/// The store of an app in testing mode, whatever its URL says: in memory, and it forgets no task that has ended.
pub fn testing_store(capacity: Option<usize>) -> Box<dyn Store> {
    let capacity = capacity.unwrap_or(MemoryOptions::default().capacity);
    Box::new(MemoryStore::new(MemoryOptions { capacity, keep_finished: usize::MAX / 2 }))
}

/// Where a URL says that tasks live.
enum Place<'a> {
    Memory,
    File(&'a Path),
}

/// Reads a URL.
fn place_of(url: &str) -> Result<Place<'_>> {
    let invalid = |hint: String| {
        Error::new(Code::InvalidStoreUrl, format!("store {url:?} cannot be opened")).hint(hint)
    };
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(invalid(match url {
            "" | "memory" => "name a kind of store: \"memory:\", or \"sqlite:\" and a file".into(),
            file => format!("name a kind of store: \"memory:\" or \"sqlite:{file}\""),
        }));
    };
    match scheme {
        "memory" if rest.is_empty() => Ok(Place::Memory),
        "memory" => Err(Error::new(
            Code::NotAvailable,
            format!("a named memory store ({url:?}) is not available in this version"),
        )
        .hint("use \"memory:\", which is private to its app")),
        "sqlite" => file_of(rest).map(Place::File).map_err(invalid),
        "postgresql" | "postgres" | "http" | "https" => {
            Err(Error::new(Code::NotAvailable, format!("{scheme} stores are not available in this version"))
                .hint("use \"memory:\" or \"sqlite:FILE\""))
        }
        other => Err(invalid(match nearest(other, ["memory", "sqlite"]) {
            Some(near) => format!("did you mean \"{near}:{rest}\"?"),
            None => "use \"memory:\" or \"sqlite:FILE\"".into(),
        })),
    }
}

/// The file of `sqlite:tasks.db`, `sqlite:/var/tasks.db` and, as other libraries write them, `sqlite:///tasks.db`
/// (relative) and `sqlite:////var/tasks.db` (absolute); a hint for what is none of these.
fn file_of(rest: &str) -> std::result::Result<&Path, String> {
    // Such as `?mode=ro`, which would be a part of the file's name. One may have a question mark in it all the same.
    if let Some((file, query)) = rest.split_once('?')
        && query.contains('=')
    {
        return Err(format!(
            "name the file alone, \"sqlite:{file}\": a store's URL has no parameters, and settings stand beside it"
        ));
    }
    let path = rest.strip_prefix("///").unwrap_or(rest);
    match path.strip_prefix("//") {
        // What follows two slashes is a machine's name elsewhere; the path would be an absolute one, which nobody means.
        Some(file) if rest.len() == path.len() && !file.is_empty() => Err(format!(
            "write \"sqlite:{file}\" or \"sqlite:///{file}\"; an absolute path is \"sqlite:/{file}\""
        )),
        Some("") => Err(NO_FILE.into()),
        _ if path.is_empty() || path.starts_with(":memory:") => Err(NO_FILE.into()),
        _ => Ok(Path::new(path)),
    }
}

const NO_FILE: &str = "name a file, as in \"sqlite:tasks.db\"; in memory it is \"memory:\"";

/// Refuses a URL that names no store, and a capacity where there is none, without opening anything.
///
/// ```
/// assert!(taskloom::check_store_url("sqlite:tasks.db", None).is_ok());
/// assert!(taskloom::check_store_url("sqlite://tasks.db", None).is_err());
/// ```
///
/// Errors: `InvalidStoreUrl`, `NotAvailable`, `InvalidOption`.
pub fn check_store_url(url: &str, capacity: Option<usize>) -> Result<()> {
    match place_of(url)? {
        Place::File(_) if capacity.is_some() => Err(Error::new(
            Code::InvalidOption,
            format!("capacity is set, and {url:?} has none: a file takes what the disk holds"),
        )
        .hint("leave capacity out, or use \"memory:\"")),
        Place::File(_) | Place::Memory => Ok(()),
    }
}

/// Opens the store that a URL names: `memory:`, or `sqlite:` and the path of a file.
///
/// ```
/// let store = taskloom::open_store_with("memory:", taskloom::StoreOptions::default())?;
/// assert!(!store.capability().durable);
/// assert!(taskloom::open_store_with("sqllite:tasks.db", Default::default()).is_err());
/// # Ok::<(), taskloom::Error>(())
/// ```
///
/// Errors: `InvalidStoreUrl`; those of the store (`NoStore`, `NotADatabase`, `NewerSchema`, `StoreFailed`).
pub fn open_store_with(url: &str, options: StoreOptions) -> Result<Box<dyn Store>> {
    let StoreOptions { existing, durability, capacity } = options;
    check_store_url(url, capacity)?;
    match place_of(url)? {
        Place::Memory => {
            let usual = MemoryOptions::default();
            let options = MemoryOptions { capacity: capacity.unwrap_or(usual.capacity), ..usual };
            Ok(Box::new(MemoryStore::new(options)))
        }
        Place::File(path) => Ok(Box::new(SqliteStore::open(
            path,
            SqliteOptions { durability, create: !existing, ..SqliteOptions::default() },
        )?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_file() {
        for (url, path) in [
            ("sqlite:tasks.db", "tasks.db"),
            ("sqlite:///tasks.db", "tasks.db"),
            ("sqlite:/var/tasks.db", "/var/tasks.db"),
            ("sqlite:////var/tasks.db", "/var/tasks.db"),
            ("sqlite:./what?.db", "./what?.db"),
        ] {
            let Ok(Place::File(found)) = place_of(url) else { panic!("{url} names a file") };
            assert_eq!(found, Path::new(path), "{url}");
        }
    }

    #[test]
    fn what_names_no_store_is_refused_with_a_way_out() {
        for (url, hint) in [
            ("sqlite://two.db", "write \"sqlite:two.db\" or \"sqlite:///two.db\""),
            ("sqlite://var/two.db", "an absolute path is \"sqlite:/var/two.db\""),
            ("sqlite:two.db?mode=ro", "name the file alone, \"sqlite:two.db\""),
            ("sqlite:///two.db?cache=shared&mode=ro", "name the file alone, \"sqlite:///two.db\""),
            ("sqlite:", "name a file"),
            ("sqlite://", "name a file"),
            ("sqlite:///", "name a file"),
            ("sqlite::memory:", "name a file"),
            ("", "name a kind of store: \"memory:\", or"),
            ("two.db", "\"sqlite:two.db\""),
            ("sqllite:two.db", "did you mean \"sqlite:two.db\"?"),
            ("redis://x", "use \"memory:\""),
            ("memory:name", "private to its app"),
        ] {
            let error = check_store_url(url, None).unwrap_err();
            assert!(error.hint_text().unwrap().contains(hint), "{url}: {error:?}");
        }
        assert!(check_store_url("sqlite:two.db", Some(3)).is_err());
        assert!(check_store_url("memory:", Some(3)).is_ok());
    }
}
