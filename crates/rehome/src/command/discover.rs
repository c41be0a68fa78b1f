//! `rehome discover DOMAIN`: what DNS says about a SIP domain, and what our client would make of it.
//!
//! A rehearsal: the client's own brain signs in, its questions go to real name servers, and every connection it
//! wants is noted and called failed, so that it walks on to the next. What is printed is therefore what
//! `rehome sign-in` does, and nothing is ever sent to a registrar.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use endpoint::event::Found;
use endpoint::{Command, Config, Endpoint, Event, Input, Output as Wish};
use net::clock;
use net::dns::Resolver;
use net::nic::Nic;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use resilience::profile::Profile;
use serde_json::{Value, json};
use sip::locate::{Answer, Query, Record};
use sip::transport::{FlowLoss, Target, Transport};
use tokio::sync::mpsc;

use super::Trouble;
use super::sign_in::{read_name_server, read_transport};
use crate::output::Output;

/// Hosts that discovery itself looks at, in its own order.
const CONVENTIONAL: [&str; 4] = ["sipinternal.", "sip.", "sipexternal.", ""];

/// How long a name server may take before we say whom we wait for.
const SILENCE: Duration = Duration::from_secs(1);

/// Asks DNS for the servers of a SIP domain, as our client does, and prints each question, answer and choice.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  rehome discover example.test
  rehome discover example.test --dns 127.3.0.1:5300      the lab's name server

Nothing is sent to the servers found. Ends with 1 if there is none.")]
pub(crate) struct Arguments {
    /// The SIP domain: what stands after the @ of a user.
    domain: String,
    /// A name server to ask, as ADDRESS or ADDRESS:PORT; may be repeated. The system's, if left out.
    #[arg(long, value_parser = read_name_server)]
    dns: Vec<SocketAddr>,
    /// Transports that may be used, best first: tls, tcp, udp.
    #[arg(long, value_delimiter = ',', default_value = "tls,tcp,udp", value_parser = read_transport)]
    transport: Vec<Transport>,
    /// Which client to be: rehome also asks for NAPTR records, lync2010 does not.
    #[arg(long, default_value_t = Profile::Rehome)]
    profile: Profile,
    /// Believe SRV records that lead outside the domain, too.
    #[arg(long)]
    relaxed_names: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, output: Output) -> Result<(), Trouble> {
    let runtime = tokio::runtime::Runtime::new().context("the system gives no threads")?;
    runtime.block_on(walk(arguments, output))
}

async fn walk(arguments: &Arguments, output: Output) -> Result<(), Trouble> {
    let domain = arguments.domain.trim_end_matches('.').to_ascii_lowercase();
    let aor = format!("sip:anybody@{domain}")
        .parse()
        .map_err(|why| Trouble::Usage(format!("`{}` is no SIP domain: {why}", arguments.domain)))?;
    let resolver = resolver(&arguments.dns, None, Nic::new())?;
    let mut config = Config::new(aor, String::new(), arguments.profile);
    config.transports.clone_from(&arguments.transport);
    config.strict_names = !arguments.relaxed_names;

    let mut rehearsal =
        Rehearsal { domain, output, questions: Vec::new(), choices: Vec::new(), silent: false };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|why| anyhow!("the system gives no randomness: {why}"))?;
    let now = clock::now();
    let mut brain = Endpoint::new(config, None, ChaCha12Rng::from_seed(seed), now);
    let (answers, mut answered) = mpsc::unbounded_channel();
    brain.handle_input(Input::Told(Command::SignIn), now);
    'rounds: loop {
        loop {
            match brain.poll_output() {
                Wish::Timeout(_) => break,
                Wish::Resolve(query) => {
                    let (resolver, answers) = (resolver.clone(), answers.clone());
                    tokio::spawn(async move {
                        let answer = resolver.ask(&query).await;
                        // Nobody listens once the walk is over.
                        let _ = answers.send(Input::Resolved { query, answer });
                    });
                }
                Wish::Open { ticket, target } => {
                    rehearsal.chose(&target)?;
                    let _ = answers.send(Input::OpenFailed { ticket, why: FlowLoss::Refused });
                }
                Wish::Event(Event::Waiting { .. }) => break 'rounds,
                Wish::Event(event) => rehearsal.heard(&event)?,
                Wish::Persist(_) | Wish::Transmit { .. } | Wish::Ping { .. } | Wish::Close { .. } => {}
            }
        }
        let next = match tokio::time::timeout(SILENCE, answered.recv()).await {
            Ok(next) => next,
            Err(_) => {
                rehearsal.wait(&arguments.dns);
                answered.recv().await
            }
        };
        let Some(next) = next else { break };
        if let Input::Resolved { query, answer } = &next {
            rehearsal.answered(query, answer)?;
        }
        // No time passes for the brain: it is never out of patience.
        brain.handle_input(next, now);
    }
    rehearsal.end()
}

