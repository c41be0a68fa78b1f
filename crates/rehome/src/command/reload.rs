//! `rehome reload`: a running server reads its files again.

use super::{AdminArguments, Trouble};
use crate::output::Output;

/// Makes a running server read topology, certificates and directory again; no connection is dropped. SIGHUP
/// does the same.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, output: Output) -> Result<(), Trouble> {
    let answer = arguments.admin.ask("POST", "/v1/reload")?;
    output.say(answer["reloaded"].as_str().unwrap_or("reloaded"), &answer)?;
    Ok(())
}
