//! Which names to ask DNS for, in which order, and what the answers are worth.
//!
//! Asked about a SIP domain, discovery walks this list and stops at the first line that yields a server
//! (RFC 3263 §4 for the public names, the model's own for the internal ones):
//!
//! | # | question | transport | |
//! | --- | --- | --- | --- |
//! | 0 | NAPTR of the domain | | profile `rehome` only; the services it names go before the rest |
//! | 1 | SRV `_sipinternaltls._tcp` | TLS | |
//! | 2 | SRV `_sipinternal._tcp` | TCP | |
//! | 3 | SRV `_sip._tls` | TLS | |
//! | 4 | SRV `_sips._tcp` | TLS | |
//! | 5 | SRV `_sip._tcp` | TCP | |
//! | 6 | SRV `_sip._udp` | UDP | |
//! | 7 | A and AAAA of `sipinternal.`, `sip.`, `sipexternal.` and the domain | any | all that exist are used |
//!
//! Lines whose transport is not allowed are left out. The questions of lines 0 to 6 leave together and
//! those of line 7 together, so a DNS server that is silent costs its time-out once, not ten times; the
//! answers are still weighed strictly in order. A time-out is reported with the name it belongs to and
//! the walk goes on. Inside one SRV answer: priority, then weight (RFC 2782).
//!
//! Nothing is kept: whoever has tried all candidates in vain comes back and asks again.
//!
//! Not here: what makes us look in DNS at all (`attempt`), and trying the candidates (`endpoint`).

use std::collections::VecDeque;
use std::net::IpAddr;

use rand_core::Rng;
use sip::locate::{Answer, DnsFailure, Query, Record, Srv, order_srv};
use sip::transport::Transport;

use crate::event::{Event, Found, NameRefusal};
use crate::registrar::{Registrar, host_name, lies_in};

/// SRV services of a SIP domain in the order of asking.
const SERVICES: [(&str, Transport); 6] = [
    ("_sipinternaltls._tcp", Transport::Tls),
    ("_sipinternal._tcp", Transport::Tcp),
    ("_sip._tls", Transport::Tls),
    ("_sips._tcp", Transport::Tls),
    ("_sip._tcp", Transport::Tcp),
    ("_sip._udp", Transport::Udp),
];

/// Hosts that are a SIP server by convention where no SRV record exists; the last one is the domain.
const HOSTS: [&str; 4] = ["sipinternal.", "sip.", "sipexternal.", ""];

/// One walk down the list.
#[derive(Debug)]
pub(crate) struct Discovery {
    /// The domain or host the questions are about.
    about: String,
    /// The domain that SRV targets must lie in, if names are strict.
    within: Option<String>,
    /// Transports to be used for line 7, in order.
    transports: Vec<Transport>,
    /// True once the NAPTR answer has been worked in, or where none was asked for.
    naptr_done: bool,
    /// SRV questions still to be weighed, the next at the front.
    services: VecDeque<(String, Transport)>,
    /// Hosts of line 7 still to be weighed.
    hosts: VecDeque<String>,
    /// True once the questions of line 7 have left.
    hosts_asked: bool,
    /// Questions asked, with their answers as they come.
    asked: Vec<(Query, Option<Answer>)>,
    /// Questions to hand out.
    questions: VecDeque<Query>,
    /// Things to say.
    events: VecDeque<Event>,
    /// What line 7 has yielded so far.
    found: Vec<Registrar>,
}

/// What a walk says when polled.
#[derive(Debug)]
pub(crate) enum Step {
    /// Ask DNS.
    Ask(Query),
    /// Say this.
    Say(Event),
    /// An answer is outstanding.
    Wait,
    /// The walk is over; these are to be tried in this order.
    Done(Vec<Registrar>),
}

impl Discovery {
    /// Looks for the servers of a user's SIP domain.
    pub(crate) fn of_domain(domain: &str, transports: &[Transport], strict: bool, naptr: bool) -> Discovery {
        let services = SERVICES
            .iter()
            .filter(|(_, transport)| transports.contains(transport))
            .map(|(service, transport)| (format!("{service}.{domain}"), *transport));
        let hosts = HOSTS.iter().map(|prefix| format!("{prefix}{domain}"));
        let mut discovery = Discovery {
            about: domain.to_owned(),
            within: strict.then(|| domain.to_owned()),
            transports: transports.to_vec(),
            naptr_done: !naptr,
            services: services.collect(),
            hosts: hosts.collect(),
            hosts_asked: false,
            asked: Vec::new(),
            questions: VecDeque::new(),
            events: VecDeque::new(),
            found: Vec::new(),
        };
        if naptr {
            discovery.ask(Query::Naptr(domain.to_owned()));
        }
        for (name, _) in discovery.services.clone() {
            discovery.ask(Query::Srv(name));
        }
        discovery
    }

    /// Hears an answer; one that was not asked for is left lying.
    pub(crate) fn handle_answer(&mut self, query: &Query, answer: Answer) {
        if let Some((_, slot)) = self.asked.iter_mut().find(|(asked, slot)| asked == query && slot.is_none())
        {
            *slot = Some(answer);
        }
    }

    /// The world has been silent for too long: whatever is unanswered has timed out.
    pub(crate) fn give_up_waiting(&mut self) {
        for (_, slot) in &mut self.asked {
            slot.get_or_insert(Answer::Failed(DnsFailure::TimedOut));
        }
    }

    /// What to do next. Call until it says `Wait` or `Done`.
    pub(crate) fn poll(&mut self, rng: &mut dyn Rng) -> Step {
        loop {
            if let Some(query) = self.questions.pop_front() {
                return Step::Ask(query);
            }
            if let Some(event) = self.events.pop_front() {
                return Step::Say(event);
            }
            if let Some(step) = self.weigh(rng) {
                return step;
            }
        }
    }

