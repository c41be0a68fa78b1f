//! One REGISTER against one set of bindings (RFC 3261 §10.3, RFC 5626 §6, RFC 3327).
//!
//! A pure function: it reads the set and returns a [`Plan`] or a [`Why`], and nothing is changed unless
//! everything may be (§10.3 step 7, "the binding updates MUST be committed only if all … succeed"). The steps
//! by their numbers in the RFC; the earlier ones (our domain, extensions, who is asking, whether they may) have
//! been taken by `screen` and `authenticate`:
//!
//! ```text
//! 6  no Contact        → nothing changes, the answer lists what there is
//!    Contact: *        → needs Expires: 0 and to be alone; each binding's CSeq must allow it
//! 7  each Contact      → expiry: its own parameter, else Expires, else the default
//!                        0 removes · below the minimum is 423 · above the maximum is cut
//!                        same Call-ID needs a higher CSeq, else the whole request fails
//! 8  the answer        → every binding with what is left of it
//! ```
//!
//! A retransmission (same Call-ID, same CSeq, already carried out) changes nothing and is answered again with
//! 200 instead of being called out of order: REGISTERs have no stored transaction here.

use std::time::{Duration, Instant};

use resilience::profile::Expiry;
use sip::header::{Contacts, HeaderName};
use sip::message::Message;
use sip::parse::ParseError;
use sip::transport::Flow;
use sip::uri::Uri;

use crate::decision::Why;
use crate::dialect::Dialect;
use crate::location::{Binding, Key, Set};

/// One REGISTER, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is to be changed.
    pub wish: Wish,
    /// The Expires header.
    pub expires: Option<u32>,
    /// Orders changes, with `cseq`.
    pub call_id: Box<str>,
    /// Orders changes of one Call-ID.
    pub cseq: u32,
    /// Proxies on the way (RFC 3327), in order.
    pub path: Box<[Box<str>]>,
    /// What the device says it is.
    pub user_agent: Option<Box<str>>,
    /// What the client understands.
    pub dialect: Dialect,
    /// The way it came.
    pub flow: Flow,
    /// The From value, tag and all.
    pub from: Box<str>,
    /// The tag our 200 will carry.
    pub to_tag: Box<str>,
}

/// What a REGISTER wants changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Nothing; it asks what there is.
    Nothing,
    /// Every binding gone: `Contact: *`.
    RemoveAll,
    /// These.
    Contacts(Vec<Asked>),
}

/// One Contact of a REGISTER.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The URI as written.
    pub uri: Box<str>,
    /// Its own wish, before the Expires header.
    pub expires: Option<u32>,
    /// In thousandths.
    pub q: u16,
    /// `+sip.instance`.
    pub instance: Option<Box<str>>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
}

/// What a registrar grants.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Shortest, default, longest.
    pub expiry: Expiry,
    /// A wish below the shortest is raised to it, as the model does, instead of answered 423.
    pub raise_brief: bool,
    /// Bindings per user.
    pub max_contacts: usize,
}

/// What is to be done if the REGISTER is granted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// New or refreshed, in order.
    pub puts: Vec<Binding>,
    /// To be removed because the client says so.
    pub removals: Vec<Key>,
    /// To be removed to make room: dead devices of the same user, the oldest first.
    pub evictions: Vec<Key>,
    /// Removed before, and now removed once more: only the CSeq to remember is a newer one.
    pub removed_again: Vec<Key>,
    /// Every binding put was there before.
    pub refreshed: bool,
}

impl Request {
    /// Reads a REGISTER that came by `flow`.
    pub fn read(message: &Message, flow: Flow, to_tag: &str) -> Result<Request, ParseError> {
        let dialect = Dialect::of(message);
        let wish = match message.contacts()? {
            Contacts::None => Wish::Nothing,
            Contacts::Star => Wish::RemoveAll,
            Contacts::List(list) => Wish::Contacts(
                list.iter()
                    .map(|contact| Asked {
                        uri: contact.uri.as_str().into(),
                        expires: contact.expires(),
                        q: contact.q(),
                        instance: contact.instance().map(Into::into),
                        reg_id: contact.reg_id(),
                    })
                    .collect(),
            ),
        };
        Ok(Request {
            wish,
            expires: message.expires(),
            call_id: message.call_id()?.into(),
            cseq: message.cseq()?.number,
            path: message.values(HeaderName::Path).map(Into::into).collect(),
            user_agent: message.header(HeaderName::UserAgent).map(Into::into),
            dialect,
            flow,
            from: message.header(HeaderName::From).unwrap_or_default().into(),
            to_tag: to_tag.into(),
        })
    }

