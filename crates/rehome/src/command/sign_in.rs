//! `rehome sign-in USER`: our client, signed in and telling what happens to it.

use std::io::{self, BufRead, IsTerminal};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use endpoint::{Command, Config, Event, Service, Status};
use net::cache_file::CacheFile;
use net::certificates::{self, Material};
use net::clock::{self, Tempo};
use net::drive_endpoint::{EndpointHost, Options, Said};
use net::nic::Nic;
use net::stream::Limits;
use net::tls::{Names, Tls};
use resilience::profile::{Profile, Timers};
use serde_json::json;
use sip::transport::Transport;
use sip::uri::AddressOfRecord;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Trouble;
use super::discover::resolver;
use super::user::short;
use crate::config::duration;
use crate::lab;
use crate::lab::screen::{Standing, round, service_line};
use crate::output::Output;

/// Where a password may be given without anybody seeing it.
const PASSWORD_VARIABLE: &str = "REHOME_PASSWORD";

/// How long signing out may take before we go without an answer.
const FAREWELL: Duration = Duration::from_secs(8);

/// Signs a user in with our client, and tells what happens until Ctrl-C, which signs the user out.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rehome sign-in dave@example.test --lab                  the lab's spare user
  rehome sign-in alice@example.test --password-file pw --dns 192.0.2.53 --ca ca.pem
  rehome sign-in alice@example.test --registrar 'sip:192.0.2.1:5060;transport=tcp' --transport tcp

The password is asked for on a terminal; else it is $REHOME_PASSWORD, or the first line of standard input.
Ends with 0 after signing out, with 1 if no registrar accepts the user.")]
pub(crate) struct Arguments {
    /// Who: alice@example.test
    user: AddressOfRecord,
    /// A file whose first line is the password; - for standard input.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// The running lab: its name server, its authority, its users' passwords.
    #[arg(long)]
    lab: bool,
    /// A name server to ask, as ADDRESS or ADDRESS:PORT; may be repeated. The system's, if left out.
    #[arg(long, value_parser = read_name_server)]
    dns: Vec<SocketAddr>,
    /// The authorities that vouch for the servers' certificates (PEM); the system's, if left out.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// A registrar to use instead of asking DNS: sip:fe1.example.test:5061;transport=tls
    #[arg(long)]
    registrar: Option<String>,
    /// Transports that may be used, best first: tls, tcp, udp.
    #[arg(long, value_delimiter = ',', default_value = "tls,tcp,udp", value_parser = read_transport)]
    transport: Vec<Transport>,
    /// Whose habits to have: rehome, or lync2010.
    #[arg(long, default_value_t = Profile::Rehome)]
    profile: Profile,
    /// Believe names and certificates outside the user's domain, too.
    #[arg(long)]
    relaxed_names: bool,
    /// The endpoint cache, a file; in the state directory if left out.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Our address; the system chooses if left out.
    #[arg(long)]
    local: Option<IpAddr>,
    /// Sign out by itself after this long: 30s, 5m.
    #[arg(long = "for", value_parser = duration::parse)]
    lasting: Option<Duration>,
    /// Sign out after the first registration; with --for, fail if there is none by then.
    #[arg(long)]
    once: bool,
    /// Silence after which a registrar counts as dead.
    #[arg(long, value_parser = duration::parse)]
    peer_dead_after: Option<Duration>,
    /// How long a connection may take to come up.
    #[arg(long, value_parser = duration::parse)]
    connect_timeout: Option<Duration>,
    /// Time between keepalives while all is well.
    #[arg(long, value_parser = duration::parse)]
    keepalive: Option<Duration>,
}

/// A name server as people type one.
pub(super) fn read_name_server(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>()
        .or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53)))
        .map_err(|_| "say ADDRESS or ADDRESS:PORT, such as 127.3.0.1:5300".to_owned())
}

/// A transport our client has.
pub(super) fn read_transport(text: &str) -> Result<Transport, String> {
    match text.trim().parse() {
        Ok(transport @ (Transport::Tls | Transport::Tcp | Transport::Udp)) => Ok(transport),
        _ => Err("say tls, tcp or udp".to_owned()),
    }
}

