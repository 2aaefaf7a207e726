//! Rows that somebody has edited into what cannot be: they are reported and left alone, and the others go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use taskloom_model::{
    Admission, Code, Fence, Name, Operation, Options, OwnerId, State, TaskId, Timestamp, When, admit,
};
use taskloom_store::{Batch, Claim, Commit, Filter, Live, Nobody, Residents, Store, Task};
use taskloom_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const LATER: Timestamp = Timestamp::from_micros(NOW.micros() + 60_000_000);

struct File {
    folder: TempDir,
    store: SqliteStore,
    owner: OwnerId,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tasks.db"), SqliteOptions::default()).unwrap();
        let owner = store.join("me", NOW).unwrap();
        Self { folder, store, owner }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("tasks.db")
    }

    /// Writes by hand.
    fn edit(&self, sql: &str, task: &Arc<Task>) {
        let sql = format!("UPDATE tasks SET {sql} WHERE id = ?1");
        let edited = Connection::open(self.path()).unwrap().execute(&sql, [task.id().as_bytes().as_slice()]);
        assert_eq!(edited.unwrap(), 1);
    }

    fn insert(&self, tasks: &[Arc<Task>]) {
        self.store.insert(tasks, NOW).unwrap();
    }

    fn claim(&self, limit: usize) -> Vec<Arc<Task>> {
        let names = [Name::new("job"), Name::new("other")].into();
        let claim = Claim { owner: self.owner, queues: [].into(), names, limit };
        let mut batch = Batch { claim: Some(claim), ..Batch::default() };
        self.store.write(&mut batch, &Nobody, NOW).unwrap();
        batch.claimed
    }

    /// What it says of its damage.
    fn told(&self) -> Vec<String> {
        let told = self.store.damaged().unwrap();
        assert!(told.iter().all(|error| error.code() == Code::CorruptRow), "{told:?}");
        told.iter().map(|error| error.message().to_owned()).collect()
    }
}

fn task_of(number: u32, name: &str, options: &Options) -> Arc<Task> {
    let id = TaskId::from_bytes((u128::from(number) + 1).to_be_bytes());
    let admission = Admission::new(options).unwrap();
    let (spec, row, _) = admit(&admission, id, Name::new(name), Default::default(), NOW).unwrap();
    Task::new(spec, row, None)
}

fn ids(tasks: &[Arc<Task>]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id()).collect()
}

fn task(number: u32) -> Arc<Task> {
    task_of(number, "job", &Options::default())
}

const EDITS: [(&str, &str); 9] = [
    ("attempt = -1", "its attempt cannot be read"),
    ("attempt = 4294967296", "its attempt cannot be read"),
    ("failures = -7", "its failures cannot be read"),
    ("owner = 3", "it is queued, and has an owner, 3"),
    ("priority = 9", "priority 9 in the store is not known"),
    ("waiting_for = 77", "waiting_for 77 in the store is not known"),
    ("history = '{'", "its history cannot be read"),
    ("rare = '[1, 2]'", "its options cannot be read"),
    ("rare = '{\"v\": 1, \"retry\": {\"base\": \"soon\"}}'", "its options cannot be read"),
];

#[test]
fn a_claim_leaves_it_out() {
    // Of one run, and of two as if they were one.
    for names in [["job", "job", "job"], ["job", "other", "job"]] {
        for (edit, says) in EDITS {
            let file = File::new();
            let tasks: Vec<_> =
                (0..3).map(|number| task_of(number, names[number as usize], &Options::default())).collect();
            file.insert(&tasks);
            file.edit(edit, &tasks[0]);
            let claimed = ids(&file.claim(2));
            assert_eq!(claimed, [tasks[1].id(), tasks[2].id()], "{edit}");
            let told = file.told();
            assert_eq!(told.len(), 1, "{edit}: {told:?}");
            assert!(told[0].starts_with(&format!("task {} in ", tasks[0].id())), "{told:?}");
            assert!(told[0].contains(says), "{edit}: {told:?}");
            assert!(file.claim(2).is_empty(), "nor later");
        }
    }
}

#[test]
fn many_in_front_of_all_others_hold_nobody_up() {
    for other in ["job", "other"] {
        let file = File::new();
        let tasks: Vec<_> = (0..40).map(task).collect();
        file.insert(&tasks);
        file.insert(&[task_of(50, other, &Options::default()), task(51)]);
        for task in &tasks {
            file.edit("attempt = -1", task);
        }
        assert_eq!(file.claim(2).len(), 2);
        assert_eq!(file.told().len(), 40);
    }
}

