//! Tables of tasks by id.
//!
//! [`Registry`] is the memory store's: it holds every task that the store keeps, in shards with a lock each, so that
//! threads that submit and threads that finish seldom meet. An entry is one pointer (the id is read through it) and
//! one control byte. Tasks that were submitted one after the other lie beside each other, a thousand in one shard and
//! the next thousand in another ([`TaskId::table_hash`]).
//!
//! [`Live`] is for engines on a durable store: it finds the copy of a task that somebody in this process still holds.
//! Its entries are weak, so it keeps nothing alive; the dead ones are swept out whenever a shard has doubled.

use std::hash::BuildHasherDefault;
use std::sync::{Arc, Weak};

use hashbrown::{HashMap, HashTable};
use parking_lot::Mutex;
use taskloom_model::{Error, TaskId};

use crate::{Residents, Task};

const SHARDS: usize = 64;

/// A shard with room for so many tasks is not worth making smaller: all of them together take 2 MB.
const LARGE: usize = 4_096;

/// A shard has its cache line to itself: neighbours must not slow each other down.
#[derive(Default)]
#[repr(align(64))]
struct Shard<T>(Mutex<T>);

fn shards<T: Default>() -> Box<[Shard<T>]> {
    (0..SHARDS).map(|_| Shard::default()).collect()
}

/// So many neighbours share a shard.
const NEIGHBOURS: u32 = 10;

/// The shard of a hash, and the hash inside of it: without the bits that chose the shard, which all have in common there.
/// The table uses the lower bits and the uppermost seven.
#[inline]
fn in_shard(hash: u64) -> (usize, u64) {
    let bits = SHARDS.trailing_zeros();
    let near = hash & ((1 << NEIGHBOURS) - 1);
    let far = hash << 7 >> (7 + NEIGHBOURS + bits) << NEIGHBOURS;
    ((hash >> NEIGHBOURS) as usize % SHARDS, hash >> 57 << 57 | far | near)
}

/// The shard of an id.
fn shard_of(id: TaskId) -> usize {
    in_shard(id.table_hash()).0
}

/// Every task that a store keeps in memory.
pub struct Registry(Box<[Shard<HashTable<Arc<Task>>>]>);

impl Default for Registry {
    fn default() -> Self {
        Self(shards())
    }
}

impl Registry {
    /// Where a task lies in its shard.
    fn hash(task: &Arc<Task>) -> u64 {
        in_shard(task.id().table_hash()).1
    }

    /// Adds a task unless its id is taken; whether it was added.
    pub fn insert(&self, task: &Arc<Task>) -> bool {
        let (shard, hash) = in_shard(task.id().table_hash());
        Self::insert_into(&mut self.0[shard].0.lock(), hash, task)
    }

    /// Adds tasks in their order, until one whose id is taken; how many were added. Neighbours take one lock.
    pub fn insert_all(&self, tasks: &[Arc<Task>]) -> usize {
        let place = |number: usize| tasks.get(number).map(|task| in_shard(task.id().table_hash()));
        let (mut added, mut next) = (0, place(0));
        while let Some((number, _)) = next {
            let mut shard = self.0[number].0.lock();
            while let Some((_, hash)) = next.filter(|(own, _)| *own == number) {
                if !Self::insert_into(&mut shard, hash, &tasks[added]) {
                    return added;
                }
                added += 1;
                next = place(added);
            }
        }
        added
    }

