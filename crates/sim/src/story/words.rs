//! A line as words, with the few shapes that stories use.

use std::time::Duration;

/// What is left of a line.
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Words { rest: line.trim() }
    }

    /// What is left, whole.
    pub(super) fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.rest)
    }

    /// The next word without taking it.
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.rest.split_whitespace().next()
    }

    /// The next word; `what` is what it should be, for the message.
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, String> {
        let word = self.peek().ok_or_else(|| format!("expected {what} at the end of the line"))?;
        self.rest = self.rest.trim_start()[word.len()..].trim_start();
        Ok(word)
    }

    /// Takes the next word if it is `word`.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        if there {
            self.rest = self.rest.trim_start()[word.len()..].trim_start();
        }
        there
    }

    /// Takes the next word, which must be `word`.
    pub(super) fn must(&mut self, word: &str) -> Result<(), String> {
        if self.eat(word) {
            return Ok(());
        }
        Err(format!("expected `{word}`, found `{}`", self.peek().unwrap_or("the end of the line")))
    }

    /// A number.
    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let word = self.word("a number")?;
        word.parse().map_err(|_| format!("expected a number, found `{word}`"))
    }

    /// A duration: `200ms`, `75s`, `8m`, `8h`.
    pub(super) fn duration(&mut self) -> Result<Duration, String> {
        let word = self.word("a duration")?;
        duration(word).ok_or_else(|| format!("expected a duration such as 75s, found `{word}`"))
    }

    /// A text in double or single quotes, or one word.
    pub(super) fn quoted(&mut self, what: &str) -> Result<&'a str, String> {
        let Some(quote) = self.rest.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
            return self.word(what);
        };
        let (text, rest) = self.rest[1..].split_once(quote).ok_or("a quote is not closed")?;
        self.rest = rest.trim_start();
        Ok(text)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` is too much on this line")),
        }
    }
}

/// Reads `200ms`, `75s`, `1.5s`, `8m`, `8h`.
fn duration(word: &str) -> Option<Duration> {
    let unit = word.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = word[..unit].parse().ok()?;
    let seconds = match &word[unit..] {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("8m"), Some(Duration::from_secs(480)));
        for wrong in ["30", "s", "-1s", "3d"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
