//! Claims: what a story says must be seen, each with a bound.
//!
//! A claim is judged from the [`History`] alone, so it means the same in every world. Times count
//! from the last command (`start`), and only what was seen from then on (`from`) counts.
//!
//! | claim | holds when |
//! | --- | --- |
//! | `USER at PLACE [full\|limited] BOUND` | the user stands there |
//! | `USER signed out BOUND` | the user stands nowhere |
//! | `USER stays at PLACE for D` | the user never stands elsewhere |
//! | `USER stays out for D` | no REGISTER is answered 200, and the user stands nowhere in the end |
//! | `USER tries PLACE BOUND` | a connection there is attempted |
//! | `USER tries only PLACE[, PLACE]` | no connection elsewhere was attempted |
//! | `USER tries at most N times` | so far |
//! | `USER asks NAME BOUND` | DNS is asked for it |
//! | `USER told "TEXT" [naming PLACE] BOUND` | a registration NOTIFY says so |
//! | `USER says "TEXT" BOUND`, `SERVER says …` | its log does |
//! | `USER ended KIND at PLACE BOUND` | a registration record is closed with that number |
//! | `USER gets STATUS BOUND` | the user's call or message ends so |
//! | `USER reached BOUND` | somebody's request reaches the user |
//! | `STATUS to USER [from PLACE] [saying "TEXT"] [listing A, B] BOUND` | a REGISTER is answered so |
//! | `no\|one\|two STATUS [to USER] [from PLACE]` | that many answers so far |
//! | `never STATUS [to USER] [from PLACE] before D` | none until then |
//! | `no NOTIFY [to USER] [from PLACE]`, `never NOTIFY … before D` | likewise |
//! | `SERVER sees POOL STATE BOUND`, `SERVER never sees POOL STATE before D` | the partner machine is there |
//!
//! BOUND is `within D` or `between D and D`.

use std::time::Duration;

use resilience::partner::State;
use resilience::topology::{Pool, ServerEntry};

use super::Setup;
use super::words::Words;
use crate::history::{History, Place, Service, What};

/// How long a claim has time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct When {
    /// Not before.
    pub earliest: Duration,
    /// Not after.
    pub latest: Duration,
}

/// How often something was seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    /// Exactly this often, up to now.
    Exactly(usize),
    /// Not once until then.
    NeverBefore(Duration),
}

/// What is counted: answers with a status, or NOTIFYs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message {
    /// A final answer to a REGISTER.
    Status(u16),
    /// A registration NOTIFY.
    Notify,
}

/// One claim.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the table above says what each claim and each of its parts means")]
pub enum Expectation {
    At {
        user: String,
        place: String,
        service: Option<Service>,
        when: When,
    },
    SignedOut {
        user: String,
        when: When,
    },
    StaysAt {
        user: String,
        place: String,
        span: Duration,
    },
    StaysOut {
        user: String,
        span: Duration,
    },
    Tries {
        user: String,
        place: String,
        when: When,
    },
    TriesOnly {
        user: String,
        places: Vec<String>,
    },
    TriesAtMost {
        user: String,
        times: usize,
    },
    Asks {
        user: String,
        name: String,
        when: When,
    },
    Told {
        user: String,
        text: String,
        naming: Option<String>,
        when: When,
    },
    Says {
        who: String,
        text: String,
        when: When,
    },
    Ended {
        user: String,
        kind: u8,
        place: String,
        when: When,
    },
    Gets {
        user: String,
        status: u16,
        when: When,
    },
    Reached {
        user: String,
        when: When,
    },
    Answer {
        status: u16,
        user: String,
        from: Option<String>,
        saying: Option<String>,
        listing: Vec<String>,
        when: When,
    },
    Messages {
        message: Message,
        user: Option<String>,
        from: Option<String>,
        count: Count,
    },
    Sees {
        server: String,
        pool: String,
        state: String,
        when: When,
    },
    NeverSees {
        server: String,
        pool: String,
        state: String,
        before: Duration,
    },
}

/// What is known about a claim so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing yet speaks for or against it.
    Open,
    /// It holds, since this long after the command.
    Holds(Duration, String),
    /// It cannot hold any more.
    Broken(Duration, String),
}