/// The resolver of these name servers; the system's, if there are none.
pub(super) fn resolver(
    servers: &[SocketAddr],
    local: Option<std::net::IpAddr>,
    nic: Nic,
) -> anyhow::Result<Resolver> {
    match servers {
        [] => Resolver::system(nic).map_err(|why| anyhow!(why)),
        servers => Resolver::new(servers, local, nic).map_err(|why| anyhow!(why)),
    }
}

/// What has been found so far, and how it is told.
struct Rehearsal {
    domain: String,
    output: Output,
    questions: Vec<Value>,
    choices: Vec<Value>,
    /// A name server did not answer in time.
    silent: bool,
}

impl Rehearsal {
    /// The client told something: what it made of an answer.
    fn heard(&mut self, event: &Event) -> Result<(), Trouble> {
        match event {
            Event::Discovered { question, found } => {
                self.silent |= matches!(found, Found::Failed(_));
                let names = match found {
                    Found::Names(names) => Some(names.clone()),
                    _ => None,
                };
                self.tell(question, &found.to_string(), names)
            }
            Event::NameRefused { name, why } => {
                self.say(&format!("  {name} is not used: {why}"))?;
                self.questions.push(json!({ "refused": name, "why": why.to_string() }));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// DNS answered. Of the hosts that discovery looks at itself, the client tells in its own order.
    fn answered(&mut self, query: &Query, answer: &Answer) -> Result<(), Trouble> {
        let Query::Address(host) = query else { return Ok(()) };
        if CONVENTIONAL.iter().any(|prefix| *host == format!("{prefix}{}", self.domain)) {
            return Ok(());
        }
        let (text, names) = match answer {
            Answer::Records(records) => {
                let addresses: Vec<String> = records
                    .iter()
                    .filter_map(|record| match record {
                        Record::Address(address) => Some(address.to_string()),
                        _ => None,
                    })
                    .collect();
                (addresses.join(", "), Some(addresses))
            }
            Answer::None => ("nothing".to_owned(), None),
            Answer::Failed(why) => {
                self.silent = true;
                (why.to_string(), None)
            }
        };
        self.tell(query, &text, names)
    }

    fn tell(&mut self, question: &Query, text: &str, names: Option<Vec<String>>) -> Result<(), Trouble> {
        let question = question.to_string();
        self.say(&format!("{question} → {text}"))?;
        self.questions.push(json!({ "question": question, "answer": names, "text": text }));
        Ok(())
    }

    /// The client would connect there.
    fn chose(&mut self, target: &Target) -> Result<(), Trouble> {
        let (transport, address, name) = (target.transport, target.address, &*target.name);
        let choice =
            json!({ "transport": transport.to_string(), "address": address.to_string(), "name": name });
        if self.choices.contains(&choice) {
            return Ok(());
        }
        self.choices.push(choice);
        self.say(&format!("  choice {}: {transport} {address} as {name}", self.choices.len()))
    }

    /// Shows that we are still there.
    fn wait(&self, servers: &[SocketAddr]) {
        if !self.output.json {
            let whom: Vec<String> = servers.iter().map(ToString::to_string).collect();
            let whom = if whom.is_empty() { "the system's name servers".to_owned() } else { whom.join(", ") };
            eprintln!("waiting for {whom} …");
        }
    }

    fn say(&self, line: &str) -> Result<(), Trouble> {
        if !self.output.json {
            self.output.line(line, &())?;
        }
        Ok(())
    }

    fn end(self) -> Result<(), Trouble> {
        if self.output.json {
            let told = json!({ "domain": self.domain, "questions": self.questions, "choices": self.choices });
            self.output.say("", &told)?;
        }
        if !self.choices.is_empty() {
            return Ok(());
        }
        Err(Trouble::Failed(match self.silent {
            true => anyhow!(
                "no server found for {}: a name server could not or would not answer; `--dns` asks another one",
                self.domain
            ),
            false => anyhow!(
                "no server found for {}: its zone needs records such as `_sip._tcp SRV`; `rehome dns zone` prints them",
                self.domain
            ),
        }))
    }
}