#[test]
fn one_that_is_put_right_is_claimed_and_told_of_no_more() {
    let file = File::new();
    let one = task(0);
    file.insert(&[Arc::clone(&one)]);
    file.edit("attempt = -1", &one);
    assert!(file.claim(1).is_empty());
    assert_eq!(file.told().len(), 1);
    file.edit("attempt = 0", &one);
    assert!(file.told().is_empty());
    assert_eq!(file.claim(1).len(), 1);
}

#[test]
fn one_that_can_be_tried_no_more_is_left_alone() {
    let file = File::new();
    let (last, next) = (task(0), task(1));
    file.insert(&[Arc::clone(&last), Arc::clone(&next)]);
    file.edit("attempt = 4294967295", &last);
    assert_eq!(ids(&file.claim(9)), [next.id()]);
    assert_eq!(file.store.get(last.id(), &Nobody).unwrap().unwrap().state(), State::Queued);
}

#[test]
fn a_time_leaves_it_out() {
    for limit in [1, 2, 256] {
        for (edit, says) in EDITS.iter().filter(|(edit, _)| !edit.starts_with("owner")) {
            let file = File::new();
            let delayed = |number| {
                let eta = Some(When::In(Duration::from_secs(u64::from(number) + 1)));
                task_of(number, "job", &Options { eta, ..Options::default() })
            };
            let tasks: Vec<_> = (0..4).map(delayed).collect();
            file.insert(&tasks);
            file.edit(edit, &tasks[0]);
            file.edit(edit, &tasks[1]);
            let mut changes = Vec::new();
            let mut next = Some(LATER);
            for _ in 0..4 {
                next = file.store.elapse(limit, &Nobody, &mut changes, LATER).unwrap();
            }
            let elapsed: Vec<_> = changes.iter().map(|change| change.task.id()).collect();
            assert_eq!(elapsed, [tasks[2].id(), tasks[3].id()], "{edit}");
            assert_eq!(next, None, "a time that never passes would be looked at without an end");
            let told = file.told();
            assert_eq!(told.len(), 2);
            assert!(told[0].contains(says), "{told:?}");
        }
    }
}

#[test]
fn a_burial_leaves_it_out() {
    let file = File::new();
    let tasks: Vec<_> = (0..3).map(task).collect();
    file.insert(&tasks);
    assert_eq!(file.claim(3).len(), 3);
    file.edit("attempt = -1", &tasks[1]);
    let mut changes = Vec::new();
    file.store.bury(file.owner, &Nobody, &mut changes, NOW).unwrap();
    let freed: Vec<_> = changes.iter().map(|change| change.task.id()).collect();
    assert_eq!(freed, [tasks[0].id(), tasks[2].id()]);
    assert_eq!(file.told().len(), 1);
    assert!(file.store.owners().unwrap().is_empty(), "it is struck off all the same");
}

/// Nobody comes upon these by himself.
#[test]
fn the_search_finds_what_nobody_comes_upon() {
    for (edit, says) in [
        ("state = 2", "it runs, and has no owner"),
        ("state = 2, owner = 4711", "it runs, and its owner, 4711, is none of the processes here"),
        ("state = 10", "state 10 in the store is not known"),
        ("state = -1", "its state cannot be read"),
        ("state = 4, owner = 1", "it is succeeded, and has an owner, 1"),
        ("generation = -1", "its generation cannot be read"),
        ("crashes = 256", "its crashes cannot be read"),
    ] {
        let file = File::new();
        let (bad, good) = (task(0), task(1));
        file.insert(&[Arc::clone(&bad), Arc::clone(&good)]);
        file.edit(edit, &bad);
        while file.store.examine().unwrap() {}
        let told = file.told();
        assert_eq!(told.len(), 1, "{edit}: {told:?}");
        assert!(told[0].contains(says), "{edit}: {told:?}");
        assert_eq!(ids(&file.claim(9)), [good.id()]);
        // Nor does it change under anybody's hands.
        let before = format!("{:?}", told);
        assert_eq!(format!("{:?}", file.told()), before);
        Connection::open(file.path()).unwrap().execute("DELETE FROM tasks WHERE state <> 2", []).unwrap();
        while file.store.examine().unwrap() {}
        assert_eq!(file.told().len(), usize::from(edit.starts_with("state = 2")));
    }
}