impl Expectation {
    /// Reads a claim, without the word `expect` and without a step's label.
    pub fn parse(text: &str) -> Result<Expectation, String> {
        let mut words = Words::new(text);
        let first = words.word("a claim")?;
        let expectation = match first {
            "no" => messages(&mut words, Some(0))?,
            "one" => messages(&mut words, Some(1))?,
            "two" => messages(&mut words, Some(2))?,
            "never" => messages(&mut words, None)?,
            status if status.chars().all(|c| c.is_ascii_digit()) => answer(&mut words, status)?,
            who => about(&mut words, who.to_owned())?,
        };
        words.end()?;
        Ok(expectation)
    }

    /// Whether this world has whom a claim names, where the claim holds if nothing is seen: of a name with a slip of the
    /// pen nothing is ever seen. Any other claim fails by itself then.
    pub(super) fn check_names(&self, setup: &Setup) -> Result<(), String> {
        let user = |name: &String| match setup.user_of(name) {
            Some(_) => Ok(()),
            None => Err(format!("no user is called `{name}`")),
        };
        let place = |name: &String| {
            let is_here = |pool: &Pool, server: &ServerEntry| {
                Place { server: server.name.to_string(), pool: pool.name.to_string() }.is(name)
            };
            let mut pools = setup.topology.pools.iter();
            match pools.any(|pool| pool.servers.iter().any(|server| is_here(pool, server))) {
                true => Ok(()),
                false => Err(format!("no server or pool is called `{name}`")),
            }
        };
        match self {
            Expectation::StaysAt { user: who, place: at, .. } => user(who).and_then(|()| place(at)),
            Expectation::StaysOut { user: who, .. } | Expectation::TriesAtMost { user: who, .. } => user(who),
            Expectation::TriesOnly { user: who, places } => {
                user(who).and_then(|()| places.iter().try_for_each(place))
            }
            Expectation::Messages { user: who, from, .. } => {
                who.iter().try_for_each(user).and_then(|()| from.iter().try_for_each(place))
            }
            Expectation::NeverSees { server, pool, state, .. } => {
                place(server)?;
                if setup.topology.pool(pool).is_none() {
                    return Err(format!("no pool is called `{pool}`"));
                }
                match State::ALL.iter().any(|known| known.to_string() == *state) {
                    true => Ok(()),
                    false => Err(format!("a partner is never `{state}`")),
                }
            }
            _ => Ok(()),
        }
    }

    /// When, after the command, everything is known; zero for claims about what has been.
    pub(super) fn deadline(&self) -> Duration {
        match self {
            Expectation::At { when, .. }
            | Expectation::SignedOut { when, .. }
            | Expectation::Tries { when, .. }
            | Expectation::Asks { when, .. }
            | Expectation::Told { when, .. }
            | Expectation::Says { when, .. }
            | Expectation::Ended { when, .. }
            | Expectation::Gets { when, .. }
            | Expectation::Reached { when, .. }
            | Expectation::Answer { when, .. }
            | Expectation::Sees { when, .. } => when.latest,
            Expectation::StaysAt { span, .. } | Expectation::StaysOut { span, .. } => *span,
            Expectation::Messages { count: Count::NeverBefore(before), .. }
            | Expectation::NeverSees { before, .. } => *before,
            Expectation::Messages { .. }
            | Expectation::TriesOnly { .. }
            | Expectation::TriesAtMost { .. } => Duration::ZERO,
        }
    }

