//! The embedded store: what must survive a restart, in one SQLite file with one writer.
//!
//! ```text
//!   shards ──persist──► pending (newest change per binding wins) ──writer thread──► one transaction
//!                                                                       │
//!                       ticket n committed, failed, recovered  ◄────────┘
//! ```
//!
//! [`Durability`] says how long a change may wait: write-behind gathers for a second, so a refresh storm
//! costs one transaction; strict writes at once and the world holds back what depends on it. While the
//! disk refuses, changes stay in memory and are tried again until it takes them: nothing is lost as long
//! as the process lives.
//!
//! The file is for people too: `sqlite3 store.db 'select aor, contact from bindings'` works while the
//! server runs. Expiry stands there as wall time, because a monotonic clock does not survive a restart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row, named_params};
use server::output::{BindingRecord, Change, DeRegister, RegistrationRecord};
use sip::uri::AddressOfRecord;

use crate::clock;
use crate::sqlite::{self, StoreError, Trouble};

const SCHEMA_VERSION: i64 = 1;

/// Rowid tables with a unique index: three to six times faster here than WITHOUT ROWID.
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
    INSERT INTO meta VALUES ('schema', '1'), ('about', 'Rehome: bindings and registration records of one server');
    CREATE TABLE bindings (
        aor        TEXT    NOT NULL,  -- sip:alice@example.test
        key        TEXT    NOT NULL,  -- what makes it the same device
        contact    TEXT    NOT NULL,
        call_id    TEXT    NOT NULL,
        cseq       INTEGER NOT NULL,
        q          INTEGER NOT NULL,  -- thousandths
        expires_at INTEGER NOT NULL,  -- milliseconds since 1970
        path       TEXT    NOT NULL,  -- JSON array, in order
        flow       TEXT    NOT NULL,
        user_agent TEXT,
        instance   TEXT,
        reg_id     INTEGER,
        dialect    TEXT    NOT NULL
    );
    CREATE UNIQUE INDEX bindings_by_device ON bindings (aor, key);
    CREATE TABLE registration_records (
        aor             TEXT    NOT NULL,
        key             TEXT    NOT NULL,
        server          TEXT    NOT NULL,
        pool            TEXT    NOT NULL,
        is_primary      INTEGER NOT NULL,
        user_services   INTEGER NOT NULL,
        registered_at   INTEGER NOT NULL,  -- seconds since 1970
        ended_at        INTEGER NOT NULL,
        deregister_type INTEGER NOT NULL,  -- 0 unknown, 1 client, 2 expired, 3 crashed, 4 attributes, 5 registrar changed, 6 legacy
        remote          TEXT,
        status          INTEGER NOT NULL,
        diagnostic      INTEGER
    );
    CREATE INDEX registration_records_by_user ON registration_records (aor, ended_at);
";

const UPSERT: &str = "
    INSERT INTO bindings VALUES (:aor, :key, :contact, :call_id, :cseq, :q, :expires_at, :path, :flow, :user_agent,
        :instance, :reg_id, :dialect)
    ON CONFLICT (aor, key) DO UPDATE SET contact = :contact, call_id = :call_id, cseq = :cseq, q = :q,
        expires_at = :expires_at, path = :path, flow = :flow, user_agent = :user_agent, instance = :instance,
        reg_id = :reg_id, dialect = :dialect";

/// How long the writer leaves a disk alone that refused.
const RETRY: Duration = Duration::from_secs(1);

/// How safe a change is when the client gets its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// On disk before the answer.
    Strict,
    /// On disk this much later, at the latest.
    WriteBehind(Duration),
    /// Never on disk: a restart begins with nothing.
    None,
}

impl Default for Durability {
    fn default() -> Durability {
        Durability::WriteBehind(Duration::from_secs(1))
    }
}

/// What the writer tells its owner, from its own thread.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum News {
    /// Every change up to this ticket is on disk.
    Committed(u64),
    /// The disk refuses; changes are kept in memory and tried again.
    Failed(StoreError),
    /// The disk took everything again.
    Recovered,
}

/// One server's store. Cheap to clone.
#[derive(Clone)]
pub struct Disk(Arc<Inner>);