/// Runs the command.
pub(crate) fn run(mut arguments: Arguments, output: Output) -> Result<(), Trouble> {
    let aor = arguments.user.clone();
    let lab_password = if arguments.lab { Some(join_lab(&aor, &mut arguments)?) } else { None };
    let password = match lab_password.filter(|_| arguments.password_file.is_none()) {
        Some(password) => password,
        None => read_password(&arguments, &aor)?,
    };
    let runtime = tokio::runtime::Runtime::new().context("the system gives no threads")?;
    runtime.block_on(sign_in(&arguments, aor, password, output))
}

/// Fills in what the lab's folder knows, and gives the user's password.
fn join_lab(aor: &AddressOfRecord, arguments: &mut Arguments) -> Result<String, Trouble> {
    let folder = lab::folder::default_path()?;
    let ca = folder.join(lab::folder::AUTHORITY);
    if arguments.ca.is_none() {
        if !lab::folder::is_in_use(&folder) {
            return Err(Trouble::Failed(anyhow!(
                "no lab is running in {}; start `rehome lab` in another terminal",
                folder.display()
            )));
        }
        arguments.ca = Some(ca);
    }
    if arguments.dns.is_empty() {
        arguments.dns = vec![lab::NAME_SERVER];
    }
    Ok(lab::password(aor.user()))
}

fn read_password(arguments: &Arguments, aor: &AddressOfRecord) -> anyhow::Result<String> {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    if let Some(path) = arguments.password_file.as_ref().filter(|path| path.as_os_str() != "-") {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the password in {} cannot be read", path.display()))?;
        return Ok(first_line(&text));
    }
    let is_piped = arguments.password_file.is_some();
    if let Ok(password) = std::env::var(PASSWORD_VARIABLE)
        && !is_piped
    {
        return Ok(password);
    }
    if io::stdin().is_terminal() && !is_piped {
        return rpassword::prompt_password(format!("Password of {}: ", short(aor)))
            .context("the password cannot be read from the terminal");
    }
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text).context("the password cannot be read from standard input")?;
    if text.is_empty() {
        anyhow::bail!("no password for {}: say --password-file, or set ${PASSWORD_VARIABLE}", short(aor));
    }
    Ok(first_line(&text))
}

async fn sign_in(
    arguments: &Arguments,
    aor: AddressOfRecord,
    password: String,
    output: Output,
) -> Result<(), Trouble> {
    let nic = Nic::new();
    let resolver = resolver(&arguments.dns, arguments.local, nic.clone())?;
    let cache = CacheFile::at(match &arguments.cache {
        Some(path) => path.clone(),
        None => CacheFile::of_user(&lab::folder::state()?.join("cache"), aor.as_str()).path().to_owned(),
    });
    let remembered = cache.load().unwrap_or_else(|damaged| {
        tracing::warn!("{damaged}");
        None
    });
    let options = Options {
        config: config(arguments, aor, password),
        cache: remembered,
        nic,
        local: arguments.local,
        tls: tls(arguments)?,
        resolver,
        limits: Limits::default(),
        tempo: Tempo::default(),
        tap: false,
    };
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;

    let (client, ear) = EndpointHost::start(options);
    client.command(Command::SignIn);
    let mut session =
        Session { client, ear, cache, output, began: clock::now(), shown: (Service::None, None) };
    let over = async {
        match arguments.lasting {
            Some(lasting) => tokio::time::sleep(lasting).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = &mut over => {
                if arguments.once {
                    return Err(Trouble::Failed(anyhow!("not registered in time; the lines above say why")));
                }
                break;
            }
            heard = session.next() => match heard? {
                Heard::Rejected(why) => return Err(Trouble::Failed(anyhow!(why))),
                Heard::Registered if arguments.once => break,
                Heard::Registered | Heard::SignedOut | Heard::Nothing => {}
            },
        }
    }
    session.client.command(Command::SignOut);
    let farewell = async {
        loop {
            if let Heard::SignedOut | Heard::Rejected(_) = session.next().await? {
                return Ok(());
            }
        }
    };
    // A registrar that does not answer forgets us by itself.
    tokio::time::timeout(FAREWELL, farewell).await.unwrap_or(Ok(()))
}