    /// Judges the claim by what was seen from entry `from` on, `start` being the time of the command.
    pub(super) fn judge(&self, history: &History, from: usize, start: Duration) -> Verdict {
        let court = Court { history, from, start };
        match self {
            Expectation::At { user, place, service, when } => {
                court.standing(user, *when, |now, service_now| {
                    now.is_some_and(|now| now.is(place)) && service.is_none_or(|wanted| wanted == service_now)
                })
            }
            Expectation::SignedOut { user, when } => court.standing(user, *when, |now, _| now.is_none()),
            Expectation::StaysAt { user, place, span } => {
                let before = history.standing_before(user, from);
                if !before.place.as_ref().is_some_and(|now| now.is(place)) {
                    return Verdict::Broken(Duration::ZERO, before.to_string());
                }
                court.never(*span, |what| match what {
                    What::Standing { user: who, place: now, .. } if who == user => {
                        (!now.as_ref().is_some_and(|now| now.is(place))).then(|| stands(now.as_ref()))
                    }
                    _ => None,
                })
            }
            Expectation::StaysOut { user, span } => court.never(*span, |what| match what {
                What::Answered { user: who, status: 200, place, .. } if who == user => {
                    Some(format!("200 from {place}"))
                }
                _ => None,
            }),
            Expectation::Tries { user, place, when } => court.first(*when, |what| match what {
                What::Tried { user: who, place: to } if who == user && to.is(place) => {
                    Some(format!("tries {to}"))
                }
                _ => None,
            }),
            Expectation::TriesOnly { user, places } => court.never(Duration::ZERO, |what| match what {
                What::Tried { user: who, place }
                    if who == user && !places.iter().any(|only| place.is(only)) =>
                {
                    Some(format!("tries {place}"))
                }
                _ => None,
            }),
            Expectation::TriesAtMost { user, times } => {
                let tried = court.count(|what| matches!(what, What::Tried { user: who, .. } if who == user));
                let seen = format!("{tried} tries");
                if tried <= *times {
                    Verdict::Holds(Duration::ZERO, seen)
                } else {
                    Verdict::Broken(Duration::ZERO, seen)
                }
            }
            Expectation::Asks { user, name, when } => court.first(*when, |what| match what {
                What::Asked { user: who, query } if who == user && query.contains(name) => {
                    Some(format!("asks {query}"))
                }
                _ => None,
            }),
            Expectation::Told { user, text, naming, when } => court.first(*when, |what| match what {
                What::Told { user: who, text: told, preferred, .. } if who == user && told.contains(text) => {
                    let named = naming
                        .as_ref()
                        .is_none_or(|name| preferred.as_ref().is_some_and(|told| told == name));
                    named.then(|| match preferred {
                        Some(preferred) => format!("{told}, {preferred}"),
                        None => told.clone(),
                    })
                }
                _ => None,
            }),
            Expectation::Says { who, text, when } => court.first(*when, |what| match what {
                What::Said { who: speaker, text: said } if is_who(speaker, who) && said.contains(text) => {
                    Some(said.clone())
                }
                _ => None,
            }),
            Expectation::Ended { user, kind, place, when } => court.first(*when, |what| match what {
                What::Ended { server, user: who, kind: found }
                    if is_device_of(user, who) && server.is(place) && found == kind =>
                {
                    Some(format!("record at {server}: type {found}"))
                }
                _ => None,
            }),
            Expectation::Gets { user, status, when } => court.first(*when, |what| match what {
                What::Outcome { user: who, status: got } if who == user && got == status => {
                    Some(got.to_string())
                }
                _ => None,
            }),
            Expectation::Reached { user, when } => court.first(*when, |what| match what {
                What::Rang { user: who, method } if who == user => Some(format!("{method} arrives")),
                _ => None,
            }),
            Expectation::Answer { status, user, from, saying, listing, when } => {
                court.first(*when, |what| match what {
                    What::Answered { user: who, status: got, place, contacts, text, .. } => {
                        let fits = who == user
                            && got == status
                            && from.as_ref().is_none_or(|from| place.is(from))
                            && saying.as_ref().is_none_or(|text_wanted| text.contains(text_wanted))
                            && (listing.is_empty() || listing == contacts);
                        fits.then(|| {
                            if contacts.is_empty() {
                                format!("{got} from {place}")
                            } else {
                                format!("{got}: {}", contacts.join(", "))
                            }
                        })
                    }
                    _ => None,
                })
            }
            Expectation::Messages { message, user, from, count } => {
                let seen = |what: &What| message_seen(what, *message, user.as_deref(), from.as_deref());
                match count {
                    Count::NeverBefore(before) => court.never(*before, seen),
                    Count::Exactly(wanted) => {
                        let found = court.count(|what| seen(what).is_some());
                        let words = format!("{found} seen");
                        if found == *wanted {
                            Verdict::Holds(Duration::ZERO, words)
                        } else {
                            Verdict::Broken(Duration::ZERO, words)
                        }
                    }
                }
            }
            Expectation::Sees { server, pool, state, when } => {
                court.first(*when, |what| partner(what, server, pool, state))
            }
            Expectation::NeverSees { server, pool, state, before } => {
                court.never(*before, |what| partner(what, server, pool, state))
            }
        }
    }