struct Inner {
    durability: Durability,
    /// Highest ticket on disk.
    committed: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    pending: Pending,
    /// Highest ticket handed out.
    accepted: u64,
    /// When the oldest pending change came.
    since: Option<Instant>,
    /// Write now, whatever the durability says.
    hurry: bool,
    ending: Option<Ending>,
    /// A new size limit that the writer has not set yet.
    size_limit: Option<u64>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Ending {
    /// Write what there is, then end.
    Orderly,
    /// End as if killed.
    Abrupt,
}

/// Changes not on disk yet.
#[derive(Default)]
struct Pending {
    /// The last word on each binding, with its expiry as wall time in milliseconds; `None`: gone.
    bindings: BTreeMap<(AddressOfRecord, String), Option<(BindingRecord, u64)>>,
    records: Vec<RegistrationRecord>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.records.is_empty()
    }

    fn add(&mut self, change: Change) {
        match change {
            Change::Binding(binding) => {
                let expires_at = (clock::unix() + binding.expires_in).as_millis() as u64;
                self.bindings.insert((binding.aor.clone(), binding.key.clone()), Some((binding, expires_at)));
            }
            Change::Unbound { aor, key } => {
                self.bindings.insert((aor, key), None);
            }
            Change::Record(record) => self.records.push(record),
        }
    }

    /// Puts an older batch, which could not be written, under what has come since.
    fn put_under(&mut self, mut older: Pending) {
        for (device, last_word) in older.bindings {
            self.bindings.entry(device).or_insert(last_word);
        }
        older.records.append(&mut self.records);
        self.records = older.records;
    }
}

impl Disk {
    /// Opens the store in `directory` and gives back what was in it and still holds.
    pub fn open(
        directory: &Path,
        durability: Durability,
        news: impl Fn(News) + Send + 'static,
    ) -> Result<(Disk, Vec<Change>), StoreError> {
        let inner = Arc::new(Inner {
            durability,
            committed: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
            writer: Mutex::default(),
        });
        let disk = Disk(inner.clone());
        if durability == Durability::None {
            return Ok((disk, Vec::new()));
        }
        std::fs::create_dir_all(directory).map_err(|why| StoreError::io(directory, &why))?;
        let lock = Lock::take(directory)?;
        let path = store_path(directory);
        let connection = sqlite::open(&path, SCHEMA, SCHEMA_VERSION, Duration::from_millis(500))?;
        let restored = restore(&connection).map_err(|why| StoreError::sqlite(&path, &why))?;
        let writer = Writer { inner, connection, path, news: Box::new(news), has_failed: false, _lock: lock };
        let thread = std::thread::Builder::new()
            .name("disk".into())
            .spawn(move || writer.run())
            .map_err(|why| StoreError::io(directory, &why))?;
        *lock_of(&disk.0.writer) = Some(thread);
        Ok((disk, restored))
    }

    /// How safe a change is when the client gets its answer.
    pub fn durability(&self) -> Durability {
        self.0.durability
    }

    /// Takes changes, in order, and gives the ticket of the last one.
    pub fn persist(&self, changes: impl IntoIterator<Item = Change>) -> u64 {
        let mut state = self.state();
        for change in changes {
            state.accepted += 1;
            if self.0.durability != Durability::None {
                state.pending.add(change);
            }
        }
        if self.0.durability == Durability::None {
            self.0.committed.store(state.accepted, Ordering::Release);
        } else if state.since.is_none() && !state.pending.is_empty() {
            state.since = Some(clock::now());
            self.0.changed.notify_all();
        }
        state.accepted
    }

    /// Highest ticket that is on disk.
    pub fn committed(&self) -> u64 {
        self.0.committed.load(Ordering::Acquire)
    }

    /// Changes that are in memory only.
    pub fn unsaved(&self) -> usize {
        let state = self.state();
        state.pending.bindings.len() + state.pending.records.len()
    }

    /// Writes now, without waiting for the write-behind interval.
    pub fn hurry(&self) {
        self.state().hurry = true;
        self.0.changed.notify_all();
    }

    /// Lets the store grow to this many bytes and no further. An operator's quota; what does not fit is
    /// treated as a full disk.
    pub fn set_size_limit(&self, bytes: u64) {
        self.state().size_limit = Some(bytes);
        self.hurry();
    }

    /// Writes what is pending and closes the file. Gives the number of changes that could not be saved.
    pub fn close(&self) -> usize {
        self.end(Ending::Orderly);
        self.unsaved()
    }

