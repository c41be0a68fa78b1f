//! `cargo xtask ci`: everything a change must pass, cheapest first, the first failure stops.
//!
//! The last lines printed are always the test runner's own closing lines, so that whoever reads only
//! the end of a log sees how many tests ran and how many passed.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{source, tidy};

/// One thing that must hold.
struct Step {
    name: &'static str,
    /// What to do about it when it does not hold.
    hint: &'static str,
    what: What,
}

enum What {
    /// Our own rules, in this process.
    Tidy,
    /// Arguments for cargo, and an environment variable to set.
    Cargo(Vec<&'static str>, Option<(&'static str, &'static str)>),
    /// The same, and its closing lines are to be said again at the end.
    Tests(Vec<&'static str>),
}

/// Runs all steps; an error names the step that failed.
pub(crate) fn run() -> Result<()> {
    let mut closing = Vec::new();
    let mut times = Vec::new();
    let outcome = run_all(&mut times, &mut closing);
    if outcome.is_ok() {
        println!("\n== all steps passed");
        for (name, took) in &times {
            println!("   {name:<10} {:>6.1} s", took.as_secs_f32());
        }
    } else if let Err(why) = &outcome {
        println!("\n== {why:#}");
    }
    if !closing.is_empty() {
        println!();
    }
    for line in &closing {
        println!("{line}");
    }
    std::io::stdout().flush()?;
    // Said above, before the closing lines; saying it again would come after them.
    if outcome.is_err() {
        std::process::exit(1);
    }
    Ok(())
}

fn run_all(times: &mut Vec<(&'static str, Duration)>, closing: &mut Vec<String>) -> Result<()> {
    let steps = steps();
    let of = steps.len();
    for (index, step) in steps.iter().enumerate() {
        println!("\n== {} ({} of {of})", step.name, index + 1);
        let started = now();
        let outcome = match &step.what {
            What::Tidy => tidy::run(),
            What::Cargo(arguments, variable) => cargo(arguments, *variable),
            What::Tests(arguments) => {
                let (outcome, lines) = tests(arguments)?;
                *closing = lines;
                outcome
            }
        };
        if let Err(why) = outcome {
            bail!("{} failed: {why:#}\n   hint: {}", step.name, step.hint);
        }
        times.push((step.name, started.elapsed()));
    }
    Ok(())
}

fn steps() -> Vec<Step> {
    let tests = if have_nextest() {
        vec![
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-tests=pass",
            "--no-fail-fast",
            "--color=never",
        ]
    } else {
        vec!["test", "--workspace", "--locked", "--all-targets", "--no-fail-fast"]
    };
    vec![
        Step {
            name: "format",
            hint: "`cargo fmt` cures it",
            what: What::Cargo(vec!["fmt", "--all", "--check"], None),
        },
        Step {
            name: "tidy",
            hint: "each line above names a file, a rule and a cure; `cargo xtask tidy` runs this step alone",
            what: What::Tidy,
        },
        Step {
            name: "clippy",
            hint: "`cargo clippy --workspace --all-targets` runs this step alone; every ban says what to do instead",
            what: What::Cargo(
                vec!["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"],
                None,
            ),
        },
        Step {
            name: "tests",
            hint: "run one alone by its name: `cargo test -p PACKAGE NAME`",
            what: What::Tests(tests),
        },
        Step {
            name: "doc tests",
            hint: "an example in a doc comment no longer compiles or no longer holds",
            what: What::Cargo(vec!["test", "--workspace", "--locked", "--doc", "--quiet"], None),
        },
        Step {
            name: "docs",
            hint: "most often a link to an item that was renamed; `cargo doc --no-deps` runs this step alone",
            what: What::Cargo(
                vec!["doc", "--workspace", "--no-deps", "--locked", "--quiet"],
                Some(("RUSTDOCFLAGS", "-Dwarnings")),
            ),
        },
    ]
}

fn have_nextest() -> bool {
    cargo_command(&["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(arguments).current_dir(source::root()).stdin(Stdio::null());
    command
}

fn cargo(arguments: &[&str], variable: Option<(&str, &str)>) -> Result<()> {
    let mut command = cargo_command(arguments);
    command.envs(variable);
    let status = command.status().with_context(|| format!("starting cargo {}", arguments.join(" ")))?;
    if !status.success() {
        bail!("cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}

/// Runs the tests, showing every line as it comes, and returns the closing ones.
///
/// nextest speaks on standard error, `cargo test` on standard output; the other one passes through.
fn tests(arguments: &[&str]) -> Result<(Result<()>, Vec<String>)> {
    let nextest = arguments.first() == Some(&"nextest");
    let mut command = cargo_command(arguments);
    if nextest {
        command.stderr(Stdio::piped());
    } else {
        command.stdout(Stdio::piped());
    }
    // Tests whose peer is missing say so in this file: nextest shows nothing of what a passing test printed.
    let skipped = std::env::temp_dir().join(format!("rehome-skipped-{}", std::process::id()));
    command.env("REHOME_SKIPPED", &skipped);
    let mut child = command.spawn().context("starting the tests")?;
    let mut closing = Vec::new();
    let speech: Box<dyn std::io::Read> = match (child.stderr.take(), child.stdout.take()) {
        (Some(stderr), _) => Box::new(stderr),
        (None, Some(stdout)) => Box::new(stdout),
        (None, None) => bail!("the test runner cannot be heard"),
    };
    let quiet_passes = std::io::stdout().is_terminal();
    for line in BufReader::new(speech).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if nextest {
            // From its summary on, everything is closing lines.
            if !closing.is_empty() || line.trim_start().starts_with("Summary [") {
                closing.push(line.clone());
            }
        } else if line.starts_with("test result:") || line.starts_with("failures:") {
            closing.push(line.clone());
        }
        // On a terminal a thousand passing tests would push what matters off the screen.
        if !(quiet_passes && line.trim_start().starts_with("PASS [")) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    let said = std::fs::read_to_string(&skipped).unwrap_or_default();
    let _ = std::fs::remove_file(&skipped);
    println!("\n{} tests skipped for want of a peer or a privilege", said.lines().count());
    print!("{said}");
    let outcome = if status.success() {
        Ok(())
    } else {
        Err(anyhow::anyhow!("cargo {}: {status}", arguments.join(" ")))
    };
    Ok((outcome, closing))
}

#[expect(clippy::disallowed_methods, reason = "a chore may look at the clock to say how long a step took")]
fn now() -> Instant {
    Instant::now()
}
