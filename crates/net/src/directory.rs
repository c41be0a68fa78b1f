//! The user directory as a file: who the users are, where each is homed.
//!
//! Written by the operator's commands, read by servers, which follow it with [`Watch`]. Every change
//! raises the version in the same transaction, so that a server never takes an older directory for a
//! newer one. Passwords are hashed on the way in (HA1, RFC 7616 §3.4.2) and kept nowhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use resilience::topology::PoolName;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use server::directory::{Directory, User};
use sip::digest::{Algorithm, Ha1};
use sip::uri::AddressOfRecord;

use crate::sqlite::{self, StoreError, Trouble};

const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT NOT NULL UNIQUE, value INTEGER NOT NULL);
    INSERT INTO meta VALUES ('version', 0);
    CREATE TABLE users (
        aor        TEXT    NOT NULL UNIQUE,  -- sip:alice@example.test
        home       TEXT    NOT NULL,         -- pool
        enabled    INTEGER NOT NULL,
        number     TEXT,                     -- E.164
        ha1_md5    TEXT    NOT NULL,         -- as good as the password: keep this file private
        ha1_sha256 TEXT    NOT NULL
    );
";

/// An open user directory.
pub struct DirectoryFile {
    path: PathBuf,
    connection: Connection,
}

impl DirectoryFile {
    /// Opens `path`, made if missing.
    pub fn open(path: &Path) -> Result<DirectoryFile, StoreError> {
        let is_new = !path.exists();
        let connection = sqlite::open(path, SCHEMA, SCHEMA_VERSION, Duration::from_secs(5))?;
        if is_new {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
                .map_err(|why| StoreError::io(path, &why))?;
        }
        Ok(DirectoryFile { path: path.into(), connection })
    }

