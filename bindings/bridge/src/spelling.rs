//! One store under several spellings of its URL.
//!
//! A file has one key, by whichever folders, dots and links it is named, and whether or not it is there yet: an engine that
//! opens it must not change under what name others find it. (Hard links are names of their own.)

use std::path::{Component, Path, PathBuf};

use taskloom::check_store_url;

/// The same store, whatever becomes of the working directory: a relative file is where it is now.
pub(crate) fn settled(url: &str) -> String {
    let is_fine = |url: &str| check_store_url(url, None).is_ok();
    let Some(rest) = url.strip_prefix("sqlite:").filter(|_| is_fine(url)) else { return url.to_owned() };
    let absolute = std::path::absolute(rest.strip_prefix("///").unwrap_or(rest)).ok();
    let settled = absolute.and_then(|path| path.to_str().map(|path| format!("sqlite:{path}")));
    settled.filter(|url| is_fine(url)).unwrap_or_else(|| url.to_owned())
}

/// By what the apps of one process that share a store find each other, however each has spelled its URL; nothing if it is
/// private to its app.
pub fn store_key(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once(':')?;
    match scheme {
        "memory" => (!rest.is_empty()).then(|| url.to_owned()),
        "sqlite" => {
            let path = real_path(Path::new(rest.strip_prefix("///").unwrap_or(rest)));
            Some(format!("sqlite:{}", path.display()))
        }
        _ => Some(url.to_owned()),
    }
}

/// As many links as this one after the other lead nowhere.
const MANY_LINKS: usize = 40;

/// The one path of a file that may not be there yet.
fn real_path(path: &Path) -> PathBuf {
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..MANY_LINKS {
        if let Ok(real) = path.canonicalize() {
            return real;
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { break };
        let folder = folder.canonicalize().unwrap_or_else(|_| without_dots(folder));
        let file = folder.join(name);
        match file.read_link() {
            // A link to a file that is not there yet.
            Ok(target) => path = folder.join(target),
            Err(_) => return file,
        }
    }
    without_dots(&path)
}

/// An absolute path without `..`, of folders that are not there.
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_file_stays_where_it_is() {
        let here = std::env::current_dir().unwrap();
        let at = |path: &str| format!("sqlite:{}", here.join(path).display());
        assert_eq!(settled("sqlite:a.db"), at("a.db"));
        assert_eq!(settled("sqlite:///deep/a.db"), at("deep/a.db"));
        let absolute = std::env::temp_dir().join("a.db");
        assert_eq!(settled(&at(&absolute.display().to_string())), format!("sqlite:{}", absolute.display()));
        for other in
            ["memory:", "memory:shared", "sqlite:", "sqlite://a.db", "sqllite:a.db", "sqlite:a.db?mode=ro"]
        {
            assert_eq!(settled(other), other, "it is as it was written");
        }
    }

    #[test]
    fn one_file_has_one_key() {
        let folder = std::env::temp_dir().join(format!("taskloom-key-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        let folder = folder.canonicalize().unwrap();
        let at = |path: &str| store_key(&format!("sqlite:{}/{path}", folder.display())).unwrap();
        let spellings = ["a.db", "./a.db", "deep/../a.db", "link.db", "deep/link.db", "linked/a.db"];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("a.db", folder.join("link.db")).unwrap();
            std::os::unix::fs::symlink("../link.db", folder.join("deep/link.db")).unwrap();
            std::os::unix::fs::symlink(&folder, folder.join("linked")).unwrap();
            std::os::unix::fs::symlink("circle.db", folder.join("circle.db")).unwrap();
        }
        let spellings = if cfg!(unix) { &spellings[..] } else { &spellings[..3] };
        let keys = || spellings.iter().map(|spelling| at(spelling)).collect::<Vec<_>>();
        let before = keys();
        assert!(before.iter().all(|key| *key == before[0]), "{before:?}");
        std::fs::write(folder.join("a.db"), "").unwrap();
        assert_eq!(keys(), before, "that the file is there makes no difference");
        assert_ne!(at("b.db"), before[0]);
        // What leads nowhere, and what is not there, have keys all the same.
        assert_eq!(at("circle.db"), at("deep/../circle.db"));
        assert_eq!(at("none/x/../a.db"), at("none/a.db"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
