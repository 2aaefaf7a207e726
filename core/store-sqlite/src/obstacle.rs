//! Why there can be no store at a path: what SQLite would only call "unable to open database file", or "attempt to write a
//! readonly database".

use std::path::Path;

/// What is wrong, and what to do about it: both go on after the path has been named.
pub(crate) struct Obstacle {
    pub(crate) why: String,
    pub(crate) hint: String,
}

/// What stands in the way of a store at this path, as far as that can be told without touching it.
pub(crate) fn at(path: &Path) -> Option<Obstacle> {
    let shown = path.display();
    if path.is_dir() || shown.to_string().ends_with(std::path::is_separator) {
        let file = path.join("tasks.db");
        return Some(Obstacle {
            why: "it is a directory".into(),
            hint: format!("name a file in it, such as sqlite:{}", file.display()),
        });
    }
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        // To open a pipe would wait for whoever writes into it.
        return Some(Obstacle {
            why: "it is no file, but a pipe, a socket or a device".into(),
            hint: "name a file of the store's own".into(),
        });
    }
    let directory = path.parent()?;
    if !directory.is_dir() {
        return Some(Obstacle {
            why: format!("{} is not a directory", directory.display()),
            hint: "make the directory first, or name a file in one that exists".into(),
        });
    }
    is_read_only(directory).then(|| read_only(directory))
}

fn read_only(directory: &Path) -> Obstacle {
    Obstacle {
        why: format!("{} is on a file system that is mounted read-only", directory.display()),
        hint: "a store is written by everybody who opens it: name a file on a file system that can be written (in a \
               container, on a volume), or mount this one for writing"
            .into(),
    }
}

#[cfg(unix)]
fn is_read_only(directory: &Path) -> bool {
    rustix::fs::statvfs(directory)
        .is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

#[cfg(not(unix))]
fn is_read_only(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        for path in [folder.path().to_owned(), format!("{}/", inner.display()).into()] {
            let obstacle = at(&path).unwrap();
            assert_eq!(obstacle.why, "it is a directory");
            assert!(obstacle.hint.ends_with("/tasks.db"), "{}", obstacle.hint);
        }
        let obstacle = at(&inner.join("tasks.db")).unwrap();
        assert_eq!(obstacle.why, format!("{} is not a directory", inner.display()));
        assert!(at(&inner).is_none(), "there can be one");
    }

    #[test]
    #[cfg(unix)]
    fn nor_is_a_pipe_a_socket_or_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&socket, &pipe, Path::new("/dev/null")] {
            let obstacle = at(path).unwrap();
            assert_eq!(obstacle.why, "it is no file, but a pipe, a socket or a device", "{path:?}");
        }
        // One that a link leads to is a file.
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(at(&link).is_none() && at(&file).is_none());
    }

    /// The directories of this machine that are mounted read-only.
    #[cfg(target_os = "linux")]
    fn mounted_read_only() -> Vec<std::path::PathBuf> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let read_only = fields.filter(|fields| fields[3].split(',').any(|option| option == "ro"));
        read_only.map(|fields| fields[1].into()).filter(|path: &std::path::PathBuf| path.is_dir()).collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_read_only_file_system_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_read_only(folder.path()));
        for directory in mounted_read_only() {
            let obstacle = at(&directory.join("tasks.db")).unwrap();
            assert_eq!(
                obstacle.why,
                format!("{} is on a file system that is mounted read-only", directory.display())
            );
        }
        assert!(read_only(folder.path()).hint.contains("mount this one for writing"));
    }
}
