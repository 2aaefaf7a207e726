//! The tables, and every statement that the store runs on them.
//!
//! # Tables
//! `tasks` has one row per task: what was asked for, and the row as last committed. What few tasks have is JSON in
//! `rare` and `history` (see [`crate::codec`]). Times are microseconds since the epoch; `eligible` is the largest
//! integer where only a signal ends the wait. `due` is [`taskloom_model::next_due`] of the row, and is kept with it.
//!
//! The columns that operations change come first and the large ones last, so that reading a state never walks the
//! overflow pages of a payload.
//!
//! # Indexes
//! * the id, since everybody names tasks by it. Rows are addressed by `seq` all the same: an integer key makes the
//!   table append-only and each lookup from an index one step down one tree;
//! * `ready` holds the queued tasks, one run for each queue and handler, in the order in which they are claimed. A
//!   task leaves it when it is claimed, so its size is the backlog's, not the table's; and a claim finds its handlers'
//!   runs without walking over the backlog of others, who may not be here;
//! * `alarm` holds the tasks that have a time. Most have none and never touch it;
//! * `key_holder` holds the tasks that have a unique key, one for each handler and key. `unique_key` is set only in the
//!   row that has the key or had it last: it stays there when its task ends, so that no change of a running task has to
//!   look after this index, and whoever wants the key sees by the row's state and by `unique_until` whether it is free.
//!   (What the task asked for is in `rare`.)
//!
//! * `dead` holds the tasks that ended without a result (failed, timed out, cancelled, expired), by state and id: what an
//!   operator looks for, and few among a million. Only a task that ends so ever touches it.
//!
//! Running and succeeded tasks are in no index but the id's. One on the owner of running tasks would cost every task an
//! insert and a delete (claims and finishes 15 % slower), and save a scan of 0.1 s per million rows when a process
//! dies. Equally old tasks go by `seq` and not by id: ids made within one millisecond are in no order, so a claim of
//! 256 would touch, and write to the log, four times as many pages.
//!
//! `parent` is the id of the task that submitted this one. Children are found by their ids, which follow from their
//! parent's; the column is there to see whether a finished child may be forgotten.
//!
//! `owners` is AUTOINCREMENT, so that the number of a process that was struck off is never given out again. `queues`
//! has the queues about which there is something to say: that they are paused.

use taskloom_model::{State, WaitingFor};

/// "Loom", in the header of the file: how `file(1)` and other programs tell whose database it is.
pub(crate) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"Loom");

/// The statements name two states by number, since a partial index is used only for a literal.
const _: () = assert!(State::Queued.number() == 1 && State::Running.number() == 2);

/// Those of limits name the reason for which a task waits.
const _: () = assert!(State::Pending.number() == 0 && WaitingFor::Key.number() == 5);

/// Those that list dead letters name the first and the last of their states.
const _: () = {
    let mut place = 0;
    while place < State::ALL.len() {
        let number = State::ALL[place].number();
        assert!(State::ALL[place].is_dead() == (number >= 5 && number <= 8));
        place += 1;
    }
};

/// And they take the first four for those that have not ended.
const _: () = {
    let mut place = 0;
    while place < State::ALL.len() {
        assert!(State::ALL[place].is_terminal() == (State::ALL[place].number() > 3));
        place += 1;
    }
};

pub(crate) const CREATE: &str = "
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    state INTEGER NOT NULL,
    waiting_for INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    unmet INTEGER NOT NULL,
    owner INTEGER,
    eligible INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER,
    due INTEGER,
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created INTEGER NOT NULL,
    timeout INTEGER,
    retries INTEGER NOT NULL,
    max_crashes INTEGER NOT NULL,
    unique_key TEXT,
    unique_until INTEGER,
    parent BLOB,
    rare TEXT,
    history TEXT,
    result BLOB,
    payload BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX task_id ON tasks (id);
CREATE INDEX ready ON tasks (queue, name, priority DESC, eligible) WHERE state = 1;
CREATE INDEX alarm ON tasks (due) WHERE due IS NOT NULL;
CREATE UNIQUE INDEX key_holder ON tasks (unique_key, name) WHERE unique_key IS NOT NULL;
CREATE TABLE queues (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    beats INTEGER NOT NULL,
    joined INTEGER NOT NULL
) STRICT;
";