    /// Adds an enabled user; refused if they exist.
    pub fn add(
        &mut self,
        aor: &AddressOfRecord,
        home: &PoolName,
        realm: &str,
        password: &str,
        number: Option<&str>,
    ) -> Result<(), StoreError> {
        let [md5, sha256] = hashes(aor, realm, password);
        self.change(aor, |transaction| {
            let known = "SELECT 1 FROM users WHERE aor = ?";
            if transaction.query_row(known, [aor.to_string()], |_| Ok(())).optional()?.is_some() {
                return Ok(Some("exists already"));
            }
            let row = (aor.to_string(), home.to_string(), true, number, md5.to_hex(), sha256.to_hex());
            transaction.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)", row)?;
            Ok(None)
        })
    }

    /// Adds or replaces many users in one transaction: a lab, a benchmark, an import.
    pub fn put_all<'u>(
        &mut self,
        users: impl IntoIterator<Item = (&'u AddressOfRecord, &'u User)>,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let told = |why: rusqlite::Error| StoreError::sqlite(&path, &why);
        let transaction = self.connection.transaction().map_err(told)?;
        for (aor, user) in users {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?, ?, ?)")
                .and_then(|mut insert| {
                    insert.execute((
                        aor.to_string(),
                        user.home.to_string(),
                        user.enabled,
                        &user.number,
                        user.ha1_md5.to_hex(),
                        user.ha1_sha256.to_hex(),
                    ))
                })
                .map_err(told)?;
        }
        raise_version(&transaction).and_then(|()| transaction.commit()).map_err(told)
    }

    /// Homes the user on another pool.
    pub fn move_to(&mut self, aor: &AddressOfRecord, home: &PoolName) -> Result<(), StoreError> {
        self.update(aor, "UPDATE users SET home = ?2 WHERE aor = ?1", home.to_string())
    }

    /// Lets the user sign in, or not.
    pub fn set_enabled(&mut self, aor: &AddressOfRecord, enabled: bool) -> Result<(), StoreError> {
        self.update(aor, "UPDATE users SET enabled = ?2 WHERE aor = ?1", enabled)
    }

    /// Gives the user a telephone number, or none.
    pub fn set_number(&mut self, aor: &AddressOfRecord, number: Option<&str>) -> Result<(), StoreError> {
        self.update(aor, "UPDATE users SET number = ?2 WHERE aor = ?1", number)
    }

    /// Gives the user a new password.
    pub fn set_password(
        &mut self,
        aor: &AddressOfRecord,
        realm: &str,
        password: &str,
    ) -> Result<(), StoreError> {
        let [md5, sha256] = hashes(aor, realm, password);
        self.change(aor, |transaction| {
            let row = (aor.to_string(), md5.to_hex(), sha256.to_hex());
            let set = "UPDATE users SET ha1_md5 = ?2, ha1_sha256 = ?3 WHERE aor = ?1";
            Ok((transaction.execute(set, row)? == 0).then_some("no such user"))
        })
    }

    /// Forgets the user.
    pub fn remove(&mut self, aor: &AddressOfRecord) -> Result<(), StoreError> {
        self.change(aor, |transaction| {
            let gone = transaction.execute("DELETE FROM users WHERE aor = ?", [aor.to_string()])?;
            Ok((gone == 0).then_some("no such user"))
        })
    }

    /// One user.
    pub fn user(&self, aor: &AddressOfRecord) -> Result<Option<User>, StoreError> {
        let found = self
            .connection
            .query_row("SELECT * FROM users WHERE aor = ?", [aor.to_string()], read_user)
            .optional()
            .map_err(|why| StoreError::sqlite(&self.path, &why))?;
        Ok(found.flatten().map(|(_, user)| user))
    }

    /// The whole directory, at its version: what a server is given.
    pub fn load(&mut self) -> Result<Directory, StoreError> {
        let path = self.path.clone();
        let told = |why: rusqlite::Error| StoreError::sqlite(&path, &why);
        // One transaction, so that version and users belong together.
        let transaction = self.connection.transaction().map_err(told)?;
        let version = version(&transaction).map_err(told)?;
        let mut statement = transaction.prepare("SELECT * FROM users ORDER BY aor").map_err(told)?;
        let rows = statement.query_map((), read_user).map_err(told)?;
        let users = rows.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(told)?;
        Ok(Directory { version, users })
    }

    /// How often it has been changed.
    pub fn version(&self) -> Result<u64, StoreError> {
        version(&self.connection).map_err(|why| StoreError::sqlite(&self.path, &why))
    }

    fn update(
        &mut self,
        aor: &AddressOfRecord,
        statement: &str,
        value: impl rusqlite::ToSql,
    ) -> Result<(), StoreError> {
        self.change(aor, |transaction| {
            let changed = transaction.execute(statement, (aor.to_string(), value))?;
            Ok((changed == 0).then_some("no such user"))
        })
    }

    /// One change with its version, or neither; `change` may object.
    fn change(
        &mut self,
        aor: &AddressOfRecord,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Option<&'static str>>,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let told = |why: rusqlite::Error| StoreError::sqlite(&path, &why);
        let immediate = rusqlite::TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(immediate).map_err(told)?;
        if let Some(objection) = change(&transaction).map_err(told)? {
            return Err(StoreError::new(&path, Trouble::Conflict, format!("{aor}: {objection}")));
        }
        raise_version(&transaction).and_then(|()| transaction.commit()).map_err(told)
    }
}

fn hashes(aor: &AddressOfRecord, realm: &str, password: &str) -> [Ha1; 2] {
    [Algorithm::Md5, Algorithm::Sha256].map(|algorithm| Ha1::of(algorithm, aor.user(), realm, password))
}

fn version(connection: &Connection) -> rusqlite::Result<u64> {
    let version: i64 =
        connection.query_row("SELECT value FROM meta WHERE name = 'version'", (), |row| row.get(0))?;
    Ok(version as u64)
}

fn raise_version(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("UPDATE meta SET value = value + 1 WHERE name = 'version'", ()).map(drop)
}