    /// What there is to say when time is up and the claim is still open: a claim that something
    /// happens has failed, a claim that nothing happens has held.
    pub(super) fn at_the_end(&self, history: &History) -> Verdict {
        match self {
            Expectation::StaysAt { user, span, .. } => {
                Verdict::Holds(*span, history.standing(user).to_string())
            }
            Expectation::StaysOut { user, span } => {
                let standing = history.standing(user);
                let seen = standing.to_string();
                if standing.place.is_none() {
                    Verdict::Holds(*span, seen)
                } else {
                    Verdict::Broken(*span, seen)
                }
            }
            Expectation::TriesOnly { .. } => Verdict::Holds(Duration::ZERO, "nothing else".to_owned()),
            Expectation::Messages { count: Count::NeverBefore(span), .. }
            | Expectation::NeverSees { before: span, .. } => Verdict::Holds(*span, "none".to_owned()),
            Expectation::At { user, when, .. } | Expectation::SignedOut { user, when } => {
                Verdict::Broken(when.latest, history.standing(user).to_string())
            }
            other => Verdict::Broken(other.deadline(), "not seen".to_owned()),
        }
    }
}

/// The evidence of one claim.
struct Court<'a> {
    history: &'a History,
    from: usize,
    start: Duration,
}

impl Court<'_> {
    /// The first thing seen that fits.
    fn first(&self, when: When, fits: impl Fn(&What) -> Option<String>) -> Verdict {
        for seen in self.history.since(self.from) {
            let after = seen.at.saturating_sub(self.start);
            if after > when.latest {
                break;
            }
            if let Some(words) = fits(&seen.what) {
                return if after >= when.earliest {
                    Verdict::Holds(after, words)
                } else {
                    Verdict::Broken(after, words)
                };
            }
        }
        Verdict::Open
    }

    /// Nothing that fits is seen for `span`; with a span of zero, up to now.
    fn never(&self, span: Duration, fits: impl Fn(&What) -> Option<String>) -> Verdict {
        for seen in self.history.since(self.from) {
            let after = seen.at.saturating_sub(self.start);
            if !span.is_zero() && after > span {
                break;
            }
            if let Some(words) = fits(&seen.what) {
                return Verdict::Broken(after, words);
            }
        }
        Verdict::Open
    }

    fn count(&self, fits: impl Fn(&What) -> bool) -> usize {
        self.history.since(self.from).iter().filter(|seen| fits(&seen.what)).count()
    }

    /// The first moment at which the user stands as wanted, the present standing included.
    fn standing(&self, user: &str, when: When, fits: impl Fn(Option<&Place>, Service) -> bool) -> Verdict {
        let before = self.history.standing_before(user, self.from);
        if fits(before.place.as_ref(), before.service) {
            let words = stands(before.place.as_ref());
            return if when.earliest.is_zero() {
                Verdict::Holds(Duration::ZERO, words)
            } else {
                Verdict::Broken(Duration::ZERO, words)
            };
        }
        self.first(when, |what| match what {
            What::Standing { user: who, service, place } if who == user && fits(place.as_ref(), *service) => {
                Some(match service {
                    Service::Limited => format!("{}, limited", stands(place.as_ref())),
                    _ => stands(place.as_ref()),
                })
            }
            _ => None,
        })
    }
}

fn stands(place: Option<&Place>) -> String {
    place.map_or_else(|| "signed out".to_owned(), |place| format!("at {place}"))
}

/// Whether a record's user, which knows no devices, is the user of this device name.
fn is_device_of(device: &str, user: &str) -> bool {
    device == user || device.split('/').next() == Some(user)
}

/// Speakers are clients by name, or servers by full name or first label.
fn is_who(speaker: &str, who: &str) -> bool {
    speaker == who || (!who.contains('.') && speaker.split('.').next() == Some(who))
}

fn message_seen(what: &What, message: Message, user: Option<&str>, from: Option<&str>) -> Option<String> {
    let (who, place, words) = match (what, message) {
        (What::Answered { user, place, status, .. }, Message::Status(wanted)) if *status == wanted => {
            (user, place, format!("{status} from {place} to {user}"))
        }
        (What::Told { user, place, text, .. }, Message::Notify) => {
            (user, place, format!("{text} from {place} to {user}"))
        }
        _ => return None,
    };
    (user.is_none_or(|wanted| wanted == who) && from.is_none_or(|wanted| place.is(wanted))).then_some(words)
}

fn partner(what: &What, server: &str, pool: &str, state: &str) -> Option<String> {
    match what {
        What::Partner { server: at, pool: about, state: now, .. }
            if at.is(server) && about == pool && now == state =>
        {
            Some(format!("{at} sees {about} {now}"))
        }
        _ => None,
    }
}

