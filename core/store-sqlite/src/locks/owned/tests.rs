//! What the hooks decide, and what the store's opener says.
use std::fs::{File, OpenOptions};
use std::io::Error;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::path::Path;

use taskloom_model::Code;

use super::system;
use super::table::{Route, Table, id};

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// As SQLite does it, by way of the hooks.
fn opened(table: &mut Table, path: &Path) -> RawFd {
    let fd = open(path).into_raw_fd();
    table.opened(fd);
    fd
}

fn owner(table: &mut Table, fd: RawFd) -> RawFd {
    match table.route(fd) {
        Route::Owner(owner) => owner,
        other => panic!("{other:?}"),
    }
}

/// Locks as somebody else would, on a description of its own.
fn is_free(other: &File) -> bool {
    let free = system::lock_whole(other.as_raw_fd());
    system::unlock_whole(other.as_raw_fd());
    free
}

#[test]
fn one_description_owns_the_locks_of_all_descriptors_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut table = Table::new(system::probe);
    let (first, second) = (opened(&mut table, &path), opened(&mut table, &path));
    let locks = owner(&mut table, first);
    assert_eq!(owner(&mut table, second), locks);
    let elsewhere = opened(&mut table, &folder.path().join("b"));
    assert_ne!(owner(&mut table, elsewhere), locks);
    assert!(system::lock_whole(locks));
    let other = open(&path);
    table.close(first);
    assert!(!is_free(&other), "the locks stay as long as SQLite has the file open");
    table.close(second);
    assert!(is_free(&other), "and not longer");
    table.close(elsewhere);
    assert!(table.is_empty());
}

#[test]
fn a_descriptor_that_was_not_opened_here_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = open(&folder.path().join("a"));
    assert!(matches!(Table::new(system::probe).route(file.as_raw_fd()), Route::Untouched));
}

#[test]
fn a_file_that_others_have_locked_is_closed_when_they_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut table = Table::new(system::probe);
    let other = open(&path);
    assert!(system::lock_whole(other.as_raw_fd()));
    let fd = opened(&mut table, &path);
    owner(&mut table, fd);
    for _ in 0..3 {
        table.close(fd);
        assert!(!table.is_empty(), "closing it would drop their locks, if they are of this process");
        let id = id(&other.metadata().unwrap());
        assert!(!table.guards(id));
        assert_eq!(table.reopen(id, libc::O_RDONLY), None, "it may write");
        assert_eq!(table.reopen(id, libc::O_RDWR), Some(fd));
        assert_eq!(table.reopen(id, libc::O_RDWR), None, "it is in use again");
        assert!(table.guards(id));
    }
    table.close(fd);
    system::unlock_whole(other.as_raw_fd());
    let any = opened(&mut table, &folder.path().join("b"));
    table.close(any);
    assert!(table.is_empty());
}

#[test]
fn a_file_without_a_name_is_closed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut table = Table::new(system::probe);
    let other = open(&path);
    assert!(system::lock_whole(other.as_raw_fd()));
    let fd = opened(&mut table, &path);
    std::fs::remove_file(&path).unwrap();
    table.close(fd);
    assert!(table.is_empty());
}

#[test]
fn a_descriptor_that_may_only_read_is_closed_while_nobody_holds_anything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut table = Table::new(system::probe);
    let other = open(&path);
    for held in [true, false] {
        if held {
            assert!(system::lock_whole(other.as_raw_fd()));
        } else {
            system::unlock_whole(other.as_raw_fd());
        }
        let fd = File::open(&path).unwrap().into_raw_fd();
        table.opened(fd);
        table.close(fd);
        assert_eq!(table.is_empty(), !held);
    }
}

#[test]
fn a_forked_child_has_no_locks_and_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut table = Table::new(system::probe);
    let fd = opened(&mut table, &path);
    let locks = owner(&mut table, fd);
    let cut = std::cell::RefCell::new(Vec::new());
    table.disinherit(|fd| cut.borrow_mut().push(fd));
    assert_eq!(cut.into_inner(), [fd, locks]);
    assert!(matches!(table.route(fd), Route::Inherited));
    table.disinherit(|fd| panic!("a child of the child: {fd} may have been closed, and opened by anybody"));
    table.close(fd);
    assert!(matches!(table.route(fd), Route::Untouched), "its number may be anybody's now");
    system::close(locks);
}

/// What file systems answer that do not have them.
#[test]
fn a_file_system_without_such_locks_is_refused_and_not_locked_otherwise() {
    fn refuse(_: RawFd) -> Result<(), Error> {
        Err(Error::from_raw_os_error(libc::EINVAL))
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut table = Table::new(refuse);
    let fd = opened(&mut table, &path);
    for _ in 0..2 {
        let Route::Refused(cause) = table.route(fd) else { panic!("it must not be locked") };
        let error = super::refused(&path, cause);
        assert_eq!(error.code(), Code::StoreFailed);
        assert!(
            error.message().starts_with(&format!("cannot open the SQLite store {}: its", path.display()))
        );
        assert!(error.message().contains("open-file-description locks (Invalid argument"), "{error}");
        assert!(error.hint_text().unwrap().contains("local disk"));
    }
    assert!(!table.guards(id(&open(&path).metadata().unwrap())));
    table.close(fd);
    assert!(table.is_empty());
}

#[test]
fn a_file_of_this_program_that_sqlite_opened_before_the_hooks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let _ = open(&path);
    let error = super::check(&path).unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.message().ends_with("this program already had it open in SQLite"), "{error}");
    assert!(super::check(&folder.path().join("gone")).is_ok());
}
