//! From a URL to a store.

use std::path::Path;

use taskloom_model::{Code, Error, Result, nearest};
use taskloom_store::{MemoryOptions, MemoryStore, Store};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};

pub use taskloom_store_sqlite::Durability;

/// Opens the store that a URL names: `memory:`, or `sqlite:` and the path of a file.
///
/// ```
/// let store = taskloom::open_store("memory:", taskloom::Durability::Disk)?;
/// assert!(!store.capability().durable);
/// assert!(taskloom::open_store("sqllite:tasks.db", taskloom::Durability::Disk).is_err());
/// # Ok::<(), taskloom::Error>(())
/// ```
///
/// Errors: `InvalidStoreUrl`; those of the store (`NotADatabase`, `NewerSchema`, `StoreFailed`).
pub fn open_store(url: &str, durability: Durability) -> Result<Box<dyn Store>> {
    let invalid = |hint: String| {
        Error::new(Code::InvalidStoreUrl, format!("store {url:?} cannot be opened")).hint(hint)
    };
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(invalid(format!("name a kind of store: \"memory:\" or \"sqlite:{url}\"")));
    };
    match scheme {
        "memory" if rest.is_empty() => Ok(Box::new(MemoryStore::new(MemoryOptions::default()))),
        "memory" => Err(Error::new(
            Code::NotAvailable,
            format!("a named memory store ({url:?}) is not available in this version"),
        )
        .hint("use \"memory:\", which is private to its app")),
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
                SqliteOptions { durability, ..SqliteOptions::default() },
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
