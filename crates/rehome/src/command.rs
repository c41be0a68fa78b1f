//! What an operator can type, and how it can end. One file for each verb or noun.
//!
//! To add one: a file here with an `Arguments` and a `run`, a variant in [`Command`], a line in the `match`.
//! A command returns [`Trouble`] or prints its answer through [`Output`]; it neither exits nor panics.

mod config;
mod discover;
mod dns;
mod explain;
mod keys;
mod lab;
mod reload;
mod serve;
mod sign_in;
mod status;
mod topology;
mod user;

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use resilience::topology::Topology;

use crate::config::{Mistake, topology as topology_file};
use crate::output::Output;
use crate::{admin, deployment};

const EXAMPLES: &str = "\
Examples:
  rehome lab                                         two sites on this machine; the screen says what to try
  rehome config example topology > topology.toml     a deployment to start from
  rehome topology check                              what is wrong with it, by line and cure
  rehome user add alice@example.test --home fe1.example.test
  rehome dns zone                                    the records to publish";

/// Pull the plug on any site: every phone is back in seconds, and goes home when the site does.
#[derive(Parser)]
#[command(name = "rehome", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Arguments {
    /// Prints JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Everything one can type.
#[derive(clap::Subcommand)]
enum Command {
    #[command(subcommand)]
    Topology(topology::Arguments),
    User(user::Arguments),
    #[command(subcommand)]
    Config(config::Arguments),
    #[command(subcommand)]
    Dns(dns::Arguments),
    Keys(keys::Arguments),
    Lab(lab::Arguments),
    #[command(name = "sign-in")]
    SignIn(sign_in::Arguments),
    Discover(discover::Arguments),
    Serve(serve::Arguments),
    Reload(reload::Arguments),
    Status(status::Arguments),
    Explain(explain::Arguments),
    /// Takes a lost pool's users now, without waiting for the detection interval.
    FailOver(status::PoolArguments),
    /// Sends a pool's users home now, without waiting for the failback interval.
    FailBack(status::PoolArguments),
    /// Makes a server refuse newcomers; its users go to other servers of the pool when they next register.
    Drain(status::ServerArguments),
    /// Makes a drained server take registrations again.
    Undrain(status::ServerArguments),
}

/// Runs what was typed. Exit codes: 0 it went well, 1 it failed, 2 it was asked or configured wrongly.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(&arguments.command);
    let output = Output { json: arguments.json };
    let outcome = match arguments.command {
        Command::Topology(arguments) => topology::run(arguments, output),
        Command::User(arguments) => user::run(arguments, output),
        Command::Config(arguments) => config::run(arguments, output),
        Command::Dns(arguments) => dns::run(arguments, output),
        Command::Lab(arguments) => lab::run(arguments, output),
        Command::SignIn(arguments) => sign_in::run(arguments, output),
        Command::Discover(arguments) => discover::run(&arguments, output),
        Command::Keys(arguments) => keys::run(&arguments, output),
        Command::Serve(arguments) => serve::run(arguments, output),
        Command::Reload(arguments) => reload::run(&arguments, output),
        Command::Status(arguments) => status::run(&arguments, output),
        Command::Explain(arguments) => explain::run(&arguments, output),
        Command::FailOver(arguments) => status::move_pool(&arguments, "fail-over", output),
        Command::FailBack(arguments) => status::move_pool(&arguments, "fail-back", output),
        Command::Drain(arguments) => status::tell_server(&arguments, "drain", output),
        Command::Undrain(arguments) => status::tell_server(&arguments, "undrain", output),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            // Nobody may be listening any more; the exit code says it nevertheless.
            let _ = write!(io::stderr(), "{trouble}");
            trouble.exit_code()
        }
    }
}

/// What running servers log goes to standard error; `RUST_LOG` asks for more or less. A command that shows the
/// events itself does not want them twice.
fn start_log(command: &Command) {
    use tracing_subscriber::EnvFilter;
    let level = match command {
        Command::Lab(_) | Command::SignIn(_) | Command::Discover(_) => "warn",
        Command::Serve(_) => "info,rehome::event=off",
        _ => "info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // A second log in one process is refused; there is none here.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It was asked for something that cannot be; says what, and what would be right.
    Usage(String),
    /// A file has mistakes.
    Mistakes(Vec<Mistake>),
    /// The mistakes were the answer, and have been printed.
    Told,
    /// It was right to ask, and it failed.
    Failed(anyhow::Error),
}

impl Trouble {
    fn exit_code(&self) -> ExitCode {
        match self {
            Trouble::Usage(_) | Trouble::Mistakes(_) | Trouble::Told => ExitCode::from(2),
            Trouble::Failed(_) => ExitCode::FAILURE,
        }
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Usage(what) => writeln!(f, "rehome: {what}"),
            Trouble::Mistakes(mistakes) => mistakes.iter().try_for_each(|mistake| writeln!(f, "{mistake}")),
            Trouble::Told => Ok(()),
            Trouble::Failed(why) => writeln!(f, "rehome: {why:#}"),
        }
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(why: anyhow::Error) -> Self {
        Trouble::Failed(why)
    }
}

/// Which running server is asked.
#[derive(clap::Args)]
pub(crate) struct AdminArguments {
    /// Where its admin interface listens.
    #[arg(long, default_value_t = admin::DEFAULT)]
    admin: SocketAddr,
    /// A file with the token it wants, if it is not on loopback.
    #[arg(long)]
    token_file: Option<PathBuf>,
}

impl AdminArguments {
    /// Asks it.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Result<serde_json::Value, Trouble> {
        let token = self.token_file.as_deref().map(deployment::read_token).transpose()?;
        Ok(admin::ask(self.admin, method, path, token.as_deref())?)
    }
}

/// Reads a topology that must be usable. Its warnings are `topology check`'s business, not everybody's.
pub(crate) fn read_topology(path: &Path) -> Result<Topology, Trouble> {
    topology_file::load(path).usable().map(|(topology, _)| topology).map_err(Trouble::Mistakes)
}
