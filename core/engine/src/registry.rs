//! Handlers by name and version.
//!
//! A name (`resize`, or with a namespace `img/resize`) has one handler for each version. A task that asks for no
//! version is run by the newest one that is registered, and that somebody can run ([`crate::aside`]), when it runs.
//! Workers remember the handler that they used last; the registry's `epoch` tells them when to ask again.
//!
//! # Versions that only others have
//! Claims go by name, so this process now and then gets a task that asks for a version which only another one has: in
//! the middle of a deployment, say. It gives the task back as it was, since whoever has the version will run it. That
//! does not make it claim again, so a few such tasks cost next to nothing. But as long as they are queued each claim
//! gets them too, and what two processes give back is news to one another. So a name of which [`MANY_STRAYS`] have been
//! given back is left out of claims until the next safety check, or until there is another handler. These tasks go round
//! a bounded number of times a second, however many they are; those of the name that this process could run wait for as
//! long, two seconds at most. (Behind more urgent strays than one claim gets they wait until somebody has run those.)

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use taskloom_model::{Code, Error, Name, Result, Timestamp, Version, nearest};

use crate::handler::HandlerEntry;

/// How many tasks of a name may be given back between two safety checks: enough that a few of them hold nobody up.
const MANY_STRAYS: usize = 64;

#[derive(Default)]
pub(crate) struct Registry {
    handlers: RwLock<HashMap<Name, Versions>>,
    epoch: AtomicUsize,
    /// There is something that a shared store has not been told.
    unnoted: AtomicBool,
    /// How many tasks of a name have been given back of late, for want of their version.
    strays: Mutex<HashMap<Name, usize>>,
}

/// The handlers of one name, oldest version first. Never empty.
struct Versions(Vec<Arc<HandlerEntry>>);

impl Versions {
    fn newest(&self) -> &Arc<HandlerEntry> {
        self.0.last().expect("a name is there once it has a handler")
    }

    /// The one that runs tasks which ask for no version: the newest that somebody can run.
    fn current(&self) -> &Arc<HandlerEntry> {
        self.0.iter().rev().find(|entry| !entry.aside.is_unserved()).unwrap_or_else(|| self.newest())
    }

    fn with(&self, version: Option<&str>) -> Option<&Arc<HandlerEntry>> {
        match version {
            Some(version) => self.0.iter().find(|entry| entry.version.to_string() == version),
            None => Some(self.newest()),
        }
    }
}

/// No handler has this name, but one of these may be meant.
fn unknown(message: String, name: &str, mut names: Vec<&str>) -> Error {
    let error = Error::new(Code::UnknownHandler, message);
    match nearest(name, names.iter().copied()) {
        Some(near) => error.hint(format!("did you mean {near:?}?")),
        None if names.is_empty() => error.hint("register a handler first"),
        None => {
            names.sort_unstable();
            names.dedup();
            names.truncate(10);
            error.hint(format!("registered are: {}", names.join(", ")))
        }
    }
}

/// What is registered, in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryStats {
    /// Names.
    pub names: usize,
    /// Handlers: one for each version of each name.
    pub handlers: usize,
    /// Names in each namespace, by namespace; the empty one is that of names without.
    pub namespaces: Vec<(String, usize)>,
    /// When the last handler was registered.
    pub last_registration: Option<Timestamp>,
}

impl Registry {
    /// Adds a handler. With `replace`, it takes the place of one with its name and version, which is returned.
    pub(crate) fn add(&self, entry: Arc<HandlerEntry>, replace: bool) -> Result<Option<Arc<HandlerEntry>>> {
        let mut handlers = self.handlers.write();
        let versions = &mut handlers.entry(entry.name).or_insert_with(|| Versions(Vec::new())).0;
        match versions.iter().position(|other| other.version == entry.version) {
            Some(place) if replace => {
                let replaced = std::mem::replace(&mut versions[place], entry);
                drop(handlers);
                self.changed();
                return Ok(Some(replaced));
            }
            Some(_) => {
                let (name, version) = (entry.name.as_str(), &entry.version);
                let named = match *version == Version::default() {
                    true => format!("a handler named {name:?} exists"),
                    false => format!("version {version} of a handler named {name:?} exists"),
                };
                return Err(Error::new(Code::HandlerExists, named).hint(
                    "give one of the two another name with name=…, or another version=…, or replace it with replace=True",
                ));
            }
            None => {
                versions.push(entry);
                versions.sort_by_key(|entry| entry.version);
            }
        }
        drop(handlers);
        self.changed();
        Ok(None)
    }