fn config(arguments: &Arguments, aor: AddressOfRecord, password: String) -> Config {
    let mut config = Config::new(aor, password, arguments.profile);
    let timers: &mut Timers = &mut config.timers;
    timers.peer_dead_after = arguments.peer_dead_after.unwrap_or(timers.peer_dead_after);
    timers.keepalive_idle = arguments.keepalive.unwrap_or(timers.keepalive_idle);
    config.connect_timeout = arguments.connect_timeout.unwrap_or(config.connect_timeout);
    config.registrar.clone_from(&arguments.registrar);
    config.transports.clone_from(&arguments.transport);
    config.strict_names = !arguments.relaxed_names;
    config.allow_redirect_outside = arguments.relaxed_names;
    config
}

fn tls(arguments: &Arguments) -> anyhow::Result<Option<Arc<Tls>>> {
    if !arguments.transport.contains(&Transport::Tls) {
        return Ok(None);
    }
    let names = if arguments.relaxed_names { Names::Any } else { Names::Strict };
    let authorities = match arguments.ca.as_deref() {
        Some(path) => certificates::load_chain(path as &Path),
        None => certificates::system_authorities(),
    };
    let authorities = authorities.map_err(|why| {
        anyhow!("whom TLS may believe is not known: {why}; or leave TLS out with --transport tcp,udp")
    })?;
    let tls = Tls::new(&Material { identity: None, authorities }, names).map_err(|why| anyhow!(why))?;
    Ok(Some(tls))
}

/// One signed-in client and how it is shown.
struct Session {
    client: EndpointHost,
    ear: mpsc::UnboundedReceiver<Said>,
    cache: CacheFile,
    output: Output,
    began: std::time::Instant,
    /// The service shown last, and where.
    shown: Standing,
}

/// What matters for when to end.
enum Heard {
    Registered,
    Rejected(String),
    SignedOut,
    Nothing,
}

impl Session {
    async fn next(&mut self) -> anyhow::Result<Heard> {
        match self.ear.recv().await.context("the client has ended by itself, which it never should")? {
            Said::Event { since_start, event } => {
                // Said in a line of its own, where it also says where.
                if !matches!(event, Event::Service { .. }) {
                    let seconds = since_start.as_secs_f64();
                    let text = event.to_string();
                    self.output.line(
                        format!("{seconds:>8.3}s  {text}"),
                        &json!({ "seconds": round(seconds), "event": text }),
                    )?;
                }
                Ok(match event {
                    Event::Registered(_) => Heard::Registered,
                    Event::Rejected { registrar, status, reason } => {
                        Heard::Rejected(format!("{registrar} refuses the user for good: {status} {reason}"))
                    }
                    Event::SignedOut { .. } => Heard::SignedOut,
                    _ => Heard::Nothing,
                })
            }
            Said::Remember(entry) => {
                if let Err(why) = self.cache.store(&entry) {
                    tracing::warn!("the cache {} cannot be written: {why}", self.cache.path().display());
                }
                Ok(Heard::Nothing)
            }
            Said::Status(status) => {
                self.show(&status)?;
                Ok(Heard::Nothing)
            }
            Said::Opening(_) | Said::Sent { .. } | Said::Heard { .. } => Ok(Heard::Nothing),
        }
    }

    /// Shows the service, if it has changed.
    fn show(&mut self, status: &Status) -> anyhow::Result<()> {
        let now = (status.service, status.registrar.clone().filter(|_| status.service != Service::None));
        if now == self.shown {
            return Ok(());
        }
        self.shown = now;
        let seconds = clock::now().saturating_duration_since(self.began).as_secs_f64();
        let text = service_line(&self.shown);
        let (on, off) = if io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        let json = json!({
            "seconds": round(seconds), "service": self.shown.0.to_string(), "registrar": self.shown.1,
        });
        self.output.line(format!("{seconds:>8.3}s  {on}══ {text} ══{off}"), &json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_needs_no_port() {
        assert_eq!(read_name_server("127.3.0.1"), Ok(([127, 3, 0, 1], 53).into()));
        assert_eq!(read_name_server("127.3.0.1:5300"), Ok(([127, 3, 0, 1], 5300).into()));
        assert_eq!(read_name_server("[::1]:5300"), Ok("[::1]:5300".parse().unwrap()));
        assert!(read_name_server("localhost").is_err());
    }
}