/// Limits. `key` is the one that a task waits its turn under; see [`crate::write::gates`] for the rest. `key_line` has
/// the tasks with keys that are queued or wait: their strands, each in the order of arrival. What waits for its key has
/// the largest integer as its `eligible`; what was put off to some time has that.
pub(crate) const LIMITS_STEP: &str = "
ALTER TABLE tasks ADD COLUMN key TEXT;
CREATE INDEX key_line ON tasks (key, state, waiting_for, queue, name, priority, eligible)
    WHERE key IS NOT NULL AND state < 2;
CREATE TABLE limits (
    handler TEXT NOT NULL,
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    declared INTEGER NOT NULL,
    concurrency INTEGER,
    rate_count INTEGER,
    rate_per INTEGER,
    rate_burst INTEGER,
    revision INTEGER NOT NULL,
    PRIMARY KEY (handler, queue, key, declared)
) STRICT, WITHOUT ROWID;
CREATE INDEX limit_revision ON limits (revision);
CREATE TABLE gates (
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    full_at INTEGER NOT NULL,
    shut_until INTEGER NOT NULL,
    due INTEGER,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX gate_alarm ON gates (due) WHERE due IS NOT NULL;
CREATE TABLE slots (
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    task BLOB NOT NULL,
    PRIMARY KEY (kind, name, task)
) STRICT, WITHOUT ROWID;
";

/// Dead letters, in the order of lists.
pub(crate) const DEAD_STEP: &str = "CREATE INDEX dead ON tasks (state, id) WHERE state BETWEEN 5 AND 8;";

/// The columns of a [`taskloom_model::Row`], in the order in which [`crate::rows::read_row`] takes them.
macro_rules! row {
    () => {
        "state, waiting_for, crashes, generation, attempt, failures, unmet, owner, eligible, updated, started, \
         finished, history, result"
    };
}

/// The columns of a [`taskloom_model::Spec`] but its id, in the order in which [`crate::rows::read_spec`] takes them.
macro_rules! spec {
    () => {
        "queue, name, priority, created, timeout, retries, max_crashes, rare, payload"
    };
}

/// How many columns a row has: those of the spec follow.
pub(crate) const ROW_COLUMNS: usize = 14;

/// How many columns a spec has.
pub(crate) const SPEC_COLUMNS: usize = 9;

pub(crate) const INSERT: &str = concat!(
    "INSERT INTO tasks (id, due, ",
    row!(),
    ", ",
    spec!(),
    ", unique_key, unique_until, parent, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ",
    "?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29)"
);

/// An insert of a task that is eligible at once and asks for nothing special: most do not. What is bound is paid for.
pub(crate) const INSERT_PLAIN: &str = "INSERT INTO tasks (id, state, waiting_for, crashes, generation, attempt, failures, unmet, \
    eligible, updated, queue, name, priority, created, retries, max_crashes, payload) \
    VALUES (?1, 1, 0, 0, 0, 0, 0, 0, ?2, ?2, ?3, ?4, ?5, ?2, ?6, ?7, ?8)";

/// Takes back an insert of the same transaction.
pub(crate) const TAKE_BACK: &str = "DELETE FROM tasks WHERE seq = ?1";

/// What a claim changes, of a task whose alarm stays: an index less to look after.
pub(crate) const STEP: &str =
    "UPDATE tasks SET state = ?2, attempt = ?3, owner = ?4, updated = ?5, started = ?6 WHERE seq = ?1";

/// A change that leaves `history` and `result` as they are.
pub(crate) const MOVE: &str = "UPDATE tasks SET state = ?2, waiting_for = ?3, crashes = ?4, generation = ?5, \
     attempt = ?6, failures = ?7, unmet = ?8, owner = ?9, eligible = ?10, updated = ?11, started = ?12, \
     finished = ?13, due = ?14 WHERE seq = ?1";

/// Any change.
pub(crate) const CHANGE: &str = "UPDATE tasks SET state = ?2, waiting_for = ?3, crashes = ?4, generation = ?5, \
     attempt = ?6, failures = ?7, unmet = ?8, owner = ?9, eligible = ?10, updated = ?11, started = ?12, \
     finished = ?13, due = ?14, history = ?15, result = ?16 WHERE seq = ?1";

/// The end of an attempt, compared with the attempt that the caller believes in. A running row without a history is
/// determined by its owner and attempt, so the rest of the caller's row holds too, and need not be read first.
pub(crate) const REPORT: &str = "UPDATE tasks SET state = ?4, waiting_for = ?5, crashes = ?6, failures = ?7, \
     owner = ?8, eligible = ?9, updated = ?10, finished = ?11, due = ?12, history = ?13, result = ?14 \
     WHERE id = ?1 AND state = 2 AND owner = ?2 AND attempt = ?3 AND history IS NULL";

/// As [`REPORT`], for an attempt that ends a task which has no alarm: fewer columns, and an index less.
pub(crate) const FINISH: &str = "UPDATE tasks SET state = ?4, owner = NULL, updated = ?5, finished = ?5, result = ?6 \
     WHERE id = ?1 AND state = 2 AND owner = ?2 AND attempt = ?3 AND history IS NULL";

pub(crate) const ROW_BY_ID: &str = concat!("SELECT ", row!(), ", seq FROM tasks WHERE id = ?1");
pub(crate) const SEQ_BY_ID: &str = "SELECT seq FROM tasks WHERE id = ?1";
pub(crate) const ROW_BY_SEQ: &str = concat!("SELECT ", row!(), " FROM tasks WHERE seq = ?1");
pub(crate) const TASK_BY_SEQ: &str = concat!("SELECT ", row!(), ", ", spec!(), " FROM tasks WHERE seq = ?1");
pub(crate) const TASK_BY_ID: &str = concat!("SELECT ", row!(), ", ", spec!(), " FROM tasks WHERE id = ?1");

/// Rows that cannot be, and that no work comes upon, in a stretch of the table.
pub(crate) const SUSPECT: &str = "SELECT seq FROM tasks WHERE seq > ?1 AND seq <= ?2 AND (state NOT BETWEEN 0 AND 9 \
     OR length(id) <> 16 OR (state = 2) <> (owner IS NOT NULL) \
     OR (state = 2 AND owner NOT IN (SELECT id FROM owners)) \
     OR min(attempt, failures, crashes, generation, unmet) < 0 OR max(attempt, failures, generation, unmet) > 4294967295 \
     OR crashes > 255 OR priority NOT BETWEEN 0 AND 3)";
/// The last of so many rows after one.
pub(crate) const STRETCH: &str =
    "SELECT max(seq) FROM (SELECT seq FROM tasks WHERE seq > ?1 ORDER BY seq LIMIT ?2)";
pub(crate) const TASK_AND_OWNER: &str = concat!(
    "SELECT ",
    row!(),
    ", ",
    spec!(),
    ", id, state <> 2 OR owner IS NULL OR owner IN (SELECT id FROM owners) FROM tasks WHERE seq = ?1"
);

/// A task, if it can still be cancelled.
pub(crate) const UNFINISHED_BY_ID: &str = "SELECT seq FROM tasks WHERE id = ?1 AND state < 4";

/// Who has a key, or had it last. At most one; whoever takes it over takes it away first.
pub(crate) const KEY_HOLDER: &str = "SELECT seq, id, state, unique_until FROM tasks INDEXED BY key_holder \
     WHERE unique_key = ?1 AND name = ?2";
pub(crate) const GIVE_KEY: &str = "UPDATE tasks SET unique_key = ?2 WHERE seq = ?1";

/// The first run of `ready` after this one, in its queue and in the later ones: a step from run to run is one search,
/// however long they are. (As one comparison of pairs, SQLite would walk the run from its beginning.)
pub(crate) const NEXT_IN_QUEUE: &str = "SELECT queue, name FROM tasks INDEXED BY ready \
     WHERE state = 1 AND queue = ?1 AND name > ?2 ORDER BY name LIMIT 1";
pub(crate) const NEXT_QUEUE: &str = "SELECT queue, name FROM tasks INDEXED BY ready \
     WHERE state = 1 AND queue > ?1 ORDER BY queue, name LIMIT 1";

/// Walks a run for as long as it is stepped: of equally old tasks, the first to arrive. A large payload stays where
/// it is, since most tasks that are claimed are in memory already.
pub(crate) const RUN: &str = concat!(
    "SELECT ",
    row!(),
    ", queue, name, priority, created, timeout, retries, max_crashes, rare, \
     CASE WHEN length(payload) <= 1024 THEN payload END, seq, id FROM tasks INDEXED BY ready \
     WHERE state = 1 AND queue = ?1 AND name = ?2 ORDER BY priority DESC, eligible, seq"
);

/// The first rows of a run, for when its queue or handler has no name that could be asked for.
pub(crate) const IN_RUN: &str = "SELECT seq FROM tasks INDEXED BY ready \
     WHERE state = 1 AND queue = ?1 AND name = ?2 LIMIT ?3";

/// Walks a run, for what decides between runs.
pub(crate) const PLACES: &str = "SELECT priority, eligible, seq, id FROM tasks INDEXED BY ready \
     WHERE state = 1 AND queue = ?1 AND name = ?2 ORDER BY priority DESC, eligible, seq";

pub(crate) const PAYLOAD: &str = "SELECT payload FROM tasks WHERE seq = ?1";

pub(crate) const DUE: &str =
    "SELECT seq, id FROM tasks INDEXED BY alarm WHERE due <= ?1 ORDER BY due, seq LIMIT ?2";
/// As [`NEXT_DUE`], for as long as it is stepped: past rows that make no sense.
pub(crate) const ALL_DUE: &str =
    "SELECT seq, due FROM tasks INDEXED BY alarm WHERE due IS NOT NULL ORDER BY due, seq";
pub(crate) const NEXT_DUE: &str = "SELECT min(due) FROM tasks INDEXED BY alarm WHERE due IS NOT NULL";

/// Looks at every row: see the note on indexes.
pub(crate) const OWNED: &str = "SELECT seq, id FROM tasks WHERE state = 2 AND owner = ?1";

/// Which tasks a list is of, of those with ids between `?1` and `?9`. The filters that are not wanted are NULL.
macro_rules! fits {
    ($between:literal) => {
        concat!(
            $between,
            " AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR queue = ?3) AND (?4 IS NULL OR name = ?4) \
             AND (NOT ?5 OR state < 4) AND (NOT ?6 OR rare IS NOT NULL) AND (NOT ?7 OR state BETWEEN 5 AND 8) \
             AND (?8 IS NULL OR updated >= ?8) "
        )
    };
}

/// In the order of an index, from which `$from` says what is read. It has no limit, since it cannot see tags: it is read for
/// as long as it is stepped.
macro_rules! list {
    ($from:literal, $between:literal, $order:literal) => {
        concat!("SELECT ", row!(), ", ", spec!(), ", id, seq FROM tasks ", $from, fits!($between), $order)
    };
}

/// By one pass over what `$from` says, at most `?10`: see [`crate::listing`].
macro_rules! list_scanning {
    ($from:literal, $between:literal, $order:literal) => {
        concat!(
            "SELECT ",
            row!(),
            ", ",
            spec!(),
            ", id, seq FROM tasks WHERE seq IN (SELECT seq FROM tasks ",
            $from,
            fits!($between),
            $order,
            " LIMIT ?10) ",
            $order
        )
    };
}

/// A list, oldest first and newest first.
pub(crate) type Both = [&'static str; 2];

/// A kind of list in both orders.
macro_rules! both {
    ($list:ident, $from:literal) => {
        [
            $list!($from, "id > ?1 AND id <= ?9", "ORDER BY id"),
            $list!($from, "id < ?1 AND id >= ?9", "ORDER BY id DESC"),
        ]
    };
}

pub(crate) const LIST: Both = both!(list, "INDEXED BY task_id WHERE ");
/// Of one state, the one that is wanted.
pub(crate) const LIST_DEAD: Both =
    both!(list, "INDEXED BY dead WHERE state BETWEEN 5 AND 8 AND state = ?2 AND ");
pub(crate) const LIST_SCANNING: Both = both!(list_scanning, "NOT INDEXED WHERE ");
pub(crate) const LIST_QUEUED: Both = both!(list_scanning, "INDEXED BY ready WHERE state = 1 AND ");

/// How many tasks are queued, counted up to a number.
pub(crate) const QUEUED: &str =
    "SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY ready WHERE state = 1 LIMIT ?1)";

/// The id so many places on.
pub(crate) const PLACE: &str =
    "SELECT id FROM tasks INDEXED BY task_id WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2";
pub(crate) const PLACE_NEWEST_FIRST: &str =
    "SELECT id FROM tasks INDEXED BY task_id WHERE id < ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2";

/// Counts need the queue and the state of every row; the order is the caller's concern.
pub(crate) const COUNTS: &str = "SELECT queue, state, count(*) FROM tasks GROUP BY queue, state";

/// Rows of one queue. For when the counts have shown one that has no name.
pub(crate) const IN_QUEUE: &str = "SELECT seq FROM tasks WHERE queue = ?1 LIMIT 1000";

/// Rows in a state that there is not. For when the counts have shown one.
pub(crate) const STATELESS: &str = "SELECT seq FROM tasks WHERE state NOT BETWEEN 0 AND 9 LIMIT 1000";

/// Whether a task may be forgotten if the line is drawn at `?1`: it had ended by then, nobody can come upon it by its
/// unique key, and no attempt of its parent can ask for it again.
macro_rules! forgettable {
    () => {
        concat!("finished < ?1 AND ", unneeded!())
    };
}

/// Whether nobody can come upon a task that has ended by then.
macro_rules! unneeded {
    () => {
        "(unique_until IS NULL OR unique_until <= ?1) AND (parent IS NULL OR NOT EXISTS \
         (SELECT 1 FROM tasks AS above WHERE above.id = tasks.parent AND above.state < 4))"
    };
}

/// In the order in which they came, from behind one row to another: so a sweep in pieces goes over each row once.
pub(crate) const ENDED: &str = concat!(
    "SELECT seq FROM tasks WHERE seq > ?3 AND seq <= ?4 AND ",
    forgettable!(),
    " ORDER BY seq LIMIT ?2"
);
/// `?3` has a bit for the number of each state.
pub(crate) const DISCARD: &str =
    concat!("DELETE FROM tasks WHERE id = ?2 AND (?3 >> state) & 1 AND ", unneeded!());
/// The first row after one.
pub(crate) const NEXT_SEQ: &str = "SELECT seq FROM tasks WHERE seq > ?1 ORDER BY seq LIMIT 1";
pub(crate) const FORGET: &str = concat!("DELETE FROM tasks WHERE seq = ?2 AND ", forgettable!());

/// Which limits there are changes with this number. Those that were taken away leave their rows, for that.
pub(crate) const LIMIT_REVISION: &str = "SELECT max(revision) FROM limits";
pub(crate) const LIMITS: &str = "SELECT handler, queue, key, declared, concurrency, rate_count, rate_per, rate_burst \
     FROM limits WHERE concurrency IS NOT NULL OR rate_count IS NOT NULL";
pub(crate) const SET_LIMIT: &str = "INSERT INTO limits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, \
     (SELECT coalesce(max(revision), 0) + 1 FROM limits)) ON CONFLICT DO UPDATE SET concurrency = excluded.concurrency, \
     rate_count = excluded.rate_count, rate_per = excluded.rate_per, rate_burst = excluded.rate_burst, \
     revision = excluded.revision";

pub(crate) const GATE: &str = "SELECT full_at, shut_until, due FROM gates WHERE kind = ?1 AND name = ?2";
pub(crate) const WRITE_GATE: &str = "INSERT INTO gates VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE \
     SET full_at = excluded.full_at, shut_until = excluded.shut_until, due = excluded.due";
pub(crate) const FORGET_GATE: &str = "DELETE FROM gates WHERE kind = ?1 AND name = ?2";
pub(crate) const GATES_DUE: &str = "SELECT kind, name FROM gates INDEXED BY gate_alarm WHERE due <= ?1";
pub(crate) const NEXT_GATE: &str = "SELECT min(due) FROM gates INDEXED BY gate_alarm WHERE due IS NOT NULL";

pub(crate) const SLOTS: &str = "SELECT count(*) FROM slots WHERE kind = ?1 AND name = ?2";
pub(crate) const TAKE_SLOT: &str = "INSERT OR IGNORE INTO slots VALUES (?1, ?2, ?3)";
pub(crate) const GIVE_SLOT_BACK: &str = "DELETE FROM slots WHERE kind = ?1 AND name = ?2 AND task = ?3";
pub(crate) const FORGET_SLOTS: &str = "DELETE FROM slots WHERE kind = ?1 AND name = ?2";
/// These look at every row, once for each line that gets a limit.
pub(crate) const SLOTS_OF_QUEUE: &str =
    "INSERT INTO slots SELECT ?1, queue, id FROM tasks WHERE state = 2 AND queue = ?2";
pub(crate) const SLOTS_OF_HANDLER: &str =
    "INSERT INTO slots SELECT ?1, name, id FROM tasks WHERE state = 2 AND name = ?2";

/// A strand's queued tasks, counted up to a number.
pub(crate) const STRAND_QUEUED: &str = "SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY key_line WHERE key = ?1 \
     AND state = 1 AND state < 2 AND waiting_for = 0 AND queue = ?2 AND name = ?3 AND priority = ?4 LIMIT ?5)";

/// Waiting for a key, and for no time of its own.
macro_rules! waiting {
    () => {
        "tasks INDEXED BY key_line WHERE key = ?1 AND state = 0 AND state < 2 AND waiting_for = 5"
    };
}

/// A strand's waiting tasks, the first to arrive first.
pub(crate) const STRAND_WAITING: &str = concat!(
    "SELECT seq, id FROM ",
    waiting!(),
    " AND queue = ?2 AND name = ?3 AND priority = ?4 AND eligible = 9223372036854775807 ORDER BY seq LIMIT ?5"
);

/// The first strand after another: with the same name, in the same queue, in any later queue.
pub(crate) const STRAND_IN_NAME: &str = concat!(
    "SELECT queue, name, priority FROM ",
    waiting!(),
    " AND queue = ?2 AND name = ?3 AND priority > ?4 ORDER BY priority LIMIT 1"
);
pub(crate) const STRAND_IN_QUEUE: &str = concat!(
    "SELECT queue, name, priority FROM ",
    waiting!(),
    " AND queue = ?2 AND name > ?3 ORDER BY name, priority LIMIT 1"
);
pub(crate) const STRAND_IN_KEY: &str = concat!(
    "SELECT queue, name, priority FROM ",
    waiting!(),
    " AND queue > ?2 ORDER BY queue, name, priority LIMIT 1"
);

pub(crate) const PAUSED: &str = "SELECT name FROM queues WHERE paused ORDER BY name";
pub(crate) const PAUSE: &str = "INSERT INTO queues (name, paused) VALUES (?1, TRUE) \
     ON CONFLICT (name) DO UPDATE SET paused = TRUE WHERE NOT paused";
pub(crate) const RESUME: &str = "UPDATE queues SET paused = FALSE WHERE name = ?1 AND paused";

pub(crate) const JOIN: &str = "INSERT INTO owners (name, beats, joined) VALUES (?1, 0, ?2)";
pub(crate) const BEAT: &str = "UPDATE owners SET beats = beats + 1 WHERE id = ?1";
pub(crate) const IS_OWNER: &str = "SELECT EXISTS (SELECT 1 FROM owners WHERE id = ?1)";
pub(crate) const OWNERS: &str = "SELECT id, name, beats FROM owners ORDER BY id";
pub(crate) const STRIKE_OFF: &str = "DELETE FROM owners WHERE id = ?1";

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// How SQLite goes about a statement, in its own words.
    fn plan(conn: &Connection, sql: &str) -> String {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let parameters = rusqlite::params_from_iter(vec![1; statement.parameter_count()]);
        let steps = statement.query_map(parameters, |stored| stored.get::<_, String>(3)).unwrap();
        steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    }

    /// Nothing that is done for every task may depend on how many tasks there are.
    #[test]
    fn statements_walk_their_indexes() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(CREATE).unwrap();
        conn.execute_batch(DEAD_STEP).unwrap();
        let by_seq = "SEARCH tasks USING INTEGER PRIMARY KEY (rowid=?)";
        let by_id = "SEARCH tasks USING INDEX task_id (id=?)";
        for (sql, expected) in [
            (NEXT_IN_QUEUE, "SEARCH tasks USING COVERING INDEX ready (queue=? AND name>?)"),
            (NEXT_QUEUE, "SEARCH tasks USING COVERING INDEX ready (queue>?)"),
            (RUN, "SEARCH tasks USING INDEX ready (queue=? AND name=?)"),
            (IN_RUN, "SEARCH tasks USING COVERING INDEX ready (queue=? AND name=?)"),
            (PLACES, "SEARCH tasks USING INDEX ready (queue=? AND name=?)"),
            (DUE, "SEARCH tasks USING INDEX alarm (due<?)"),
            (NEXT_DUE, "SEARCH tasks USING COVERING INDEX alarm (due>?)"),
            (ALL_DUE, "SEARCH tasks USING COVERING INDEX alarm (due>?)"),
            (LIST[0], "SEARCH tasks USING INDEX task_id (id>? AND id<?)"),
            (LIST[1], "SEARCH tasks USING INDEX task_id (id>? AND id<?)"),
            (LIST_DEAD[0], "SEARCH tasks USING INDEX dead (state=? AND id>? AND id<?)"),
            (LIST_DEAD[1], "SEARCH tasks USING INDEX dead (state=? AND id>? AND id<?)"),
            (QUEUED, "CO-ROUTINE (subquery-1); SCAN tasks USING COVERING INDEX ready; SCAN (subquery-1)"),
            (PLACE, "SEARCH tasks USING COVERING INDEX task_id (id>?)"),
            (PLACE_NEWEST_FIRST, "SEARCH tasks USING COVERING INDEX task_id (id<?)"),
            (REPORT, by_id),
            (FINISH, by_id),
            (ROW_BY_ID, by_id),
            (TASK_BY_ID, by_id),
            (SEQ_BY_ID, "SEARCH tasks USING COVERING INDEX task_id (id=?)"),
            (ROW_BY_SEQ, by_seq),
            (TASK_BY_SEQ, by_seq),
            (PAYLOAD, by_seq),
            (STEP, by_seq),
            (MOVE, by_seq),
            (CHANGE, by_seq),
            (TAKE_BACK, by_seq),
            (
                FORGET,
                "SEARCH tasks USING INTEGER PRIMARY KEY (rowid=?); CORRELATED SCALAR SUBQUERY 1; \
                 SEARCH above USING INDEX task_id (id=?)",
            ),
            (
                DISCARD,
                "SEARCH tasks USING INDEX task_id (id=?); CORRELATED SCALAR SUBQUERY 1; \
                 SEARCH above USING INDEX task_id (id=?)",
            ),
            (GIVE_KEY, by_seq),
            (NEXT_SEQ, "SEARCH tasks USING INTEGER PRIMARY KEY (rowid>?)"),
            (UNFINISHED_BY_ID, by_id),
            (KEY_HOLDER, "SEARCH tasks USING INDEX key_holder (unique_key=? AND name=?)"),
            // These look at every row, and are asked seldom.
            (OWNED, "SCAN tasks"),
            (
                SUSPECT,
                "SEARCH tasks USING INTEGER PRIMARY KEY (rowid>? AND rowid<?); \
                 USING ROWID SEARCH ON TABLE owners FOR IN-OPERATOR",
            ),
            (
                ENDED,
                "SEARCH tasks USING INTEGER PRIMARY KEY (rowid>? AND rowid<?); CORRELATED SCALAR SUBQUERY 1; \
                 SEARCH above USING INDEX task_id (id=?)",
            ),
            (
                LIST_SCANNING[0],
                "SEARCH tasks USING INTEGER PRIMARY KEY (rowid=?); LIST SUBQUERY 1; SCAN tasks; \
                 USE TEMP B-TREE FOR ORDER BY; USE TEMP B-TREE FOR ORDER BY",
            ),
            (
                LIST_QUEUED[0],
                "SEARCH tasks USING INTEGER PRIMARY KEY (rowid=?); LIST SUBQUERY 1; SCAN tasks USING INDEX ready; \
                 USE TEMP B-TREE FOR ORDER BY; USE TEMP B-TREE FOR ORDER BY",
            ),
            (COUNTS, "SCAN tasks; USE TEMP B-TREE FOR GROUP BY"),
        ] {
            assert_eq!(plan(&conn, sql), expected, "{sql}");
        }
    }
}