    /// Weighs the next answer in line. `None`: something was added to the queues.
    fn weigh(&mut self, rng: &mut dyn Rng) -> Option<Step> {
        if !self.naptr_done {
            let query = Query::Naptr(self.about.clone());
            let Some(answer) = self.answer(&query) else { return Some(Step::Wait) };
            self.naptr_done = true;
            self.weigh_naptr(query, answer);
            return None;
        }
        if let Some((name, transport)) = self.services.front().cloned() {
            let query = Query::Srv(name);
            let Some(answer) = self.answer(&query) else { return Some(Step::Wait) };
            self.services.pop_front();
            let candidates = self.weigh_srv(query, transport, answer, rng);
            if !candidates.is_empty() {
                self.services.clear();
                self.hosts.clear();
                self.found = candidates;
            }
            return None;
        }
        if let Some(host) = self.hosts.front().cloned() {
            if !self.hosts_asked {
                self.hosts_asked = true;
                for host in self.hosts.clone() {
                    self.ask(Query::Address(host));
                }
                return None;
            }
            let query = Query::Address(host.clone());
            let Some(answer) = self.answer(&query) else { return Some(Step::Wait) };
            self.hosts.pop_front();
            self.weigh_host(query, &host, answer);
            return None;
        }
        Some(Step::Done(std::mem::take(&mut self.found)))
    }

    /// Puts the services a NAPTR answer names in front of the others, in its order (RFC 3263 §4.1).
    fn weigh_naptr(&mut self, query: Query, answer: Answer) {
        let mut named: Vec<(u16, u16, String, Transport)> = records(&answer)
            .iter()
            .filter_map(|record| match record {
                Record::Naptr(naptr) => {
                    let transport = match naptr.service.to_ascii_uppercase().as_str() {
                        "SIPS+D2T" => Transport::Tls,
                        "SIP+D2T" => Transport::Tcp,
                        "SIP+D2U" => Transport::Udp,
                        _ => return None,
                    };
                    let name = naptr.replacement.trim_end_matches('.').to_ascii_lowercase();
                    self.transports.contains(&transport).then_some((
                        naptr.order,
                        naptr.preference,
                        name,
                        transport,
                    ))
                }
                _ => None,
            })
            .collect();
        named.sort_by_key(|(order, preference, ..)| (*order, *preference));
        self.say(query, &answer, named.iter().map(|(_, _, name, _)| name.clone()).collect());
        for (_, _, name, transport) in named.into_iter().rev() {
            self.services.retain(|(known, _)| *known != name);
            self.services.push_front((name.clone(), transport));
            self.ask(Query::Srv(name));
        }
    }

    /// Turns one SRV answer into candidates: ordered, and those outside the domain refused.
    fn weigh_srv(
        &mut self,
        query: Query,
        transport: Transport,
        answer: Answer,
        rng: &mut dyn Rng,
    ) -> Vec<Registrar> {
        let srv: Vec<Srv> = records(&answer)
            .iter()
            .filter_map(|record| match record {
                // A target of "." says that the service is decidedly not here (RFC 2782).
                Record::Srv(srv) if !srv.target.trim_end_matches('.').is_empty() => Some(srv.clone()),
                _ => None,
            })
            .collect();
        let ordered = order_srv(srv, rng);
        let targets: Vec<String> = ordered.iter().map(|srv| host_name(&srv.target)).collect();
        self.say(query, &answer, targets.clone());
        let mut candidates = Vec::new();
        for (srv, host) in ordered.iter().zip(targets) {
            if let Some(domain) = &self.within
                && !lies_in(&host, domain)
            {
                let why = NameRefusal::OutsideDomain;
                self.events.push_back(Event::NameRefused { name: host, why });
                continue;
            }
            candidates.push(Registrar { host, port: Some(srv.port), transport });
        }
        candidates
    }

    /// Turns the addresses of one conventional host into candidates, one per allowed transport.
    fn weigh_host(&mut self, query: Query, host: &str, answer: Answer) {
        let addresses = addresses(&answer);
        self.say(query, &answer, addresses.iter().map(ToString::to_string).collect());
        if addresses.is_empty() {
            return;
        }
        for transport in self.transports.clone() {
            let port = Some(transport.default_port());
            self.found.push(Registrar { host: host.to_owned(), port, transport });
        }
    }

    fn ask(&mut self, query: Query) {
        if !self.asked.iter().any(|(asked, _)| *asked == query) {
            self.asked.push((query.clone(), None));
            self.questions.push_back(query);
        }
    }

    fn answer(&self, query: &Query) -> Option<Answer> {
        self.asked.iter().find(|(asked, _)| asked == query).and_then(|(_, answer)| answer.clone())
    }

    fn say(&mut self, question: Query, answer: &Answer, names: Vec<String>) {
        self.events.push_back(Event::Discovered { question, found: found(answer, names) });
    }
}

/// What to report of an answer that yielded `names`.
pub(crate) fn found(answer: &Answer, names: Vec<String>) -> Found {
    match answer {
        Answer::Failed(failure) => Found::Failed(*failure),
        _ if names.is_empty() => Found::Nothing,
        _ => Found::Names(names),
    }
}

/// The addresses in an answer, each once, in the order given.
pub(crate) fn addresses(answer: &Answer) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for record in records(answer) {
        if let Record::Address(address) = record
            && !addresses.contains(address)
        {
            addresses.push(*address);
        }
    }
    addresses
}

fn records(answer: &Answer) -> &[Record] {
    match answer {
        Answer::Records(records) => records,
        Answer::None | Answer::Failed(_) => &[],
    }
}
