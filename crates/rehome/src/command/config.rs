//! `rehome config example|check`: files to start from, and what is wrong with those one has.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Trouble;
use crate::config::{server, topology};
use crate::output::Output;

/// The two files of a deployment: examples to start from, and a check.
#[derive(clap::Subcommand)]
pub(crate) enum Arguments {
    /// Prints an example file with every key explained; both, one after the other, if none is named.
    #[command(after_help = "Example:\n  rehome config example topology > topology.toml")]
    Example {
        /// Which file.
        file: Option<Which>,
    },
    /// Checks a server file, the topology it names, and that the two agree.
    Check {
        /// The server file.
        #[arg(default_value = "server.toml")]
        file: PathBuf,
    },
}

/// One of the two files.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Which {
    /// The deployment, the same on every machine.
    Topology,
    /// Which server this is.
    Server,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments, output: Output) -> Result<(), Trouble> {
    match arguments {
        Arguments::Example { file: Some(Which::Topology) } => say_file(topology::example(), output),
        Arguments::Example { file: Some(Which::Server) } => say_file(server::example(), output),
        Arguments::Example { file: None } => {
            let both = format!(
                "#---- topology.toml {line}\n\n{}\n#---- server.toml ---{line}\n\n{}",
                topology::example(),
                server::example(),
                line = "-".repeat(80),
            );
            output.say(both, &json!({ "topology": topology::example(), "server": server::example() }))?;
            Ok(())
        }
        Arguments::Check { file } => check(&file, output),
    }
}

fn say_file(text: String, output: Output) -> Result<(), Trouble> {
    output.say(&text, &text)?;
    Ok(())
}

fn check(path: &Path, output: Output) -> Result<(), Trouble> {
    let loaded = server::check(path);
    let mut page: String = loaded.mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
    let own = loaded.value.as_ref().and_then(server::Deployment::own);
    match own {
        Some((pool, entry)) => {
            let _ = write!(page, "{}: {} of pool {} in {}", path.display(), entry.name, pool.name, pool.site);
        }
        None => {
            let _ = write!(page, "{}: cannot be used", path.display());
        }
    }
    output.say(
        page,
        &json!({
            "file": path, "usable": own.is_some(), "mistakes": loaded.mistakes,
            "server": own.map(|(_, entry)| entry.name.as_str()),
            "pool": own.map(|(pool, _)| pool.name.as_str()),
            "site": own.map(|(pool, _)| pool.site.as_str()),
        }),
    )?;
    if own.is_some() { Ok(()) } else { Err(Trouble::Told) }
}