    /// Ends as a killed process does: what is pending is lost.
    pub fn abandon(&self) {
        self.end(Ending::Abrupt);
    }

    fn end(&self, how: Ending) {
        self.state().ending.get_or_insert(how);
        self.0.changed.notify_all();
        let writer = lock_of(&self.0.writer).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock_of(&self.0.state)
    }
}

fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single step; a panic elsewhere leaves them whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the store of a server with this data directory is.
pub fn store_path(directory: &Path) -> PathBuf {
    directory.join("store.db")
}

/// The last `limit` registration records of a user, newest first; also while the server runs.
pub fn records_of(
    directory: &Path,
    aor: &AddressOfRecord,
    limit: u32,
) -> Result<Vec<RegistrationRecord>, StoreError> {
    let path = store_path(directory);
    let told = |why: rusqlite::Error| StoreError::sqlite(&path, &why);
    let connection = sqlite::open_to_read(&path)?;
    let mut statement = connection
        .prepare(
            "SELECT * FROM registration_records WHERE aor = ? ORDER BY ended_at DESC, rowid DESC LIMIT ?",
        )
        .map_err(told)?;
    let rows = statement.query_map((aor.to_string(), limit), |row| read_record(aor, row)).map_err(told)?;
    rows.collect::<Result<_, _>>().map_err(told)
}

//------------ Writer --------------------------------------------------------

struct Writer {
    inner: Arc<Inner>,
    connection: Connection,
    path: PathBuf,
    news: Box<dyn Fn(News) + Send>,
    /// The last attempt failed, and the owner knows.
    has_failed: bool,
    _lock: Lock,
}

impl Writer {
    fn run(mut self) {
        while let Some((batch, ticket, ending)) = self.next_batch() {
            match write(&mut self.connection, &batch) {
                Ok(()) => {
                    self.inner.committed.store(ticket, Ordering::Release);
                    if std::mem::take(&mut self.has_failed) {
                        (self.news)(News::Recovered);
                    }
                    (self.news)(News::Committed(ticket));
                }
                Err(why) => {
                    self.put_back(batch);
                    if !std::mem::replace(&mut self.has_failed, true) {
                        (self.news)(News::Failed(StoreError::sqlite(&self.path, &why)));
                    }
                }
            }
            if ending {
                return;
            }
        }
    }

