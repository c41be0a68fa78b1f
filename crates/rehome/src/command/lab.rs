//! `rehome lab`, `lab cut|restore`, `lab replay article`: two sites on this machine, and the plug to pull.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use resilience::profile::Profile;

use super::{AdminArguments, Trouble};
use crate::admin::{self, segment};
use crate::config::duration;
use crate::lab::replay;
use crate::lab::running::{self, Wishes};
use crate::output::Output;

/// Runs two sites on this machine's loopback, with a name server and three users signed in. Needs no root.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  rehome lab                             until Ctrl-C; the screen says what to try
  rehome lab cut fe2.example.test        in another terminal: pulls that pool's cable
  rehome lab restore fe2                 plugs it in again
  rehome lab replay article --fast       the experiment, on real sockets, in about a minute"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    deed: Option<Deed>,
    /// Another deployment than the two sites; its addresses must be loopback ones.
    #[arg(long)]
    topology: Option<PathBuf>,
    /// Whose habits servers and clients have: rehome or lync2010, with its own intervals.
    #[arg(long)]
    profile: Option<Profile>,
    /// Where everything is kept; ~/.local/state/rehome/lab if left out.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the admin interface listens.
    #[arg(long, default_value_t = admin::DEFAULT)]
    admin: SocketAddr,
    /// End by itself after this long: 30s, 5m.
    #[arg(long = "for", value_parser = duration::parse)]
    lasting: Option<Duration>,
}

#[derive(clap::Subcommand)]
enum Deed {
    /// Pulls a cable: nothing arrives, nothing leaves, nobody is told.
    Cut(CableArguments),
    /// Plugs a cable in again.
    Restore(CableArguments),
    /// Plays recorded stories on real sockets.
    #[command(subcommand)]
    Replay(Play),
}

#[derive(clap::Args)]
struct CableArguments {
    /// A pool, a server or a site, by its full name or its first label.
    name: String,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(clap::Subcommand)]
enum Play {
    /// The experiment that the project began with, S1 to S8, side by side; then a table of what was seen.
    #[command(after_help = "\
Takes about eleven minutes, the article's intervals being what they are; with --fast about one.
Ends with 1 if anything is not as expected.")]
    Article {
        /// Which profile to play it in: lync2010, rehome or both.
        #[arg(long, default_value = "both", value_parser = read_profiles)]
        profile: Profiles,
        /// Ten times as fast as life: every interval and every bound is a tenth.
        #[arg(long)]
        fast: bool,
        /// Tells on standard error all that was seen in a story that is not as expected.
        #[arg(long)]
        trace: bool,
    },
}

/// One profile or both.
#[derive(Clone, Debug)]
struct Profiles(Vec<Profile>);

fn read_profiles(text: &str) -> Result<Profiles, String> {
    match text {
        "both" => Ok(Profiles(vec![Profile::Lync2010, Profile::Rehome])),
        one => one
            .parse()
            .map(|profile| Profiles(vec![profile]))
            .map_err(|_| "say lync2010, rehome or both".to_owned()),
    }
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments, output: Output) -> Result<(), Trouble> {
    match arguments.deed {
        None => {
            let wishes = Wishes {
                topology: arguments.topology,
                profile: arguments.profile,
                folder: arguments.dir,
                admin: arguments.admin,
                lasting: arguments.lasting,
            };
            let runtime = tokio::runtime::Runtime::new().context("the system gives no threads")?;
            runtime.block_on(running::run(wishes, output))
        }
        Some(Deed::Cut(cable)) => pull(&cable, "cut", "silent from now on", output),
        Some(Deed::Restore(cable)) => pull(&cable, "restore", "plugged in again", output),
        Some(Deed::Replay(Play::Article { profile, fast, trace })) => {
            let times = if fast { replay::FAST } else { 1 };
            let wishes = replay::Wishes { profiles: &profile.0, times, quiet: output.json, trace };
            let verdict = replay::article(wishes)?;
            output.say(verdict.page(), &verdict.as_json())?;
            match verdict.surprises() {
                0 => Ok(()),
                surprises => {
                    let rows = verdict.rows();
                    Err(Trouble::Failed(anyhow!(
                        "{surprises} of {rows} claims are not as expected; the table says which"
                    )))
                }
            }
        }
    }
}

fn pull(cable: &CableArguments, verb: &str, effect: &str, output: Output) -> Result<(), Trouble> {
    let answer = cable.admin.ask("POST", &format!("/v1/lab/{verb}/{}", segment(&cable.name)))?;
    let servers = answer["servers"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
    let servers: Vec<&str> = servers.collect();
    let are = if servers.len() == 1 { "is" } else { "are" };
    output.say(format!("{} {are} {effect}", servers.join(", ")), &answer)?;
    Ok(())
}
