//! How this program is typed: commands that we print should work when they are pasted.
//!
//! Somebody who has built it but not installed it has no `rehome` in their path, and somebody who has installed an
//! older one has the wrong one. So we print `rehome` only where that starts this very program.

use std::path::{Path, PathBuf};

/// The name of the program where it is installed.
const NAME: &str = "rehome";

/// What to type for this program: `rehome`, `target/release/rehome`, or its whole path.
pub(crate) fn typed() -> String {
    let Ok(program) = std::env::current_exe() else { return NAME.to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    typed_in(&program, std::env::split_paths(&path), &here)
}

fn typed_in(program: &Path, mut path: impl Iterator<Item = PathBuf>, here: &Path) -> String {
    let real = |path: &Path| path.canonicalize().ok();
    let program = real(program).unwrap_or_else(|| program.to_owned());
    if path.any(|directory| real(&directory.join(NAME)).is_some_and(|found| found == program)) {
        return NAME.to_owned();
    }
    let below = real(here).and_then(|here| program.strip_prefix(here).ok().map(Path::to_owned));
    match below {
        // A shell looks for a bare name in the path only.
        Some(below) if below.components().count() == 1 => quoted(&Path::new(".").join(below)),
        Some(below) => quoted(&below),
        None => quoted(&program),
    }
}

/// A path as a shell reads it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+:@~,".contains(letter);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program in `folder` of a desk, and the desk.
    fn built(folder: &str) -> (tempfile::TempDir, PathBuf) {
        let desk = tempfile::tempdir().unwrap();
        let folder = desk.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join(NAME);
        std::fs::write(&program, "").unwrap();
        (desk, program)
    }

    #[test]
    fn an_installed_program_is_called_by_its_name() {
        let (desk, program) = built("bin");
        let path = [desk.path().join("empty"), desk.path().join("bin")];
        assert_eq!(typed_in(&program, path.into_iter(), desk.path()), "rehome");
    }

    #[test]
    fn a_built_program_is_called_by_its_path_from_here() {
        let (desk, program) = built("target/release");
        let none = || std::iter::empty();
        assert_eq!(typed_in(&program, none(), desk.path()), "target/release/rehome");
        assert_eq!(typed_in(&program, none(), &desk.path().join("target/release")), "./rehome");
        let elsewhere = tempfile::tempdir().unwrap();
        let whole = program.canonicalize().unwrap();
        assert_eq!(typed_in(&program, none(), elsewhere.path()), whole.display().to_string());
    }

    #[test]
    fn another_program_of_the_same_name_is_not_taken_for_this_one() {
        let (desk, program) = built("target/release");
        let (other, _) = built("bin");
        let path = [other.path().join("bin")];
        assert_eq!(typed_in(&program, path.into_iter(), desk.path()), "target/release/rehome");
    }

    #[test]
    fn a_path_with_a_space_or_a_quote_can_be_pasted() {
        assert_eq!(quoted(Path::new("/home/a b/rehome")), "'/home/a b/rehome'");
        assert_eq!(quoted(Path::new("/home/o'neil/rehome")), r"'/home/o'\''neil/rehome'");
    }
}
