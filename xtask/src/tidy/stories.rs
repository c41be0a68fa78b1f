//! Every story opens with a comment that says what happens and why it matters.

use anyhow::Result;

use crate::source::{self, File};

/// Stories that begin without their why.
pub(crate) fn check() -> Result<Vec<String>> {
    Ok(source::files("crates", &[".scn"])?.iter().filter_map(judge).collect())
}

fn judge(file: &File) -> Option<String> {
    let opening: Vec<&str> =
        file.text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
    let words = opening.iter().flat_map(|line| line.split_whitespace()).count();
    // Eight words: "north dies" is a title, not a reason.
    (words < 8).then(|| {
        format!(
            "{}:1: opens without its why; begin with `# ` lines that say what happens and what would go wrong otherwise",
            file.path
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Option<String> {
        judge(&File { path: "a.scn".into(), text: text.into() })
    }

    #[test]
    fn a_title_is_not_a_reason() {
        assert!(judged("kill north\n").is_some());
        assert!(judged("# north dies\n\nkill north\n").is_some());
        assert!(
            judged("# north dies for eight minutes.\n# Otherwise alice stays on a dead pool.\n").is_none()
        );
    }
}
