//! The two files of a deployment: `topology.toml` for the world, `server.toml` for me.
//!
//! The topology is the same on every machine: sites, pools, who backs up whom, intervals. The other file is
//! tiny and says which server this is and where its things lie. Both are declared once ([`document::table!`]),
//! and `rehome config example` prints them from the doc comments of those declarations.
//!
//! Every mistake is a [`Mistake`]: file, line, key, what is wrong, what to do. All of a file are told at once.

mod document;
pub(crate) mod duration;
pub(crate) mod server;
pub(crate) mod topology;

pub(crate) use document::{Mistake, Severity, nearest};

use std::path::Path;

/// What a file gave: the value, if it can be used, and everything worth saying about it.
pub(crate) struct Loaded<T> {
    /// The content; `None` if a mistake is an error.
    pub(crate) value: Option<T>,
    /// Errors and warnings, in the order of their lines.
    pub(crate) mistakes: Vec<Mistake>,
}

impl<T> Loaded<T> {
    /// The value and the warnings, or the mistakes that stand in the way.
    pub(crate) fn usable(self) -> Result<(T, Vec<Mistake>), Vec<Mistake>> {
        match self.value {
            Some(value) => Ok((value, self.mistakes)),
            None => Err(self.mistakes),
        }
    }
}

/// Reads a file that is to be understood by `parse`; a file that cannot be read is a mistake like any other.
fn load<T>(path: &Path, parse: impl FnOnce(&str, &str) -> Loaded<T>) -> Loaded<T> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text),
        Err(why) => {
            let mistake = Mistake {
                severity: Severity::Error,
                file: name,
                line: 1,
                key: String::new(),
                what: format!("cannot be read: {why}"),
                cure: "`rehome config example` prints one to start from".to_owned(),
            };
            Loaded { value: None, mistakes: vec![mistake] }
        }
    }
}
