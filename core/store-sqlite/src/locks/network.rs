//! Refusing a file that is on another machine.
//!
//! SQLite's write-ahead log is coordinated through memory that all its users share, which a file system on the network
//! does not give them, and locks there are the server's affair. Asking the system what kind of file system it is opens
//! nothing: opening and closing the file itself would drop locks that others in this process hold on it.
#![allow(unsafe_code, reason = "statfs has no safe form")]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use taskloom_model::{Code, Error};

/// Fails if the file is, or would be, on a file system of another machine. What cannot be asked is let through: opening
/// the file will tell.
pub(super) fn refuse(path: &Path) -> Result<(), Error> {
    // A file that is still to be made will be where its folder is.
    kind(path).or_else(|| kind(path.parent()?)).map_or(Ok(()), |kind| judge(path, &kind))
}

fn judge(path: &Path, kind: &Kind) -> Result<(), Error> {
    match network(kind) {
        Some(network) => Err(Error::new(
            Code::StoreFailed,
            format!(
                "cannot open the SQLite store {}: it is on a network file system ({network})",
                path.display()
            ),
        )
        .hint("put the file on a local disk: its write-ahead log needs memory that all its users share")),
        None => Ok(()),
    }
}

fn statfs(path: &Path) -> Option<libc::statfs> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path is a C string, and the answer has room for one.
    let failed = unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) } != 0;
    // SAFETY: it was filled in, since the call succeeded.
    (!failed).then(|| unsafe { answer.assume_init() })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use super::*;

    /// A file system's number for what it is.
    pub(super) type Kind = u32;

    #[allow(clippy::unnecessary_cast, reason = "its type differs between processors and C libraries")]
    pub(super) fn kind(path: &Path) -> Option<Kind> {
        statfs(path).map(|answer| answer.f_type as u32)
    }

    /// Its name, if it is one of those that are on the network. FUSE and 9p are not here: they may be anything, and
    /// are mostly a folder of this machine in a container or a virtual one.
    pub(super) fn network(kind: &Kind) -> Option<&'static str> {
        Some(match *kind {
            0x0000_6969 => "NFS",
            0x0000_517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
            0x5346_414F | 0x6B41_4653 => "AFS",
            0x00C3_6400 => "Ceph",
            0x0BD0_0BD0 => "Lustre",
            0x1983_0326 => "BeeGFS",
            0x7375_7245 => "Coda",
            0x0000_564C => "NCP",
            _ => return None,
        })
    }
}
#[cfg(any(target_os = "linux", target_os = "android"))]
use linux::{Kind, kind, network};

#[cfg(target_vendor = "apple")]
mod apple {
    use std::ffi::CStr;

    use super::*;

    /// A file system's name, if it is not this machine's own.
    pub(super) type Kind = Option<String>;

    pub(super) fn kind(path: &Path) -> Option<Kind> {
        let answer = statfs(path)?;
        if answer.f_flags & libc::MNT_LOCAL as u32 != 0 {
            return Some(None);
        }
        // SAFETY: the system ends the name with a zero within the field.
        let name = unsafe { CStr::from_ptr(answer.f_fstypename.as_ptr()) };
        Some(Some(name.to_string_lossy().into_owned()))
    }

    pub(super) fn network(kind: &Kind) -> Option<&str> {
        kind.as_deref()
    }
}
#[cfg(target_vendor = "apple")]
use apple::{Kind, kind, network};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_own_are_let_through() {
        assert!(refuse(&std::env::temp_dir().join("not there yet")).is_ok());
        assert!(refuse(Path::new("/no/such/folder/tasks.db")).is_ok(), "that is told elsewhere");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn those_of_the_network_are_refused_by_name() {
        let path = Path::new("/net/tasks.db");
        for (kind, name) in [(0x6969, "NFS"), (0xFF53_4D42, "SMB"), (0xFE53_4D42, "SMB"), (0x517B, "SMB")] {
            let error = judge(path, &kind).unwrap_err();
            assert_eq!(error.code(), Code::StoreFailed);
            let says = format!(
                "cannot open the SQLite store {}: it is on a network file system ({name})",
                path.display()
            );
            assert_eq!(error.message(), says);
            assert!(error.hint_text().unwrap().contains("put the file on a local disk"));
        }
        for kind in [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0x6573_5546] {
            assert!(judge(path, &kind).is_ok(), "ext4, XFS, Btrfs, tmpfs, overlayfs, FUSE: {kind:x}");
        }
    }
}