fn about(words: &mut Words<'_>, user: String) -> Result<Expectation, String> {
    Ok(match words.word("at, signed, stays, tries, asks, told, says, ended, gets, reached or sees")? {
        "at" => {
            let place = words.word("a server or pool")?.to_owned();
            let service = if words.eat("full") {
                Some(Service::Full)
            } else if words.eat("limited") {
                Some(Service::Limited)
            } else {
                None
            };
            Expectation::At { user, place, service, when: when(words)? }
        }
        "signed" => {
            words.must("out")?;
            Expectation::SignedOut { user, when: when(words)? }
        }
        "stays" => {
            let out = words.eat("out");
            let place = if out {
                String::new()
            } else {
                words.must("at")?;
                words.word("a server or pool")?.to_owned()
            };
            words.must("for")?;
            let span = words.duration()?;
            if out {
                Expectation::StaysOut { user, span }
            } else {
                Expectation::StaysAt { user, place, span }
            }
        }
        "tries" => {
            if words.eat("only") {
                Expectation::TriesOnly { user, places: list(words.rest()) }
            } else if words.eat("at") {
                words.must("most")?;
                let times = words.number()?;
                words.must("times")?;
                Expectation::TriesAtMost { user, times }
            } else {
                Expectation::Tries {
                    user,
                    place: words.word("a server or pool")?.to_owned(),
                    when: when(words)?,
                }
            }
        }
        "asks" => Expectation::Asks { user, name: words.quoted("a name")?.to_owned(), when: when(words)? },
        "told" => {
            let text = words.quoted("what is told")?.to_owned();
            let naming = if words.eat("naming") { Some(words.word("a registrar")?.to_owned()) } else { None };
            Expectation::Told { user, text, naming, when: when(words)? }
        }
        "says" => {
            Expectation::Says { who: user, text: words.quoted("a text")?.to_owned(), when: when(words)? }
        }
        "ended" => {
            let kind = words.number()?;
            words.must("at")?;
            Expectation::Ended {
                user,
                kind,
                place: words.word("a server or pool")?.to_owned(),
                when: when(words)?,
            }
        }
        "gets" => Expectation::Gets { user, status: words.number()?, when: when(words)? },
        "reached" => Expectation::Reached { user, when: when(words)? },
        "sees" => Expectation::Sees {
            server: user,
            pool: words.word("a pool")?.to_owned(),
            state: words.word("a state")?.to_owned(),
            when: when(words)?,
        },
        "never" => {
            words.must("sees")?;
            let (pool, state) = (words.word("a pool")?.to_owned(), words.word("a state")?.to_owned());
            words.must("before")?;
            Expectation::NeverSees { server: user, pool, state, before: words.duration()? }
        }
        other => return Err(format!("`{user} {other} …` is not a claim")),
    })
}

fn answer(words: &mut Words<'_>, status: &str) -> Result<Expectation, String> {
    let status = status.parse().map_err(|_| format!("`{status}` is no status code"))?;
    words.must("to")?;
    let user = words.word("a user")?.to_owned();
    let from = if words.eat("from") { Some(words.word("a server or pool")?.to_owned()) } else { None };
    let saying = if words.eat("saying") { Some(words.quoted("a text")?.to_owned()) } else { None };
    let mut listing = Vec::new();
    if words.eat("listing") {
        while let Some(word) = words.peek().filter(|word| *word != "within" && *word != "between") {
            listing.push(word.trim_end_matches(',').to_owned());
            words.word("a name")?;
        }
    }
    Ok(Expectation::Answer { status, user, from, saying, listing, when: when(words)? })
}

fn messages(words: &mut Words<'_>, exactly: Option<usize>) -> Result<Expectation, String> {
    let message = match words.word("a status code or NOTIFY")? {
        "NOTIFY" => Message::Notify,
        status => Message::Status(status.parse().map_err(|_| format!("`{status}` is no status code"))?),
    };
    let user = if words.eat("to") { Some(words.word("a user")?.to_owned()) } else { None };
    let from = if words.eat("from") { Some(words.word("a server or pool")?.to_owned()) } else { None };
    let count = match exactly {
        Some(count) => Count::Exactly(count),
        None => {
            words.must("before")?;
            Count::NeverBefore(words.duration()?)
        }
    };
    Ok(Expectation::Messages { message, user, from, count })
}

fn when(words: &mut Words<'_>) -> Result<When, String> {
    if words.eat("between") {
        let earliest = words.duration()?;
        words.must("and")?;
        return Ok(When { earliest, latest: words.duration()? });
    }
    words.must("within")?;
    Ok(When { earliest: Duration::ZERO, latest: words.duration()? })
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}
