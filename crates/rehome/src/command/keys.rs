//! `rehome keys`: what the servers of a deployment need to trust each other.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use net::certificates::Authority;
use serde_json::json;

use super::{Trouble, read_topology};
use crate::deployment::{self, AUTHORITIES_FILE, SECRET, SECRET_FILE};
use crate::output::Output;

/// Makes an authority, a certificate for each server of a topology, and the secret for nonces.
///
/// Its key is not kept: run it again, with --force, to add a server or renew, and copy the files anew. Where you
/// have an authority of your own, use that; a server's certificate names the server, its pool and the SIP domains.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  rehome keys --topology topology.toml")]
pub(crate) struct Arguments {
    /// The deployment.
    #[arg(long, default_value = "topology.toml")]
    topology: PathBuf,
    /// Where the files go; beside the topology if left out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replaces files that are there.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, output: Output) -> Result<(), Trouble> {
    let topology = read_topology(&arguments.topology)?;
    let beside = arguments.topology.parent().unwrap_or(Path::new("")).to_path_buf();
    let out = arguments.out.clone().unwrap_or(beside);
    std::fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;

    let (authorities, secret) = (out.join(AUTHORITIES_FILE), out.join(SECRET_FILE));
    if !arguments.force
        && let Some(there) = [&authorities, &secret].into_iter().find(|path| path.exists())
    {
        return Err(Trouble::Usage(format!("{} is there already; --force replaces it", there.display())));
    }
    let authority = Authority::new("Rehome deployment").map_err(|why| anyhow!(why))?;
    let mut made = vec![authorities.clone(), secret.clone()];
    for pool in &topology.pools {
        for server in &pool.servers {
            let address = server.address.to_string();
            let mut names = vec![server.name.as_str(), pool.name.as_str()];
            names.extend(topology.domains.iter().map(String::as_str));
            names.push(&address);
            names.dedup();
            let identity = authority.issue(&names).map_err(|why| anyhow!(why))?;
            let files = deployment::files_of(&deployment::tls_beside(&out, &server.name));
            identity.write(&files).with_context(|| format!("{} cannot be written", files.key.display()))?;
            made.extend([files.certificate, files.key]);
        }
    }
    std::fs::write(&authorities, authority.pem())
        .with_context(|| format!("{} cannot be written", authorities.display()))?;
    let mut random = [0; SECRET];
    getrandom::fill(&mut random).map_err(|why| anyhow!("the system gives no randomness: {why}"))?;
    write_secret(&secret, &random).with_context(|| format!("{} cannot be written", secret.display()))?;

    let names: Vec<String> = made.iter().map(|path| path.display().to_string()).collect();
    output.say(format!("made {}", names.join(", ")), &json!({ "made": names }))?;
    Ok(())
}

/// Readable by its owner alone.
fn write_secret(path: &Path, secret: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(secret)
}
