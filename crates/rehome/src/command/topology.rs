//! `rehome topology check|show`: is the deployment sound, and what does it look like?

use std::fmt::Write as _;
use std::path::PathBuf;

use resilience::topology::{Role, Topology};
use serde_json::json;

use super::{Trouble, read_topology};
use crate::config::{Severity, duration, topology as topology_file};
use crate::output::{Output, Table};

/// The deployment as one file: is it sound, what does it look like?
#[derive(clap::Subcommand)]
pub(crate) enum Arguments {
    /// Finds what is wrong with a topology: each mistake with its line, its key and its cure.
    #[command(after_help = "Ends with 0 if the file can be used (warnings or not), with 2 if it cannot.")]
    Check {
        /// The file to check.
        #[arg(default_value = "topology.toml")]
        file: PathBuf,
    },
    /// Shows pools and who backs up whom, intervals, and the SRV records to publish.
    Show {
        /// The file to show.
        #[arg(default_value = "topology.toml")]
        file: PathBuf,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments, output: Output) -> Result<(), Trouble> {
    match arguments {
        Arguments::Check { file } => check(&file, output),
        Arguments::Show { file } => {
            let topology = read_topology(&file)?;
            output.say(picture(&topology), &as_json(&topology))?;
            Ok(())
        }
    }
}

fn check(file: &std::path::Path, output: Output) -> Result<(), Trouble> {
    let loaded = topology_file::load(file);
    let count = |severity| loaded.mistakes.iter().filter(|mistake| mistake.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));

    let mut human = String::new();
    for mistake in &loaded.mistakes {
        let _ = writeln!(human, "{mistake}");
    }
    let _ = write!(human, "{}: ", file.display());
    if let Some(topology) = &loaded.value {
        let servers: usize = topology.pools.iter().map(|pool| pool.servers.len()).sum();
        let (sites, pools) = (topology.sites.len(), topology.pools.len());
        let _ =
            write!(human, "{}, {}, {}: ", many(sites, "site"), many(pools, "pool"), many(servers, "server"));
    }
    let _ = write!(human, "{}, {}", many(errors, "error"), many(warnings, "warning"));

    output.say(human, &json!({ "file": file, "usable": errors == 0, "mistakes": loaded.mistakes }))?;
    if errors == 0 { Ok(()) } else { Err(Trouble::Told) }
}

fn many(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn picture(topology: &Topology) -> String {
    let mut page = format!(
        "Topology version {}, profile {}, domains {}\n\n",
        topology.version,
        topology.profile,
        topology.domains.join(", ")
    );

    let mut pools = Table::new(["pool", "site", "role", "backup", "server", "address", "udp", "tcp", "tls"]);
    for pool in &topology.pools {
        let backup = match (&pool.backup, pool.automatic_failover) {
            (None, _) => "none".to_owned(),
            (Some(backup), true) => backup.to_string(),
            (Some(backup), false) => format!("{backup} (when told)"),
        };
        let mut first = [pool.name.to_string(), pool.site.to_string(), role(pool.role).to_owned(), backup];
        for server in &pool.servers {
            let port = |port: Option<u16>| port.map_or("—".to_owned(), |port| port.to_string());
            let [name, site, role, backup] = std::mem::take(&mut first);
            pools.row([
                name,
                site,
                role,
                backup,
                server.name.to_string(),
                server.address.to_string(),
                port(server.udp),
                port(server.tcp),
                port(server.tls),
            ]);
        }
    }
    let _ = writeln!(page, "{pools}");

    let timers = &topology.timers;
    let expiry = timers.registration_expiry;
    let mut table = Table::new(["interval", "value", "meaning"]);
    let mut row = |name: &str, value: String, meaning: &str| table.row([name.into(), value, meaning.into()]);
    let print = duration::print;
    row("heartbeat_interval", print(timers.heartbeat_interval), "between the servers of paired pools");
    row(
        "failure_detection_interval",
        print(timers.failure_detection_interval),
        "silence, then the backup takes over",
    );
    row("failback_interval", print(timers.failback_interval), "heard without a gap, then users go home");
    row("failback_pace", pace(timers.failback_pace), "how fast they go home");
    row("peer_dead_after", print(timers.peer_dead_after), "silence, then a client gives its connection up");
    row(
        "registration_expiry",
        format!("{} ({}–{})", print(expiry.default), print(expiry.min), print(expiry.max)),
        "granted to a registration",
    );
    let _ = writeln!(page, "{table}");

    let mut records = Table::new(["record", "priority", "weight", "port", "target"]);
    for record in &topology.srv {
        records.row([
            record.name(),
            record.priority.to_string(),
            record.weight.to_string(),
            record.port.to_string(),
            record.target.clone(),
        ]);
    }
    let _ = write!(page, "{records}");
    page
}

fn pace(pace: Option<u32>) -> String {
    pace.map_or("unlimited".to_owned(), |pace| format!("{pace} users/s"))
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Registrar => "registrar",
        Role::Director => "director",
    }
}

/// The topology for programs. Durations are in seconds, since JSON has no better word for them.
fn as_json(topology: &Topology) -> serde_json::Value {
    let timers = &topology.timers;
    let pools: Vec<_> = topology
        .pools
        .iter()
        .map(|pool| {
            let servers: Vec<_> = pool
                .servers
                .iter()
                .map(|server| {
                    json!({
                        "name": server.name.as_str(), "address": server.address,
                        "udp": server.udp, "tcp": server.tcp, "tls": server.tls,
                    })
                })
                .collect();
            json!({
                "name": pool.name.as_str(), "site": pool.site.as_str(), "role": role(pool.role),
                "backup": pool.backup.as_ref().map(|backup| backup.as_str()),
                "automatic_failover": pool.automatic_failover,
                "capacity": pool.capacity, "planned_users": pool.planned_users, "servers": servers,
            })
        })
        .collect();
    let srv: Vec<_> = topology
        .srv
        .iter()
        .map(|record| {
            json!({
                "name": record.name(), "priority": record.priority, "weight": record.weight,
                "port": record.port, "target": record.target,
            })
        })
        .collect();
    json!({
        "version": topology.version,
        "profile": topology.profile.name(),
        "domains": topology.domains,
        "sites": topology.sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>(),
        "pools": pools,
        "srv": srv,
        "timers_s": {
            "heartbeat_interval": timers.heartbeat_interval.as_secs_f64(),
            "failure_detection_interval": timers.failure_detection_interval.as_secs_f64(),
            "failback_interval": timers.failback_interval.as_secs_f64(),
            "peer_dead_after": timers.peer_dead_after.as_secs_f64(),
            "keepalive_idle": timers.keepalive_idle.as_secs_f64(),
            "keepalive_doubt": timers.keepalive_doubt.as_secs_f64(),
            "registration_expiry": timers.registration_expiry.default.as_secs_f64(),
        },
        "failback_pace_users_per_s": timers.failback_pace,
    })
}