/// One row; `None` if somebody's editing by hand left it without meaning.
fn read_user(row: &Row<'_>) -> rusqlite::Result<Option<(AddressOfRecord, User)>> {
    let aor: String = row.get("aor")?;
    let home: String = row.get("home")?;
    let (md5, sha256): (String, String) = (row.get("ha1_md5")?, row.get("ha1_sha256")?);
    let enabled = row.get("enabled")?;
    let number = row.get("number")?;
    let (Ok(aor), Some(ha1_md5), Some(ha1_sha256)) =
        (aor.parse(), Ha1::from_hex(Algorithm::Md5, &md5), Ha1::from_hex(Algorithm::Sha256, &sha256))
    else {
        tracing::warn!(%aor, "the user directory has a row that makes no sense; skipped");
        return Ok(None);
    };
    Ok(Some((aor, User { home: home.as_str().into(), enabled, number, ha1_md5, ha1_sha256 })))
}

//------------ Watch ---------------------------------------------------------

/// Notices that another process has changed the directory. Costs one small read per question.
pub struct Watch {
    file: DirectoryFile,
    seen: u64,
}

impl Watch {
    /// Watches `path` from the version `seen` on.
    pub fn new(path: &Path, seen: u64) -> Result<Watch, StoreError> {
        Ok(Watch { file: DirectoryFile::open(path)?, seen })
    }

    /// The directory, if it has changed since it was last given.
    pub fn poll(&mut self) -> Result<Option<Directory>, StoreError> {
        if self.file.version()? == self.seen {
            return Ok(None);
        }
        let directory = self.file.load()?;
        self.seen = directory.version;
        Ok(Some(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aor(text: &str) -> AddressOfRecord {
        text.parse().unwrap()
    }

    #[test]
    fn every_change_is_seen_by_a_watcher_and_no_password_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        let mut file = DirectoryFile::open(&path).unwrap();
        let mut watch = Watch::new(&path, 0).unwrap();
        assert_eq!(watch.poll().unwrap(), None);

        let alice = aor("sip:alice@example.test");
        file.add(&alice, &"fe1.example.test".into(), "example.test", "sesame-open", Some("+49891")).unwrap();
        let seen = watch.poll().unwrap().unwrap();
        assert_eq!(seen.version, 1);
        assert_eq!(
            seen.user(&alice).unwrap().ha1_md5,
            Ha1::of(Algorithm::Md5, "alice", "example.test", "sesame-open")
        );
        assert_eq!(watch.poll().unwrap(), None);

        let twice = file.add(&alice, &"fe1.example.test".into(), "example.test", "x", None).unwrap_err();
        assert_eq!(twice.trouble, Trouble::Conflict);
        file.move_to(&alice, &"fe2.example.test".into()).unwrap();
        file.set_enabled(&alice, false).unwrap();
        let seen = watch.poll().unwrap().unwrap();
        assert_eq!((seen.version, seen.users[&alice].enabled), (3, false));
        assert_eq!(seen.users[&alice].home, "fe2.example.test");
        assert!(file.move_to(&aor("sip:bob@example.test"), &"fe2.example.test".into()).is_err());
        assert_eq!(file.version().unwrap(), 3);

        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(11).any(|window| window == b"sesame-open"));
        }
    }

    #[test]
    fn a_file_that_is_no_directory_is_named_with_its_trouble() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        std::fs::write(
            &path,
            "this is a text file, and long enough to be looked at by SQLite as a header ".repeat(9),
        )
        .unwrap();
        let why = DirectoryFile::open(&path).err().unwrap();
        assert_eq!((why.trouble, &why.path), (Trouble::Corrupt, &path), "{why}");

        let newer = dir.path().join("newer.db");
        rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert_eq!(DirectoryFile::open(&newer).err().unwrap().trouble, Trouble::Newer);
    }
}