#[test]
fn a_sound_file_has_nothing_to_tell() {
    let file = File::new();
    let tasks: Vec<_> = (0..5).map(task).collect();
    file.insert(&tasks);
    let claimed = file.claim(3);
    let cancel = Commit {
        task: Arc::clone(&claimed[0]),
        operation: Operation::Cancel { reason: None },
        spawn: Vec::new(),
    };
    file.store.commit(cancel, &mut Vec::new(), NOW).unwrap();
    while file.store.examine().unwrap() {}
    assert!(file.told().is_empty());
}

/// An id that is none cannot be named, but is in nobody's way either.
#[test]
fn an_id_that_is_none() {
    let file = File::new();
    let (bad, good) = (task(0), task(1));
    file.insert(&[Arc::clone(&bad), Arc::clone(&good)]);
    file.edit("id = x'00'", &bad);
    assert_eq!(file.claim(9).len(), 1);
    let told = file.told();
    assert!(told[0].starts_with("a row in ") && told[0].contains("the id of the one with seq 1"), "{told:?}");
}

#[test]
fn a_list_leaves_it_out() {
    for (edit, says) in EDITS {
        let file = File::new();
        let tagged = Options { tags: vec!["img".into()], ..Options::default() };
        let tasks: Vec<_> = (0..5).map(|number| task_of(number, "job", &tagged)).collect();
        file.insert(&tasks);
        file.edit(edit, &tasks[1]);
        let at = |places: &[usize]| places.iter().map(|place| tasks[*place].id()).collect::<Vec<_>>();
        let list =
            |filter: &Filter, residents: &dyn Residents| ids(&file.store.list(filter, residents).unwrap());
        // Whether somebody holds it or not, who knows what was asked for; and a page is as full as it can be, since one
        // that is not is the last.
        let live = Live::default();
        tasks.iter().for_each(|task| live.insert(task));
        let of_the_spec = edit.starts_with("priority") || edit.starts_with("rare");
        let held = (!of_the_spec).then_some(&live as &dyn Residents);
        for residents in [&Nobody as &dyn Residents].into_iter().chain(held) {
            let page = Filter { limit: 2, ..Filter::default() };
            assert_eq!(list(&page, residents), at(&[0, 2]), "{edit}");
            let next = Filter { after: Some(tasks[2].id()), ..page };
            assert_eq!(list(&next, residents), at(&[3, 4]), "{edit}");
        }
        assert!(file.told()[0].contains(says), "{edit}: {:?}", file.told());
        let by_tag = Filter { tag: Some("img".into()), ..Filter::default() };
        assert_eq!(list(&by_tag, &Nobody), at(&[0, 2, 3, 4]), "{edit}");
        file.edit("id = x'00'", &tasks[3]);
        assert_eq!(list(&Filter::default(), &Nobody), at(&[0, 2, 4]), "{edit}");
        assert_eq!(file.told().len(), 2, "{edit}");
    }
}

#[test]
fn the_counts_leave_it_out() {
    let file = File::new();
    let tasks: Vec<_> = (0..4).map(task).collect();
    file.insert(&tasks);
    file.edit("state = 10", &tasks[0]);
    file.edit("state = -1", &tasks[2]);
    let counts = file.store.counts().unwrap();
    assert_eq!((counts.get(State::Queued), counts.unfinished()), (2, 2));
    let told = file.told();
    assert_eq!(told.len(), 2);
    assert!(told[0].contains("state 10 in the store is not known"), "{told:?}");
}

/// A queue or a handler whose name is no text: nobody could ask for it, and a walk from name to name must get past it.
#[test]
fn a_name_that_is_no_text_is_left_out() {
    for edit in
        ["queue = cast(x'64ff' AS TEXT)", "name = cast(x'6aff' AS TEXT)", "queue = cast(x'ff00' AS TEXT)"]
    {
        let column = edit.split(' ').next().unwrap();
        for line in [None, Some("line".to_owned())] {
            let file = File::new();
            let in_line = Options { key: line, concurrency: None, ..Options::default() };
            let tasks: Vec<_> = (0..4).map(|number| task_of(number, "job", &in_line)).collect();
            file.insert(&tasks);
            file.edit(edit, &tasks[0]);
            file.edit(edit, &tasks[2]);
            // Asked for alone, and then with others, which are not held up.
            let mut claimed = ids(&file.claim(1));
            claimed.extend(ids(&file.claim(9)));
            assert_eq!(claimed, [tasks[1].id(), tasks[3].id()], "{edit}");
            let told = file.told();
            assert_eq!(told.len(), 2, "{edit}: {told:?}");
            assert!(told[0].starts_with(&format!("task {} in ", tasks[0].id())), "{told:?}");
            assert!(told[0].contains(&format!("its {column} is not text")), "{told:?}");
            assert!(file.claim(9).is_empty(), "nor later");
            assert_eq!(file.store.unserved().unwrap().len(), 0);
            let counts = file.store.queue_counts().unwrap();
            let counted = if column == "queue" { 2 } else { 4 };
            assert_eq!(counts.iter().map(|(_, counts)| counts.unfinished()).sum::<u64>(), counted, "{edit}");
        }
    }
}

