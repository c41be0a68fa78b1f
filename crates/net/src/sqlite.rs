//! What our SQLite files have in common: how they are opened, how their troubles are told.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Something is wrong with a file of ours: which one, what, and what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoreError {
    /// The file or directory at fault.
    pub path: PathBuf,
    /// The kind of trouble, to act on.
    pub trouble: Trouble,
    /// The system's own words.
    pub detail: String,
}

/// The kinds of trouble a file can give.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Trouble {
    /// No room, or a size limit reached.
    Full,
    /// We may not write there, or the path does not exist.
    Unwritable,
    /// Another process has it.
    Locked,
    /// It is not what we wrote, or damaged.
    Corrupt,
    /// A later version of this program wrote it.
    Newer,
    /// What the operator asked for does not fit what is in it.
    Conflict,
    /// The disk itself fails.
    Broken,
}

impl Trouble {
    fn cure(self) -> &'static str {
        match self {
            Trouble::Full => "make room on that disk, or raise the limit",
            Trouble::Unwritable => "create the directory and let the server's user write to it",
            Trouble::Locked => "stop the other process, or give this one a directory of its own",
            Trouble::Corrupt => "move the file away and restore a backup, or start without it",
            Trouble::Newer => "run the version that wrote it, or restore the copy made before the upgrade",
            Trouble::Conflict => "check the request",
            Trouble::Broken => "check the disk (dmesg) and the file system",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.trouble {
            Trouble::Full => "disk full",
            Trouble::Unwritable => "cannot be written",
            Trouble::Locked => "in use by another process",
            Trouble::Corrupt => "damaged, or not a file of ours",
            Trouble::Newer => "written by a later version",
            Trouble::Conflict => "not possible",
            Trouble::Broken => "cannot be read or written",
        };
        write!(f, "{}: {what} ({}); {}", self.path.display(), self.detail, self.trouble.cure())
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    pub(crate) fn new(path: &Path, trouble: Trouble, detail: impl fmt::Display) -> StoreError {
        StoreError { path: path.into(), trouble, detail: detail.to_string() }
    }

    pub(crate) fn io(path: &Path, why: &std::io::Error) -> StoreError {
        let trouble = match why.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Trouble::Full,
            std::io::ErrorKind::PermissionDenied
            | std::io::ErrorKind::NotFound
            | std::io::ErrorKind::NotADirectory
            | std::io::ErrorKind::AlreadyExists
            | std::io::ErrorKind::ReadOnlyFilesystem => Trouble::Unwritable,
            _ => Trouble::Broken,
        };
        StoreError::new(path, trouble, why)
    }

    pub(crate) fn sqlite(path: &Path, why: &rusqlite::Error) -> StoreError {
        let trouble = match why.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::TooBig) => Trouble::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Locked,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Trouble::Unwritable
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::SchemaChanged) => {
                Trouble::Corrupt
            }
            Some(ErrorCode::ConstraintViolation) => Trouble::Conflict,
            Some(ErrorCode::SystemIoFailure) => Trouble::Broken,
            // A missing table or column: somebody else's database.
            Some(_) | None => Trouble::Corrupt,
        };
        StoreError::new(path, trouble, why)
    }
}

/// Opens `path`, made if missing, with the tables of `schema` at version `version`.
pub(crate) fn open(
    path: &Path,
    schema: &str,
    version: i64,
    busy: Duration,
) -> Result<Connection, StoreError> {
    let told = |why: rusqlite::Error| StoreError::sqlite(path, &why);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|why| StoreError::io(parent, &why))?;
    }
    let connection = Connection::open(path).map_err(told)?;
    connection.busy_timeout(busy).map_err(told)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(told)?;
    if found > version {
        let detail = format!("its schema is version {found}, this program knows up to {version}");
        return Err(StoreError::new(path, Trouble::Newer, detail));
    }
    let verdict: String =
        connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(told)?;
    if verdict != "ok" {
        return Err(StoreError::new(path, Trouble::Corrupt, verdict));
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(told)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(told)?;
    if found < version {
        connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {schema} PRAGMA user_version = {version}; COMMIT;"))
            .map_err(told)?;
    }
    Ok(connection)
}

/// Opens `path` for looking only.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|why| StoreError::sqlite(path, &why))
}
