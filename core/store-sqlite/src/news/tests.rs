use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Event, News, Watch};

/// A system that tells of nothing: each wait is over at once, and notes how long it might have been.
#[derive(Clone, Debug, Default)]
struct Untold(Arc<Mutex<Vec<Duration>>>);

impl Watch for Untold {
    fn rouse(&self) {}

    fn wait(&self, limit: Duration, _: bool) -> Event {
        self.0.lock().push(limit);
        Event::default()
    }

    fn is_told(&self) -> bool {
        false
    }
}

/// Two connections to a file, and what the first hears of the second without events.
fn scene() -> (News, Untold, Mutex<Connection>, Connection, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.db");
    let here = Connection::open(&path).unwrap();
    here.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    let there = Connection::open(&path).unwrap();
    let untold = Untold::default();
    let news = News::told_by(Box::new(untold.clone()));
    (news, untold, Mutex::new(here), there, folder)
}

#[test]
fn without_events_each_wait_looks_and_none_is_shorter_than_it_may_be() {
    const LIMIT: Duration = Duration::from_secs(10);
    let (news, untold, here, there, _folder) = scene();
    for _ in 0..3 {
        assert!(!news.wait(&here, LIMIT).changes);
    }
    there.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    assert!(news.wait(&here, LIMIT).changes);
    assert!(!news.wait(&here, LIMIT).changes);
    assert_eq!(*untold.0.lock(), [LIMIT; 5]);
}

#[test]
fn without_events_what_others_commit_while_the_connection_is_in_use_is_heard_of_afterwards() {
    let (news, _, here, there, _folder) = scene();
    news.wait(&here, Duration::ZERO);
    {
        let _used = here.lock();
        there.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        assert!(!news.wait(&here, Duration::ZERO).changes);
    }
    assert!(news.wait(&here, Duration::ZERO).changes);
}