    /// Which handlers there are, or can be run, is another than before.
    pub(crate) fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
        self.forget_noted();
        self.try_strays_again();
    }

    /// A task of this name was claimed, and is given back since its version is not registered here.
    pub(crate) fn is_stray(&self, name: Name) {
        *self.strays.lock().entry(name).or_default() += 1;
    }

    /// Whether tasks were claimed lately that have to be left to others.
    pub(crate) fn has_strays(&self) -> bool {
        !self.strays.lock().is_empty()
    }

    /// Some time has gone by: what was left to other processes may be claimed again.
    pub(crate) fn try_strays_again(&self) {
        self.strays.lock().clear();
    }

    /// Whether a shared store has not been told of all that is here; from now on it has.
    pub(crate) fn take_unnoted(&self) -> bool {
        self.unnoted.load(Ordering::Relaxed) && self.unnoted.swap(false, Ordering::AcqRel)
    }

    /// The store knows nothing of what is here, or not all.
    pub(crate) fn forget_noted(&self) {
        self.unnoted.store(true, Ordering::Release);
    }

    /// The names of all handlers: first of those that can be run, then of the others.
    pub(crate) fn all_names(&self) -> (Vec<Name>, Vec<Name>) {
        let handlers = self.handlers.read();
        let served = |name: &Name| handlers.get(name).is_some_and(|all| !all.current().aside.is_unserved());
        handlers.keys().partition(|name| served(name))
    }

    /// The handlers of one name, oldest version first.
    pub(crate) fn versions(&self, name: Name) -> Vec<Arc<HandlerEntry>> {
        self.handlers.read().get(&name).map_or_else(Vec::new, |versions| versions.0.clone())
    }

    /// Changes whenever a handler is added or replaced.
    pub(crate) fn epoch(&self) -> usize {
        self.epoch.load(Ordering::Acquire)
    }

    /// The handler of a task.
    pub(crate) fn find(&self, name: Name, version: Option<&str>) -> Option<Arc<HandlerEntry>> {
        let handlers = self.handlers.read();
        let versions = handlers.get(&name)?;
        match version {
            None => Some(Arc::clone(versions.current())),
            version => versions.with(version).cloned(),
        }
    }

    /// The handler with this name, or an error with the nearest one.
    pub(crate) fn named(&self, name: &str, version: Option<&str>) -> Result<Arc<HandlerEntry>> {
        let handlers = self.handlers.read();
        if let Some(versions) = handlers.get(&Name::new(name)) {
            return versions.with(version).cloned().ok_or_else(|| {
                let known: Vec<_> = versions.0.iter().map(|entry| entry.version.to_string()).collect();
                let version = version.unwrap_or_default();
                Error::new(Code::UnknownHandler, format!("handler {name:?} has no version {version:?}")).hint(
                    format!("registered are: {}; without a version the newest is taken", known.join(", ")),
                )
            });
        }
        let names = handlers.keys().map(|name| name.as_str()).collect();
        Err(unknown(format!("no handler {name:?}"), name, names))
    }

    /// That nobody ever registered a handler of this name, neither here nor, as far as their store knows, elsewhere.
    pub(crate) fn unknown_everywhere(&self, name: &str, elsewhere: &[String]) -> Error {
        let handlers = self.handlers.read();
        let mut names: Vec<_> = handlers.keys().map(|name| name.as_str()).collect();
        names.extend(elsewhere.iter().map(String::as_str));
        unknown(format!("no process has ever registered a handler {name:?} on this store"), name, names)
    }

    /// Whether there is any version of it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.handlers.read().contains_key(&Name::new(name))
    }

    /// All handlers, by name and version.
    pub(crate) fn all(&self) -> Vec<Arc<HandlerEntry>> {
        let handlers = self.handlers.read();
        let mut all: Vec<_> = handlers.values().flat_map(|versions| versions.0.iter().cloned()).collect();
        all.sort_by(|a, b| (a.name, &a.version).cmp(&(b.name, &b.version)));
        all
    }

    /// Adds the names to claim, of those whose newest version that can be run `fits`.
    pub(crate) fn names(&self, fits: impl Fn(&HandlerEntry) -> bool, names: &mut Vec<Name>) {
        let strays = self.strays.lock();
        let is_left_alone = |name: Name| strays.get(&name).is_some_and(|count| *count >= MANY_STRAYS);
        let handlers = self.handlers.read();
        let newest = handlers.values().map(Versions::current);
        let newest = newest.filter(|entry| !entry.aside.is_unserved() && fits(entry));
        names.extend(newest.map(|entry| entry.name).filter(|name| !is_left_alone(*name)));
    }

    /// What is registered, in figures.
    pub(crate) fn stats(&self) -> RegistryStats {
        let all = self.all();
        let mut namespaces: Vec<(String, usize)> = Vec::new();
        let mut last_name = None;
        for entry in &all {
            if last_name.replace(entry.name) == Some(entry.name) {
                continue;
            }
            let namespace = entry.name.as_str().rsplit_once('/').map_or("", |(namespace, _)| namespace);
            match namespaces.iter_mut().find(|(known, _)| known == namespace) {
                Some((_, count)) => *count += 1,
                None => namespaces.push((namespace.to_owned(), 1)),
            }
        }
        namespaces.sort();
        RegistryStats {
            names: namespaces.iter().map(|(_, count)| count).sum(),
            handlers: all.len(),
            namespaces,
            last_registration: all.iter().map(|entry| entry.registered).max(),
        }
    }
}
