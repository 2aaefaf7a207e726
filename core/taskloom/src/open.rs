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
    let invalid = |hint: String| {
        Error::new(Code::InvalidStoreUrl, format!("store {url:?} cannot be opened")).hint(hint)
    };
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(invalid(format!("name a kind of store: \"memory:\" or \"sqlite:{url}\"")));
    };
    match scheme {
        "memory" if rest.is_empty() => {
            let usual = MemoryOptions::default();
            let options = MemoryOptions { capacity: capacity.unwrap_or(usual.capacity), ..usual };
            Ok(Box::new(MemoryStore::new(options)))
        }
        "memory" => Err(Error::new(
            Code::NotAvailable,
            format!("a named memory store ({url:?}) is not available in this version"),
        )
        .hint("use \"memory:\", which is private to its app")),
        "sqlite" if capacity.is_some() => Err(Error::new(
            Code::InvalidOption,
            format!("capacity is set, and {url:?} has none: a file takes what the disk holds"),
        )
        .hint("leave capacity out, or use \"memory:\"")),
        "sqlite" => {
            // `sqlite:tasks.db`, `sqlite:/var/tasks.db`, and as other libraries write them, `sqlite:///tasks.db`
            // (relative) and `sqlite:////var/tasks.db` (absolute).
            let path = rest.strip_prefix("///").unwrap_or(rest);
            if path.is_empty() || path.starts_with(":memory:") {
                return Err(invalid(
                    "name a file, as in \"sqlite:tasks.db\"; in memory it is \"memory:\"".into(),
                ));
            }
            Ok(Box::new(SqliteStore::open(
                Path::new(path),
                SqliteOptions { durability, create: !existing, ..SqliteOptions::default() },
            )?))
        }
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
