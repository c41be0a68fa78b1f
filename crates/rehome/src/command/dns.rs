//! `rehome dns zone|serve`: the records a deployment needs, for somebody else's name server or from ours.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use net::dns_server::DnsServer;
use net::nic::Nic;
use net::zone::Zone;
use serde_json::json;

use super::{Trouble, read_topology};
use crate::output::Output;

/// The records that clients find the deployment by.
#[derive(clap::Subcommand)]
pub(crate) enum Arguments {
    /// Prints the zone of a topology, for the name server you have.
    Zone {
        /// The deployment.
        #[arg(default_value = "topology.toml")]
        topology: PathBuf,
        /// The address of the name server that will load it. Left out: records to include in a zone you have.
        #[arg(long, value_name = "ADDRESS")]
        name_server: Option<IpAddr>,
    },
    /// Answers DNS for a topology until Ctrl-C.
    #[command(after_help = "\
Example:
  rehome dns serve lab/two-sites.toml --listen 127.0.0.1:5353
  dig @127.0.0.1 -p 5353 SRV _sip._udp.example.test")]
    Serve {
        /// The deployment.
        #[arg(default_value = "topology.toml")]
        topology: PathBuf,
        /// Where to answer, over UDP and TCP. Ports below 1024 need a privilege.
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5353")]
        listen: SocketAddr,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments, output: Output) -> Result<(), Trouble> {
    match arguments {
        Arguments::Zone { topology, name_server } => {
            let mut zone = Zone::from_topology(&read_topology(&topology)?);
            if let Some(address) = name_server {
                zone.set_name_server(address);
            }
            let records: Vec<_> = zone
                .records()
                .map(|(name, data)| json!({ "name": name, "type": data.kind(), "data": data.to_string() }))
                .collect();
            output.say(zone.to_text(), &json!({ "ttl_s": zone.ttl_s(), "records": records }))?;
            Ok(())
        }
        Arguments::Serve { topology, listen } => {
            let zone = Zone::from_topology(&read_topology(&topology)?);
            Ok(serve(zone, listen, output)?)
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(zone: Zone, listen: SocketAddr, output: Output) -> anyhow::Result<()> {
    let domains = zone.origins().join(", ");
    let server = DnsServer::start(&Nic::new(), listen, zone)
        .with_context(|| format!("cannot answer DNS at {listen}; choose another with --listen"))?;
    let local = server.local();
    output.say(
        format!("answering DNS for {domains} at {local} (UDP and TCP), until Ctrl-C"),
        &json!({ "listening": local, "domains": domains }),
    )?;
    tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")
}