    /// Waits until something should be written. The last batch says so; `None`: end without another.
    fn next_batch(&mut self) -> Option<(Pending, u64, bool)> {
        let delay = match self.inner.durability {
            _ if self.has_failed => RETRY,
            Durability::WriteBehind(delay) => delay,
            Durability::Strict | Durability::None => Duration::ZERO,
        };
        let mut state = lock_of(&self.inner.state);
        loop {
            if let Some(bytes) = state.size_limit.take() {
                set_size_limit(&self.connection, bytes);
            }
            match state.ending {
                Some(Ending::Abrupt) => return None,
                Some(Ending::Orderly) if state.pending.is_empty() => return None,
                _ => {}
            }
            let waited = state.since.map(|since| clock::now().saturating_duration_since(since));
            let is_due = waited.is_some_and(|waited| waited >= delay);
            if is_due || (waited.is_some() && (state.hurry || state.ending.is_some())) {
                state.hurry = false;
                state.since = None;
                return Some((std::mem::take(&mut state.pending), state.accepted, state.ending.is_some()));
            }
            state.hurry = false;
            state = match waited {
                None => self.inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(waited) => {
                    let rest = delay.saturating_sub(waited);
                    self.inner.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn put_back(&self, batch: Pending) {
        let mut state = lock_of(&self.inner.state);
        state.pending.put_under(batch);
        // The wait for the next attempt begins now.
        state.since = Some(clock::now());
    }
}

fn set_size_limit(connection: &Connection, bytes: u64) {
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap_or(4_096);
    let pages = (bytes / page.max(1).unsigned_abs()).clamp(1, u64::from(u32::MAX - 1));
    let set = connection.pragma_update_and_check(None, "max_page_count", pages as i64, |_| Ok(()));
    if let Err(why) = set {
        tracing::warn!(%why, "the store's size limit could not be set");
    }
}

fn write(connection: &mut Connection, batch: &Pending) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    {
        let mut upsert = transaction.prepare_cached(UPSERT)?;
        let mut delete = transaction.prepare_cached("DELETE FROM bindings WHERE aor = ? AND key = ?")?;
        let mut append = transaction
            .prepare_cached("INSERT INTO registration_records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
        for ((aor, key), last_word) in &batch.bindings {
            match last_word {
                None => delete.execute((aor.to_string(), key))?,
                Some((binding, expires_at)) => upsert.execute(named_params! {
                    ":aor": aor.to_string(),
                    ":key": key,
                    ":contact": binding.contact,
                    ":call_id": binding.call_id,
                    ":cseq": binding.cseq,
                    ":q": binding.q,
                    ":expires_at": *expires_at as i64,
                    ":path": serde_json::to_string(&binding.path).unwrap_or_else(|_| "[]".into()),
                    ":flow": binding.flow,
                    ":user_agent": binding.user_agent,
                    ":instance": binding.instance,
                    ":reg_id": binding.reg_id,
                    ":dialect": binding.dialect,
                })?,
            };
        }
        for record in &batch.records {
            append.execute((
                record.aor.to_string(),
                &record.key,
                record.server.to_string(),
                record.pool.to_string(),
                record.is_primary,
                record.user_services,
                record.registered_at as i64,
                record.ended_at as i64,
                record.deregister.number(),
                record.remote.map(|remote| remote.to_string()),
                record.status,
                record.diagnostic,
            ))?;
        }
    }
    transaction.commit()
}

/// Reads the bindings that still hold; the others are removed.
fn restore(connection: &Connection) -> rusqlite::Result<Vec<Change>> {
    let now = clock::unix().as_millis() as u64;
    connection.execute("DELETE FROM bindings WHERE expires_at <= ?", [now as i64])?;
    let mut statement = connection.prepare("SELECT * FROM bindings ORDER BY aor, key")?;
    let rows = statement.query_map((), |row| read_binding(now, row))?;
    rows.filter_map(Result::transpose).collect()
}

/// One row of `bindings`; `None` if its address-of-record is not one (an edit by hand).
fn read_binding(now: u64, row: &Row<'_>) -> rusqlite::Result<Option<Change>> {
    let Ok(aor) = row.get::<_, String>("aor")?.parse() else { return Ok(None) };
    let expires_at: i64 = row.get("expires_at")?;
    Ok(Some(Change::Binding(BindingRecord {
        aor,
        key: row.get("key")?,
        contact: row.get("contact")?,
        call_id: row.get("call_id")?,
        cseq: row.get("cseq")?,
        q: row.get("q")?,
        expires_in: Duration::from_millis((expires_at as u64).saturating_sub(now)),
        path: serde_json::from_str(&row.get::<_, String>("path")?).unwrap_or_default(),
        flow: row.get("flow")?,
        user_agent: row.get("user_agent")?,
        instance: row.get("instance")?,
        reg_id: row.get("reg_id")?,
        dialect: row.get("dialect")?,
    })))
}

fn read_record(aor: &AddressOfRecord, row: &Row<'_>) -> rusqlite::Result<RegistrationRecord> {
    let server: String = row.get("server")?;
    let pool: String = row.get("pool")?;
    Ok(RegistrationRecord {
        aor: aor.clone(),
        key: row.get("key")?,
        server: server.as_str().into(),
        pool: pool.as_str().into(),
        is_primary: row.get("is_primary")?,
        user_services: row.get("user_services")?,
        registered_at: row.get::<_, i64>("registered_at")? as u64,
        ended_at: row.get::<_, i64>("ended_at")? as u64,
        deregister: DeRegister::of(row.get("deregister_type")?).unwrap_or(DeRegister::Unknown),
        remote: row.get::<_, Option<String>>("remote")?.and_then(|remote| remote.parse().ok()),
        status: row.get("status")?,
        diagnostic: row.get("diagnostic")?,
    })
}

/// One server per data directory: two would overwrite each other's bindings.
struct Lock {
    _file: File,
}

impl Lock {
    fn take(directory: &Path) -> Result<Lock, StoreError> {
        let path = directory.join("lock");
        let told = |why: std::io::Error| StoreError::io(&path, &why);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(told)?;
        if file.try_lock().is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let detail = format!("process {} serves from this directory", holder.trim());
            return Err(StoreError::new(directory, Trouble::Locked, detail));
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(told)?;
        writeln!(file, "{}", std::process::id()).map_err(told)?;
        Ok(Lock { _file: file })
    }
}
