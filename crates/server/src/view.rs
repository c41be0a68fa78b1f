//! What is true now: for the admin interface, the dashboard and `explain`.

use std::fmt;
use std::time::Duration;

use resilience::partner;
use resilience::profile::Profile;
use resilience::topology::{PoolName, Role, ServerName};
use sip::transport::{Flow, Transport};
use sip::uri::AddressOfRecord;

use crate::config::Shard;
use crate::event::plain;

/// One shard of one server at one moment. The views of all shards add up to the server's.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Which server.
    pub server: ServerName,
    /// Its pool.
    pub pool: PoolName,
    /// What the pool does.
    pub role: Role,
    /// Which shard of it.
    pub shard: Shard,
    /// Which system it behaves like.
    pub profile: Profile,
    /// The publication in use.
    pub topology_version: u64,
    /// The publication in use.
    pub directory_version: u64,
    /// The store takes changes.
    pub store_ok: bool,
    /// New registrations are sent elsewhere.
    pub draining: bool,
    /// Presence and its like work for users homed here.
    pub user_services: bool,
    /// The watched pools, in order of name.
    pub partners: Vec<PartnerView>,
    /// The watched servers that do not answer.
    pub silent: Vec<ServerName>,
    /// Users with a binding here, by the pool they are homed on, in order of name.
    pub users: Vec<(PoolName, usize)>,
    /// Bindings here.
    pub bindings: usize,
    /// Users still to be sent home.
    pub going_home: usize,
    /// Requests on their way.
    pub transactions: usize,
}

/// One watched pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PartnerView {
    /// Which.
    pub pool: PoolName,
    /// What we do about it.
    pub state: partner::State,
    /// For how long.
    pub since: Duration,
    /// While `Suspect`: until it is taken for lost.
    pub lost_in: Option<Duration>,
}

/// Everything about one user, in the order in which people ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Who.
    pub aor: AddressOfRecord,
    /// Who is telling: another server may know more.
    pub server: ServerName,
    /// What the directory says; nothing for an unknown user.
    pub user: Option<UserView>,
    /// The bindings at this server.
    pub bindings: Vec<BindingView>,
    /// What a REGISTER would be answered here and now, and why, in a sentence.
    pub answer: String,
    /// What would happen if the pool that has the user now died, in a sentence.
    pub if_it_died: String,
    /// The last moves known here, the newest last.
    pub moves: Vec<Move>,
}

/// What the directory and the topology say about a user.
#[derive(Clone, Debug, PartialEq)]
pub struct UserView {
    /// Primary pool.
    pub home: PoolName,
    /// Backup pool.
    pub backup: Option<PoolName>,
    /// May sign in.
    pub enabled: bool,
    /// Telephone number.
    pub number: Option<String>,
    /// The servers of the primary pool, first choice first.
    pub preferred: Vec<ServerName>,
    /// The servers of the backup pool, first choice first.
    pub backup_preferred: Vec<ServerName>,
}

/// One binding.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingView {
    /// The Contact URI.
    pub contact: String,
    /// How it is reached.
    pub transport: Transport,
    /// The flow it came by.
    pub flow: Flow,
    /// Requests can reach it (its connection stands, or it needs none).
    pub reachable: bool,
    /// In thousandths.
    pub q: u16,
    /// What is left.
    pub expires_in: Duration,
    /// Since the device registered first.
    pub age: Duration,
    /// What it says it is.
    pub user_agent: Option<String>,
    /// Its instance.
    pub instance: Option<String>,
}

/// Something that moved a user, or did not.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// How long ago.
    pub ago: Duration,
    /// What happened: the event's line.
    pub what: String,
}

/// The screen that `explain` prints.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} as seen by {}", plain(&self.aor), self.server)?;
        match &self.user {
            None => writeln!(f, "  unknown user")?,
            Some(user) => {
                let names = |servers: &[ServerName]| {
                    servers.iter().map(ServerName::as_str).collect::<Vec<_>>().join(", ")
                };
                let state = if user.enabled { "" } else { " (disabled)" };
                writeln!(f, "  homed on {}{state}; preferred order: {}", user.home, names(&user.preferred))?;
                match &user.backup {
                    Some(backup) => {
                        writeln!(
                            f,
                            "  backup   {backup}; preferred order: {}",
                            names(&user.backup_preferred)
                        )?;
                    }
                    None => writeln!(f, "  backup   none")?,
                }
                if let Some(number) = &user.number {
                    writeln!(f, "  number   {number}")?;
                }
            }
        }
        for binding in &self.bindings {
            let reach = if binding.reachable { "" } else { ", connection lost" };
            writeln!(
                f,
                "  here     {} by {} for another {} s{reach}",
                binding.contact,
                binding.transport,
                binding.expires_in.as_secs()
            )?;
        }
        if self.bindings.is_empty() {
            writeln!(f, "  here     not registered")?;
        }
        writeln!(f, "  answer   {}", self.answer)?;
        writeln!(f, "  if the pool that has the user died: {}", self.if_it_died)?;
        for step in &self.moves {
            writeln!(f, "  {:>8.1} s ago  {}", step.ago.as_secs_f64(), step.what)?;
        }
        Ok(())
    }
}