/// Rows alone that nobody could claim are told of as well.
#[test]
fn names_that_are_no_text_are_told_of_where_there_is_nothing_else() {
    let file = File::new();
    let one = task(0);
    file.insert(&[Arc::clone(&one)]);
    file.edit("queue = cast(x'ff' AS TEXT)", &one);
    assert!(file.claim(9).is_empty());
    assert_eq!(file.told().len(), 1);
    assert!(file.store.queue_counts().unwrap().is_empty());
}

/// What waits for its key in a queue whose name is no text lets those behind it pass.
#[test]
fn a_line_goes_on_past_a_name_that_is_no_text() {
    let file = File::new();
    let one_at_a_time = Options { key: Some("line".into()), concurrency: Some(1), ..Options::default() };
    let tasks: Vec<_> = (0..4).map(|number| task_of(number, "job", &one_at_a_time)).collect();
    file.insert(&tasks);
    assert_eq!(tasks[1].state(), State::Pending);
    file.edit("queue = cast(x'00ff' AS TEXT)", &tasks[1]);
    let first = file.claim(9);
    assert_eq!(ids(&first), [tasks[0].id()]);
    let fence = Fence { owner: file.owner, attempt: 1 };
    let succeed = Operation::Succeed { fence, result: b"null".into(), metadata: None };
    let commit = Commit { task: Arc::clone(&first[0]), operation: succeed, spawn: Vec::new() };
    file.store.commit(commit, &mut Vec::new(), NOW).unwrap();
    assert_eq!(ids(&file.claim(9)), [tasks[2].id()]);
    assert!(file.told()[0].contains("its queue is not text"), "{:?}", file.told());
}

/// Nor does the name of a queue that somebody has paused.
#[test]
fn a_paused_queue_whose_name_is_no_text_stops_nobody() {
    let file = File::new();
    file.insert(&[task(0)]);
    let conn = Connection::open(file.path()).unwrap();
    conn.execute("INSERT INTO queues VALUES (cast(x'ff' AS TEXT), TRUE), ('other', TRUE)", []).unwrap();
    assert_eq!(file.store.paused().unwrap(), [Name::new("other")]);
    assert_eq!(file.claim(9).len(), 1);
}

/// Nor do the names of limits, and of gates whose time has come.
#[test]
fn limits_whose_names_are_no_text_stop_nobody() {
    let file = File::new();
    let conn = Connection::open(file.path()).unwrap();
    conn.execute_batch(
        "INSERT INTO limits VALUES ('', '', cast(x'ff' AS TEXT), FALSE, 1, NULL, NULL, NULL, 1),
             ('', cast(x'ff' AS TEXT), '', FALSE, 1, NULL, NULL, NULL, 2),
             (cast(x'ff' AS TEXT), '', '', FALSE, 1, NULL, NULL, NULL, 3),
             ('', 'default', '', TRUE, -1, NULL, NULL, NULL, 4),
             ('', 'default', '', FALSE, 3, NULL, NULL, NULL, 5);
         INSERT INTO gates VALUES (0, cast(x'ff' AS TEXT), 0, 0, 1), (2, cast(x'00ff' AS TEXT), 0, 0, 1),
             (7, 'default', 0, 0, 1);",
    )
    .unwrap();
    let later = Options { eta: Some(When::At(LATER)), ..Options::default() };
    file.insert(&[task(0), task_of(1, "job", &later)]);
    assert_eq!(file.store.limits().unwrap().len(), 1);
    let told = file.told();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.iter().any(|told| told.ends_with("a limit has the number -1")), "{told:?}");
    assert!(told[0].starts_with("a row in ") && told[0].contains("a limit names something that is not text"));
    assert_eq!(file.claim(9).len(), 1);
    let mut changes = Vec::new();
    let next = file.store.elapse(9, &Nobody, &mut changes, LATER).unwrap();
    assert_eq!((changes.len(), next), (1, None), "the time goes on");
    assert_eq!(file.claim(9).len(), 1);
}
