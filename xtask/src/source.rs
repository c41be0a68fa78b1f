//! The tree as text: where the root is, which files there are, what cargo says about the packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The root of the workspace, whatever directory the command was started in.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// One text file of ours.
pub(crate) struct File {
    /// Path below the root, with forward slashes.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl File {
    /// Lines with their numbers, counted from one as editors do.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Every file below `under` (a path below the root) whose name ends in one of `endings`, in order of path.
/// A directory that does not exist holds no files.
pub(crate) fn files(under: &str, endings: &[&str]) -> Result<Vec<File>> {
    let root = root();
    let mut found = Vec::new();
    walk(&root.join(under), &mut |path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if endings.iter().any(|ending| name.ends_with(ending)) {
            let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            found.push(File { path: below(&root, path), text });
        }
        Ok(())
    })?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// One file by its path below the root; `None` if there is no such file.
pub(crate) fn file(path: &str) -> Option<File> {
    let text = fs::read_to_string(root().join(path)).ok()?;
    Some(File { path: path.to_owned(), text })
}

fn walk(directory: &Path, visit: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                walk(&path, visit)?;
            }
        } else {
            visit(&path)?;
        }
    }
    Ok(())
}

fn below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// What `cargo metadata` says, with the packages that `targets` would really build (all, if none is given).
pub(crate) fn metadata(targets: &[String]) -> Result<Value> {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(["metadata", "--format-version", "1", "--locked"]).current_dir(root());
    for target in targets {
        command.args(["--filter-platform", target]);
    }
    let output = command.output().context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("reading what cargo metadata said")
}
