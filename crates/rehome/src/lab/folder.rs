//! The lab's folder: everything it writes, in one place that may be deleted at any time.
//!
//! | file | what |
//! | --- | --- |
//! | `ca.pem` | the authority to believe; new at every start |
//! | `topology.toml` | what is being run |
//! | `directory.sqlite` | the users; `rehome user … --directory` changes them while the lab runs |
//! | `data/SERVER/` | each server's store, emptied at every start |
//! | `lock` | held while a lab runs; says which process |

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The authority's certificate.
pub(crate) const AUTHORITY: &str = "ca.pem";

/// Held while a lab runs.
const LOCK: &str = "lock";

/// Where Rehome keeps what it remembers: `$XDG_STATE_HOME/rehome`, or `~/.local/state/rehome`.
pub(crate) fn state() -> anyhow::Result<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let state = named("XDG_STATE_HOME").or_else(|| named("HOME").map(|home| home.join(".local/state")));
    Ok(state.context("neither $XDG_STATE_HOME nor $HOME says where to keep files; say --dir")?.join("rehome"))
}

/// The folder of a lab that was not given one.
pub(crate) fn default_path() -> anyhow::Result<PathBuf> {
    Ok(state()?.join("lab"))
}

/// Whether a lab is running in this folder.
pub(crate) fn is_in_use(path: &Path) -> bool {
    let Ok(lock) = File::open(path.join(LOCK)) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// A running lab's folder. The lock goes when it is dropped, also by a crash.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder for this process.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Folder> {
        let told = || format!("the lab's folder {} cannot be used; `--dir` takes another", path.display());
        std::fs::create_dir_all(path).with_context(told)?;
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .with_context(told)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // A lab that is only just starting has not written it yet.
                let _ = lock.read_to_string(&mut holder);
                bail!(
                    "a lab is already running in {} (process {}); end it with Ctrl-C in its terminal, or `kill -INT {}`",
                    path.display(),
                    holder.trim(),
                    holder.trim()
                );
            }
            Err(TryLockError::Error(why)) => return Err(why).with_context(told),
        }
        lock.set_len(0).with_context(told)?;
        writeln!(lock, "{}", std::process::id()).with_context(told)?;
        let absolute = std::path::absolute(path).with_context(told)?;
        Ok(Folder { path: absolute, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path.join(AUTHORITY)
    }

    /// The user directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.path.join("directory.sqlite")
    }

    /// The servers' stores.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Forgets the registrations of the last run: a lab begins as its screen says.
    pub(crate) fn clear_data(&self) -> anyhow::Result<()> {
        match std::fs::remove_dir_all(self.data()) {
            Err(why) if why.kind() != ErrorKind::NotFound => {
                Err(why).with_context(|| format!("{} cannot be emptied", self.data().display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes one file of it.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lab_is_told_who_runs_the_first() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_in_use(dir.path()));
        let first = Folder::open(dir.path()).unwrap();
        assert!(is_in_use(dir.path()));
        let Err(why) = Folder::open(dir.path()) else { panic!("two labs in one folder") };
        let told =
            format!("a lab is already running in {} (process {})", dir.path().display(), std::process::id());
        assert!(why.to_string().starts_with(&told), "{why}");
        drop(first);
        assert!(!is_in_use(dir.path()));
        assert!(Folder::open(dir.path()).is_ok());
    }
}
