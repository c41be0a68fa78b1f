//! `rehome status`, `fail-over`, `fail-back`, `drain`, `undrain`: a running server at a glance, and its levers.

use serde_json::Value;

use super::{AdminArguments, Trouble};
use crate::admin::segment;
use crate::output::{Output, Table};

/// Shows the servers of a running process: partners, users, trouble.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    admin: AdminArguments,
}

/// Names a pool.
#[derive(clap::Args)]
pub(crate) struct PoolArguments {
    /// The pool whose users are meant, by its full name.
    pool: String,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Names a server.
#[derive(clap::Args)]
pub(crate) struct ServerArguments {
    /// The server, by its full name.
    server: String,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Runs `status`.
pub(crate) fn run(arguments: &Arguments, output: Output) -> Result<(), Trouble> {
    let answer = arguments.admin.ask("GET", "/v1/status")?;
    let mut servers = Table::new(["server", "pool", "registered", "partner", "state", "since", "trouble"]);
    for server in answer["servers"].as_array().into_iter().flatten() {
        let text = |key: &str| server[key].as_str().unwrap_or_default().to_owned();
        let partners = server["partners"].as_array().cloned().unwrap_or_default();
        let first = partners.first().cloned().unwrap_or(Value::Null);
        servers.row([
            text("server"),
            text("pool"),
            registered(server),
            first["pool"].as_str().unwrap_or("-").to_owned(),
            first["state"].as_str().unwrap_or("-").to_owned(),
            since(&first),
            trouble(server),
        ]);
        for partner in partners.iter().skip(1) {
            let text = |key: &str| partner[key].as_str().unwrap_or_default().to_owned();
            let blank = String::new;
            servers.row([blank(), blank(), blank(), text("pool"), text("state"), since(partner), blank()]);
        }
    }
    output.say(servers, &answer)?;
    Ok(())
}

fn registered(server: &Value) -> String {
    let users = server["users_by_home_pool"].as_object().into_iter().flatten();
    let counts: Vec<String> = users.map(|(pool, count)| format!("{count} of {pool}")).collect();
    if counts.is_empty() { "nobody".to_owned() } else { counts.join(", ") }
}

fn since(partner: &Value) -> String {
    partner["since_s"].as_f64().map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0} s"))
}

fn trouble(server: &Value) -> String {
    let mut trouble = Vec::new();
    if server["store_ok"] == Value::Bool(false) {
        trouble.push("store lost: no new registrations".to_owned());
    }
    if server["draining"] == Value::Bool(true) {
        trouble.push("draining".to_owned());
    }
    if server["user_services"] == Value::Bool(false) {
        trouble.push("user services stopped".to_owned());
    }
    for (key, what) in [("unheard_datagrams", "datagrams unheard"), ("unsent_datagrams", "datagrams unsent")]
    {
        if let Some(count) = server[key].as_u64().filter(|count| *count > 0) {
            trouble.push(format!("{count} {what}"));
        }
    }
    if trouble.is_empty() { "none".to_owned() } else { trouble.join(", ") }
}

/// Runs `fail-over` and `fail-back`.
pub(crate) fn move_pool(arguments: &PoolArguments, verb: &str, output: Output) -> Result<(), Trouble> {
    let answer = arguments.admin.ask("POST", &format!("/v1/pools/{}/{verb}", segment(&arguments.pool)))?;
    say_told(&answer, &format!("{verb} {}", arguments.pool), output)
}

/// Runs `drain` and `undrain`.
pub(crate) fn tell_server(arguments: &ServerArguments, verb: &str, output: Output) -> Result<(), Trouble> {
    let answer =
        arguments.admin.ask("POST", &format!("/v1/servers/{}/{verb}", segment(&arguments.server)))?;
    say_told(&answer, verb, output)
}

fn say_told(answer: &Value, what: &str, output: Output) -> Result<(), Trouble> {
    let told: Vec<&str> = answer["told"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    output.say(format!("{what}: told {}", told.join(", ")), answer)?;
    Ok(())
}