    /// Whether the set is already as this request, come by this flow, wants it, and this request made it so.
    ///
    /// Then what looks like a replay is a retransmission. Digest protects neither Contact nor Call-ID, so whatever
    /// would still change something is a replay, even if its credentials were good once.
    pub fn is_carried_out(&self, set: &Set) -> bool {
        let left = |key: Option<&Key>| {
            set.departed.iter().any(|departed| {
                departed.call_id == self.call_id
                    && departed.cseq == self.cseq
                    && key.is_none_or(|key| departed.key.matches(key))
            })
        };
        let is_done = |asked: &Asked| {
            let key = self.key(asked);
            match set.bindings.iter().find(|binding| binding.key.matches(&key)) {
                Some(binding) => {
                    binding.call_id == self.call_id
                        && binding.cseq == self.cseq
                        && binding.flow == self.flow
                        && binding.contact == asked.uri
                }
                None => left(Some(&key)),
            }
        };
        match &self.wish {
            Wish::Nothing => false,
            Wish::RemoveAll => set.bindings.is_empty() && left(None),
            Wish::Contacts(list) => list.iter().all(is_done),
        }
    }

    /// Whether this takes away what is in the set, or took it away and comes once more: a device that leaves, where it
    /// was bound.
    pub fn is_farewell_to(&self, set: &Set) -> bool {
        let is_held = |asked: &Asked| {
            let key = self.key(asked);
            set.bindings.iter().any(|binding| binding.key.matches(&key))
        };
        let (is_removal, is_held) = match &self.wish {
            Wish::Nothing => (false, false),
            Wish::RemoveAll => (true, !set.bindings.is_empty()),
            Wish::Contacts(list) => {
                (list.iter().all(|asked| asked.expires.or(self.expires) == Some(0)), list.iter().any(is_held))
            }
        };
        is_removal && (is_held || self.is_carried_out(set))
    }

    /// The device a Contact is about.
    pub fn key(&self, asked: &Asked) -> Key {
        let is_lync = self.dialect.lync || self.dialect.registrars;
        match (&asked.instance, asked.reg_id) {
            (Some(instance), Some(reg_id)) => Key::Instance(instance.clone(), Some(reg_id)),
            (Some(instance), None) if is_lync => Key::Instance(instance.clone(), None),
            _ => Key::Contact(asked.uri.clone()),
        }
    }
}

/// Decides one REGISTER.
pub fn register(request: &Request, set: &Set, limits: &Limits, now: Instant) -> Result<Plan, Why> {
    match &request.wish {
        Wish::Nothing => Ok(Plan::default()),
        Wish::RemoveAll => remove_all(request, set),
        Wish::Contacts(list) => change(request, list, set, limits, now),
    }
}

/// §10.3 step 6, `Contact: *`.
fn remove_all(request: &Request, set: &Set) -> Result<Plan, Why> {
    if request.expires != Some(0) {
        return Err(Why::BadStar);
    }
    let late = |binding: &Binding| binding.call_id == request.call_id && request.cseq <= binding.cseq;
    if set.bindings.iter().any(late) {
        return Err(Why::OutOfOrder);
    }
    Ok(Plan { removals: set.bindings.iter().map(|binding| binding.key.clone()).collect(), ..Plan::default() })
}

/// §10.3 step 7.
fn change(request: &Request, list: &[Asked], set: &Set, limits: &Limits, now: Instant) -> Result<Plan, Why> {
    // One to come for each that goes; comparing more with each other would keep us busy for seconds.
    if list.len() > 2 * limits.max_contacts {
        return Err(Why::TooManyContacts);
    }
    let mut plan = Plan { refreshed: true, ..Plan::default() };
    for asked in list {
        let wished = request.key(asked);
        let old = set.bindings.iter().find(|binding| binding.key.matches(&wished));
        let granted = grant(asked.expires.or(request.expires), limits)?;
        match order(request, &wished, old, set) {
            Order::Newer => {}
            // Carried out before: a retransmission.
            Order::Same if granted.is_some() == old.is_some() => continue,
            Order::Same | Order::Older => return Err(Why::OutOfOrder),
        }
        match (granted, old) {
            (None, Some(old)) => plan.removals.push(old.key.clone()),
            (None, None) => plan.removed_again.push(wished),
            (Some(granted), old) => {
                check_contact(&asked.uri)?;
                plan.refreshed &= old.is_some();
                let binding = bind(request, asked, granted, old, wished, now);
                // The same device twice in one request: the later one counts.
                plan.puts.retain(|other| !other.key.matches(&binding.key));
                plan.puts.push(binding);
            }
        }
    }
    plan.refreshed &= !plan.puts.is_empty();
    make_room(&mut plan, set, limits)?;
    Ok(plan)
}