    #[inline]
    fn insert_into(shard: &mut HashTable<Arc<Task>>, hash: u64, task: &Arc<Task>) -> bool {
        match shard.entry(hash, |other| other.id() == task.id(), Self::hash) {
            hashbrown::hash_table::Entry::Occupied(_) => false,
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(Arc::clone(task));
                true
            }
        }
    }

    /// The task with this id.
    pub fn get(&self, id: TaskId) -> Option<Arc<Task>> {
        let (shard, hash) = in_shard(id.table_hash());
        self.0[shard].0.lock().find(hash, |task| task.id() == id).cloned()
    }

    /// Puts another task with the same id in the place of one: what `make` makes of the one that is there. Nobody finds
    /// either of them meanwhile. None if there is none with this id.
    pub fn replace<T>(
        &self,
        id: TaskId,
        make: impl FnOnce(&Arc<Task>) -> Result<(Arc<Task>, T), Error>,
    ) -> Option<Result<(Arc<Task>, T), Error>> {
        let (shard, hash) = in_shard(id.table_hash());
        let mut shard = self.0[shard].0.lock();
        let place = shard.find_mut(hash, |task| task.id() == id)?;
        let made = make(place);
        let old = made.as_ref().ok().map(|(new, _)| std::mem::replace(place, Arc::clone(new)));
        // Not under the lock: it takes its host's data with it.
        drop(shard);
        drop(old);
        Some(made)
    }

    /// Takes a task out: exactly this one, not a later one with its id.
    pub fn remove(&self, task: &Arc<Task>) -> bool {
        let (shard, hash) = in_shard(task.id().table_hash());
        let removed = {
            let mut shard = self.0[shard].0.lock();
            let found =
                shard.find_entry(hash, |other| Arc::ptr_eq(other, task)).ok().map(|entry| entry.remove().0);
            Self::give_back(&mut shard);
            found
        };
        removed.is_some()
    }

    /// After a burst the table gives its memory back, yet not so eagerly that a steady load would resize it, or one burst
    /// after the other: to move an entry is to fetch its task from memory.
    fn give_back(shard: &mut HashTable<Arc<Task>>) {
        if shard.capacity() > LARGE && shard.len() * 8 < shard.capacity() {
            let room = shard.len() * 2;
            shard.shrink_to(room, Self::hash);
        }
    }

    /// Calls `visit` with every task, one shard after the other.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<Task>)) {
        for shard in &self.0 {
            // Cloned, so that the visitor may take as long as it likes and may use the registry.
            let tasks: Vec<_> = shard.0.lock().iter().cloned().collect();
            tasks.iter().for_each(&mut visit);
        }
    }

    /// How many tasks it holds.
    pub fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.0.lock().len()).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Default)]
struct LiveShard {
    tasks: HashMap<TaskId, Weak<Task>, BuildHasherDefault<IdHasher>>,
    sweep_at: usize,
}

impl LiveShard {
    fn insert(&mut self, task: &Arc<Task>) {
        if self.tasks.len() >= self.sweep_at {
            self.tasks.retain(|_, task| task.strong_count() > 0);
            self.sweep_at = (self.tasks.len() * 2).max(64);
        }
        self.tasks.insert(task.id(), Arc::downgrade(task));
    }
}

/// The tasks of a durable store that somebody in this process holds.
pub struct Live(Box<[Shard<LiveShard>]>);

impl Default for Live {
    fn default() -> Self {
        Self(shards())
    }
}

impl Live {
    /// Makes a task findable for as long as somebody holds it.
    pub fn insert(&self, task: &Arc<Task>) {
        self.0[shard_of(task.id())].0.lock().insert(task);
    }

    /// Makes a task findable unless another one with its id is, which may still change; the one that is found from
    /// now on.
    pub fn adopt(&self, task: Arc<Task>) -> Arc<Task> {
        let generation = task.with_row(|row| row.generation);
        // Whichever of the two dies, it is not under the lock: it takes its host's data with it.
        let (held, keep) = {
            let mut shard = self.0[shard_of(task.id())].0.lock();
            let held = shard.tasks.get(&task.id()).and_then(Weak::upgrade);
            let keep =
                held.as_ref().is_some_and(|held| held.may_show(generation) || held.is_later_than(generation));
            if !keep {
                shard.insert(&task);
            }
            (held, keep)
        };
        held.filter(|_| keep).unwrap_or(task)
    }

    /// Makes a task unfindable: exactly this one.
    pub fn forget(&self, task: &Arc<Task>) {
        let mut shard = self.0[shard_of(task.id())].0.lock();
        if shard.tasks.get(&task.id()).is_some_and(|held| std::ptr::eq(held.as_ptr(), Arc::as_ptr(task))) {
            shard.tasks.remove(&task.id());
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Task>> {
        self.0
            .iter()
            .flat_map(|shard| shard.0.lock().tasks.values().filter_map(Weak::upgrade).collect::<Vec<_>>())
            .collect()
    }
}

impl Residents for Live {
    fn resident(&self, id: TaskId) -> Option<Arc<Task>> {
        self.0[shard_of(id)].0.lock().tasks.get(&id).and_then(Weak::upgrade)
    }
}

impl Residents for Registry {
    fn resident(&self, id: TaskId) -> Option<Arc<Task>> {
        self.get(id)
    }
}

/// Hashes the sixteen bytes of an id as [`TaskId::table_hash`] does, and what else a key has with them.
#[derive(Default)]
pub struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(32) ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }
}
