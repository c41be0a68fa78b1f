//! The commands of a story: an operator's verbs, one line each.
//!
//! `HOST` is a server, or a pool for all of its servers; `ANY` may also be a site or a user.

use std::time::Duration;

use super::words::Words;

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// `sign-in USER`: starts the user's client; `USER/2` is a second device of the same user.
    SignIn(String),
    /// `sign-out USER`
    SignOut(String),
    /// `forget USER`: throws the user's endpoint cache away. The client must be signed out.
    Forget(String),
    /// `kill HOST`: the process dies; its kernel resets its connections.
    Kill(String),
    /// `start HOST`: the process is started again, with what its disk kept.
    Start(String),
    /// `cut ANY`: the network card goes silent.
    Cut(String),
    /// `restore ANY`: the card works again.
    Restore(String),
    /// `freeze HOST`: the process stands still (SIGSTOP).
    Freeze(String),
    /// `thaw HOST`: it goes on where it was.
    Thaw(String),
    /// `partition ANY ANY [one-way]`: nothing passes between the two (or from the first to the second).
    Partition {
        /// One side.
        one: String,
        /// The other.
        other: String,
        /// Only from the first to the second.
        one_way: bool,
    },
    /// `repair [ANY ANY]`: undoes `partition`; without names, every one.
    Repair(Option<(String, String)>),
    /// `link SITE SITE delay D [jitter D] [loss PERCENT]`
    Link {
        /// One site.
        one: String,
        /// The other.
        other: String,
        /// One way.
        delay: Duration,
        /// At most this much more.
        jitter: Duration,
        /// In percent.
        loss: f64,
    },
    /// `drain HOST`: takes no new registrations.
    Drain(String),
    /// `undrain HOST`
    Undrain(String),
    /// `dns add NAME SRV PRIORITY WEIGHT PORT TARGET` or `dns add NAME A SERVER`
    DnsAdd(DnsLine),
    /// `dns remove NAME [TARGET]`: removes all records of the name, or those to this target.
    DnsRemove(String, Option<String>),
    /// `dns down`: the DNS server does not answer.
    DnsDown,
    /// `dns up`: it answers again, at once.
    DnsUp,
    /// `dns slow D`: it takes this long.
    DnsSlow(Duration),
    /// `call USER USER`
    Call(String, String),
    /// `message USER USER`
    Message(String, String),
    /// `fail-over POOL`: an operator says so to every server of the backup pool.
    FailOver(String),
    /// `fail-back POOL`
    FailBack(String),
    /// `stop-user-services HOST`: presence and its like are out of order there.
    StopUserServices(String),
    /// `start-user-services HOST`
    StartUserServices(String),
    /// `fill-disk HOST`
    FillDisk(String),
    /// `empty-disk HOST`
    EmptyDisk(String),
}

/// One record to publish.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DnsLine {
    /// An SRV record.
    Srv {
        /// Owner name, whole.
        name: String,
        /// Lower is tried first.
        priority: u16,
        /// Share among equals.
        weight: u16,
        /// Port of the target.
        port: u16,
        /// Host name.
        target: String,
    },
    /// An address record: this name leads to the addresses of that server or pool.
    Address {
        /// Owner name, whole.
        name: String,
        /// A server or pool of the topology.
        server: String,
    },
}

impl Verb {
    /// Reads one command line.
    pub fn parse(line: &str) -> Result<Verb, String> {
        let mut words = Words::new(line);
        let name = words.word("a command")?;
        let verb = match name {
            "sign-in" => Verb::SignIn(one(&mut words)?),
            "sign-out" => Verb::SignOut(one(&mut words)?),
            "forget" => Verb::Forget(one(&mut words)?),
            "kill" => Verb::Kill(one(&mut words)?),
            "start" => Verb::Start(one(&mut words)?),
            "cut" => Verb::Cut(one(&mut words)?),
            "restore" => Verb::Restore(one(&mut words)?),
            "freeze" => Verb::Freeze(one(&mut words)?),
            "thaw" => Verb::Thaw(one(&mut words)?),
            "drain" => Verb::Drain(one(&mut words)?),
            "undrain" => Verb::Undrain(one(&mut words)?),
            "fail-over" => Verb::FailOver(one(&mut words)?),
            "fail-back" => Verb::FailBack(one(&mut words)?),
            "stop-user-services" => Verb::StopUserServices(one(&mut words)?),
            "start-user-services" => Verb::StartUserServices(one(&mut words)?),
            "fill-disk" => Verb::FillDisk(one(&mut words)?),
            "empty-disk" => Verb::EmptyDisk(one(&mut words)?),
            "call" => Verb::Call(one(&mut words)?, one(&mut words)?),
            "message" => Verb::Message(one(&mut words)?, one(&mut words)?),
            "partition" => {
                let (one, other) = (one(&mut words)?, one(&mut words)?);
                Verb::Partition { one, other, one_way: words.eat("one-way") }
            }
            "repair" => match words.peek() {
                None => Verb::Repair(None),
                Some(_) => Verb::Repair(Some((one(&mut words)?, one(&mut words)?))),
            },
            "link" => {
                let (one, other) = (one(&mut words)?, one(&mut words)?);
                words.must("delay")?;
                let delay = words.duration()?;
                let jitter = if words.eat("jitter") { words.duration()? } else { Duration::ZERO };
                let loss = if words.eat("loss") { words.number()? } else { 0.0 };
                Verb::Link { one, other, delay, jitter, loss }
            }
            "dns" => dns(&mut words)?,
            other => return Err(format!("`{other}` is not a command")),
        };
        words.end()?;
        Ok(verb)
    }
}

fn one(words: &mut Words<'_>) -> Result<String, String> {
    words.word("a name").map(str::to_owned)
}

fn dns(words: &mut Words<'_>) -> Result<Verb, String> {
    match words.word("add, remove, down, up or slow")? {
        "add" => {
            let name = one(words)?;
            match words.word("SRV or A")? {
                "SRV" => Ok(Verb::DnsAdd(DnsLine::Srv {
                    name,
                    priority: words.number()?,
                    weight: words.number()?,
                    port: words.number()?,
                    target: one(words)?,
                })),
                "A" => Ok(Verb::DnsAdd(DnsLine::Address { name, server: one(words)? })),
                other => Err(format!("expected SRV or A, found `{other}`")),
            }
        }
        "remove" => {
            let name = one(words)?;
            let target = words.peek().map(str::to_owned);
            if target.is_some() {
                words.word("a target")?;
            }
            Ok(Verb::DnsRemove(name, target))
        }
        "down" => Ok(Verb::DnsDown),
        "up" => Ok(Verb::DnsUp),
        "slow" => Ok(Verb::DnsSlow(words.duration()?)),
        other => Err(format!("expected add, remove, down, up or slow, found `{other}`")),
    }
}
