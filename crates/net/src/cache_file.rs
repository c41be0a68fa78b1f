//! The endpoint cache as a file: what a client remembers between two runs.
//!
//! A small JSON file that people may read, edit and delete. It is replaced whole, by renaming, so that a
//! machine that loses power keeps the old one or has the new one. A damaged file costs a discovery and
//! nothing else: it is reported, ignored, and written anew.
//!
//! Not here: what is worth remembering, and for how long (`endpoint::cache`).

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use endpoint::{CacheEntry, CachedRegistrar};
use serde::{Deserialize, Serialize};

use crate::clock;

/// Where one client's cache is kept.
#[derive(Clone, Debug)]
pub struct CacheFile {
    path: PathBuf,
}

/// A cache file that was there and told nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the cache {} is ignored, and will be written anew: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for Damaged {}

/// The file's content.
#[derive(Deserialize, Serialize)]
struct Content {
    aor: String,
    /// Seconds since 1970. A relative lifetime would begin anew with every start.
    good_until: u64,
    registrars: Vec<Line>,
}

#[derive(Deserialize, Serialize)]
struct Line {
    uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
}

impl CacheFile {
    /// The cache in this file, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> CacheFile {
        CacheFile { path: path.into() }
    }

    /// The cache of one user among those of others, in `directory`.
    pub fn of_user(directory: &Path, aor: &str) -> CacheFile {
        let plain = aor.split_once(':').map_or(aor, |(_, plain)| plain);
        let mut name = String::new();
        for byte in plain.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'@' => {
                    name.push(char::from(byte))
                }
                _ => name.push_str(&format!("%{byte:02X}")),
            }
        }
        CacheFile { path: directory.join(format!("{name}.json")) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was remembered, if anything, with what is left of its lifetime.
    pub fn load(&self) -> Result<Option<CacheEntry>, Damaged> {
        let damaged = |why: String| Damaged { path: self.path.clone(), why };
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(damaged(why.to_string())),
        };
        let content: Content = serde_json::from_slice(&text).map_err(|why| damaged(why.to_string()))?;
        let left = content.good_until.saturating_sub(clock::unix_s());
        Ok((left > 0).then(|| CacheEntry {
            aor: content.aor,
            registrars: content
                .registrars
                .into_iter()
                .map(|line| CachedRegistrar { uri: line.uri, address: line.address })
                .collect(),
            lifetime: Duration::from_secs(left),
        }))
    }

    /// Remembers `entry` in place of what was remembered before.
    pub fn store(&self, entry: &CacheEntry) -> io::Result<()> {
        let lines = entry.registrars.iter();
        let content = Content {
            aor: entry.aor.clone(),
            good_until: clock::unix_s().saturating_add(entry.lifetime.as_secs()),
            registrars: lines.map(|line| Line { uri: line.uri.clone(), address: line.address }).collect(),
        };
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut beside = self.path.clone().into_os_string();
        // Two clients of one user may write at once; the last one wins, whole.
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(&content)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)
    }

    /// Forgets everything.
    pub fn forget(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> CacheEntry {
        CacheEntry {
            aor: "sip:alice@example.test".into(),
            registrars: vec![
                CachedRegistrar {
                    uri: "sip:fe1.example.test:5061;transport=tls".into(),
                    address: Some(([127, 1, 0, 1], 5061).into()),
                },
                CachedRegistrar { uri: "sip:fe2.example.test:5061;transport=tls".into(), address: None },
            ],
            lifetime: Duration::from_secs(3_600),
        }
    }

    #[test]
    fn what_is_stored_is_loaded_until_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = CacheFile::of_user(&dir.path().join("cache"), "sip:alice@example.test");
        assert!(file.path().ends_with("cache/alice@example.test.json"));
        assert_eq!(file.load(), Ok(None));
        file.store(&entry()).unwrap();
        let loaded = file.load().unwrap().unwrap();
        assert_eq!(loaded.registrars, entry().registrars);
        assert!(loaded.lifetime <= entry().lifetime && loaded.lifetime > Duration::from_secs(3_500));

        file.store(&CacheEntry { lifetime: Duration::ZERO, ..entry() }).unwrap();
        assert_eq!(file.load(), Ok(None));
        let left: Vec<_> = std::fs::read_dir(file.path().parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing half-written stays: {left:?}");
        file.forget().unwrap();
        file.forget().unwrap();
        assert!(!file.path().exists());
    }

    #[test]
    fn a_damaged_file_is_named_and_can_be_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = CacheFile::at(dir.path().join("cache.json"));
        for damaged in ["", "{", "[]", "{\"aor\": 1}", "\u{0}\u{0}"] {
            std::fs::write(file.path(), damaged).unwrap();
            let why = file.load().unwrap_err();
            assert!(why.to_string().contains("cache.json is ignored"), "{why}");
        }
        file.store(&entry()).unwrap();
        assert!(file.load().unwrap().is_some());
    }

    #[test]
    fn a_user_cannot_name_a_file_elsewhere() {
        let file = CacheFile::of_user(Path::new("/cache"), "sip:../../etc/x@example.test");
        assert_eq!(file.path(), Path::new("/cache/..%2F..%2Fetc%2Fx@example.test.json"));
    }
}
