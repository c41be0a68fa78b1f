//! The stories of `stories/`, carried inside the program so that it can tell them anywhere.

use std::fmt;

use crate::story::{Story, StoryError, parse};

/// One story as it lies in the repository.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// Its name: the file's, without `.scn`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

impl Embedded {
    /// Parses it.
    pub fn parse(&self) -> Result<Story, StoryError> {
        parse(self.name, self.text)
    }

    /// Whether it tells a step of the experiment that defined the problem (S1 to S8).
    pub fn is_of_the_article(&self) -> bool {
        self.name.strip_prefix('s').is_some_and(|rest| rest.parse::<u8>().is_ok())
    }
}

impl fmt::Display for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! embedded {
    ($($name:literal)*) => {
        &[$(Embedded { name: $name, text: include_str!(concat!("../stories/", $name, ".scn")) }),*]
    };
}

/// All stories: the article's eight, then the scenarios A to O with their variants, then others.
pub fn stories() -> &'static [Embedded] {
    embedded![
        "s1" "s2" "s3" "s4" "s5" "s6" "s7" "s8"
        "a" "b" "c1" "c2" "d" "d2" "e" "e2" "f" "f2" "g" "g2" "h" "h2" "h3" "i" "j" "k" "l" "m" "n" "o"
        "defaults" "partition" "frozen" "dns-down" "disk-full"
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_embedded_and_every_story_reads() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/stories");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned())
            .filter_map(|file| file.strip_suffix(".scn").map(str::to_owned))
            .collect();
        files.sort();
        let mut names: Vec<String> = stories().iter().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(files, names, "a file without an entry, or an entry without a file");
        for story in stories() {
            if let Err(why) = story.parse() {
                panic!("{why}");
            }
        }
    }

    #[test]
    fn the_article_has_eight_steps() {
        assert_eq!(stories().iter().filter(|story| story.is_of_the_article()).count(), 8);
    }
}