/// What a wish is worth: `None` removes. The maximum cuts it, which any registrar may do; only the minimum is
/// a reason to refuse.
fn grant(wish: Option<u32>, limits: &Limits) -> Result<Option<Duration>, Why> {
    let Some(wish) = wish else { return Ok(Some(limits.expiry.grant(None))) };
    if wish == 0 {
        return Ok(None);
    }
    let wish = Duration::from_secs(wish.into());
    if wish < limits.expiry.min && !limits.raise_brief {
        return Err(Why::TooBrief { min: limits.expiry.min });
    }
    Ok(Some(limits.expiry.grant(Some(wish))))
}

/// How a REGISTER stands to what it would change.
enum Order {
    /// It may.
    Newer,
    /// It is the one that made things as they are.
    Same,
    /// Something newer of its Call-ID has been here.
    Older,
}

fn order(request: &Request, key: &Key, old: Option<&Binding>, set: &Set) -> Order {
    let of_binding = old.filter(|old| old.call_id == request.call_id).map(|old| old.cseq);
    let of_departed = || {
        set.departed
            .iter()
            .filter(|departed| departed.call_id == request.call_id && departed.key.matches(key))
            .map(|departed| departed.cseq)
            .max()
    };
    match of_binding.or_else(of_departed).map(|seen| request.cseq.cmp(&seen)) {
        None | Some(std::cmp::Ordering::Greater) => Order::Newer,
        Some(std::cmp::Ordering::Equal) => Order::Same,
        Some(std::cmp::Ordering::Less) => Order::Older,
    }
}

fn check_contact(uri: &str) -> Result<(), Why> {
    match Uri::parse(uri) {
        Ok(uri) if uri.is_sip() => Ok(()),
        Ok(_) | Err(_) => Err(Why::BadContact),
    }
}

fn bind(
    request: &Request,
    asked: &Asked,
    granted: Duration,
    old: Option<&Binding>,
    key: Key,
    now: Instant,
) -> Binding {
    Binding {
        // The key of an equal URI stays as it was first written: it is what the disk knows.
        key: old.map_or(key, |old| old.key.clone()),
        contact: asked.uri.clone(),
        call_id: request.call_id.clone(),
        cseq: request.cseq,
        q: asked.q,
        expires_at: now + granted,
        granted,
        since: old.map_or(now, |old| old.since),
        flow: request.flow,
        alive: true,
        path: request.path.clone(),
        user_agent: request.user_agent.clone(),
        instance: asked.instance.clone(),
        reg_id: asked.reg_id,
        dialect: request.dialect,
        notify_to: request.from.clone(),
        notify_tag: request.to_tag.clone(),
    }
}

/// Keeps a user within the limit: dead devices make room for living ones, the oldest first.
fn make_room(plan: &mut Plan, set: &Set, limits: &Limits) -> Result<(), Why> {
    let stays = |key: &Key| !plan.removals.contains(key) && !plan.puts.iter().any(|put| put.key == *key);
    let staying: Vec<&Binding> = set.bindings.iter().filter(|binding| stays(&binding.key)).collect();
    let excess = (staying.len() + plan.puts.len()).saturating_sub(limits.max_contacts);
    if excess == 0 || plan.puts.is_empty() {
        return Ok(());
    }
    let mut dead: Vec<&Binding> = staying.into_iter().filter(|binding| !binding.alive).collect();
    if dead.len() < excess {
        return Err(Why::TooManyContacts);
    }
    dead.sort_by_key(|binding| binding.expires_at);
    plan.evictions = dead.into_iter().take(excess).map(|binding| binding.key.clone()).collect();
    Ok(())
}

#[cfg(test)]
mod tests;
