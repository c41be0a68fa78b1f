//! Durations as operators write them: `"30s"`, `"1m 30s"`, `"500ms"`. Never a number without a unit.

use std::time::Duration;

/// Units, the largest first, with their milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Understands a duration, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("is empty, not a duration".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|char: char| char.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.len() - after.trim_start_matches(|char: char| char.is_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let Ok(number) = number.parse::<u64>() else {
            return Err(format!("\"{text}\" is not a duration"));
        };
        if unit.is_empty() && !after.starts_with('.') {
            return Err(format!("\"{text}\" has no unit"));
        }
        let Some((_, millis)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!(
                "\"{text}\" is not a duration: units are d, h, m, s and ms, numbers are whole"
            ));
        };
        total = number
            .checked_mul(*millis)
            .and_then(|millis| total.checked_add(millis))
            .ok_or_else(|| format!("\"{text}\" is longer than time"))?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration as [`parse`] reads it, in the fewest words; parts of a millisecond are dropped.
pub(crate) fn print(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // Minutes are only worth a word when they are whole: intervals are compared in seconds.
    if rest % 1_000 == 0 && rest % 60_000 != 0 && rest < 3_600_000 {
        return format!("{}s", rest / 1_000);
    }
    let mut words = Vec::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            words.push(format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if words.is_empty() { "0s".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for millis in [0, 1, 500, 1_000, 1_500, 30_000, 90_000, 60_000, 600_000, 3_600_000, 86_461_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&print(duration)), Ok(duration), "{}", print(duration));
        }
        assert_eq!(print(Duration::from_secs(600)), "10m");
        assert_eq!(print(Duration::from_secs(90)), "90s");
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        assert_eq!(parse("30").unwrap_err(), "\"30\" has no unit");
        assert_eq!(parse("1m 30").unwrap_err(), "\"1m 30\" has no unit");
        assert_eq!(parse("1 m 30 s"), Ok(Duration::from_secs(90)), "a space before the unit does no harm");
    }

    #[test]
    fn words_that_are_no_duration_are_refused() {
        for text in [
            "",
            "fast",
            "1.5s",
            "30 s s",
            "5 sec",
            "-1s",
            "30sec",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
