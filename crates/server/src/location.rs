//! Address-of-record → bindings, with their expiry: the only table (RFC 3261 §10).
//!
//! Beside the bindings the table keeps three indices (by expiry, by flow, by Contact) and, for a while, the
//! *departed*: Call-ID and CSeq of what was removed, so that a late or replayed REGISTER cannot bring it
//! back. Everything that changes the table goes through [`Location::put`] and [`Location::remove`], which
//! keep the indices true.
//!
//! Hash maps here are only ever looked up; whatever is walked is walked in order of address, so that the same
//! history gives the same outputs.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use sip::transport::Flow;
use sip::uri::{AddressOfRecord, Uri};

use crate::dialect::Dialect;
use crate::output::{BindingRecord, flow_from_text, flow_to_text};

/// What makes two registrations the same device.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Key {
    /// `+sip.instance` and `reg-id` (RFC 5626 §6); without reg-id for Lync-family clients, whose instance is
    /// the device and whose Contact changes with each connection.
    Instance(Box<str>, Option<u32>),
    /// The Contact URI, as it was first written; compared by RFC 3261 §19.1.4.
    Contact(Box<str>),
}

impl Key {
    /// The form that goes to disk: `urn:uuid:… 1`, `urn:uuid:…`, or `<sip:…>`.
    pub fn to_text(&self) -> String {
        match self {
            Key::Instance(instance, Some(reg_id)) => format!("{instance} {reg_id}"),
            Key::Instance(instance, None) => instance.to_string(),
            Key::Contact(uri) => format!("<{uri}>"),
        }
    }

    /// The reverse of [`Key::to_text`].
    pub fn from_text(text: &str) -> Key {
        if let Some(uri) = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
            return Key::Contact(uri.into());
        }
        if let Some((instance, reg_id)) = text.rsplit_once(' ')
            && let Ok(reg_id) = reg_id.parse()
        {
            return Key::Instance(instance.into(), Some(reg_id));
        }
        Key::Instance(text.into(), None)
    }

    /// The same device? Contact URIs are compared as URIs, not as text.
    pub fn matches(&self, other: &Key) -> bool {
        match (self, other) {
            (Key::Contact(one), Key::Contact(two)) => {
                one == two || matches!((Uri::parse(one), Uri::parse(two)), (Ok(one), Ok(two)) if one == two)
            }
            _ => self == other,
        }
    }
}

/// Where one device of a user is, until when.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Which device.
    pub key: Key,
    /// The Contact URI as written.
    pub contact: Box<str>,
    /// Orders changes, with `cseq`.
    pub call_id: Box<str>,
    /// Orders changes of one Call-ID.
    pub cseq: u32,
    /// Preference in thousandths.
    pub q: u16,
    /// When it ends.
    pub expires_at: Instant,
    /// What was granted last.
    pub granted: Duration,
    /// When the device came first.
    pub since: Instant,
    /// The flow the last REGISTER came by; requests to the device leave by it.
    pub flow: Flow,
    /// False after the flow was lost: the device is unreachable until it registers again.
    pub alive: bool,
    /// Proxies on the way (RFC 3327).
    pub path: Box<[Box<str>]>,
    /// What the device says it is.
    pub user_agent: Option<Box<str>>,
    /// `+sip.instance`, without the brackets.
    pub instance: Option<Box<str>>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
    /// What the client understands.
    pub dialect: Dialect,
    /// The To value of notices to the client: the REGISTER's From, tag and all (Lync-type clients take their
    /// REGISTER for a subscription). Empty after a restart.
    pub notify_to: Box<str>,
    /// The From tag of notices: the To tag of our 200.
    pub notify_tag: Box<str>,
}

impl Binding {
    /// The form that goes to disk.
    pub fn record(&self, aor: &AddressOfRecord, now: Instant) -> BindingRecord {
        let owned = |text: &Option<Box<str>>| text.as_ref().map(|text| text.to_string());
        BindingRecord {
            aor: aor.clone(),
            key: self.key.to_text(),
            contact: self.contact.to_string(),
            call_id: self.call_id.to_string(),
            cseq: self.cseq,
            q: self.q,
            expires_in: self.expires_at.saturating_duration_since(now),
            path: self.path.iter().map(|value| value.to_string()).collect(),
            flow: flow_to_text(&self.flow),
            user_agent: owned(&self.user_agent),
            instance: owned(&self.instance),
            reg_id: self.reg_id,
            dialect: self.dialect.to_string(),
        }
    }

    /// A binding read back at start. Its stream, if it came by one, did not survive us; `None` if the record
    /// makes no sense.
    pub fn restored(record: &BindingRecord, now: Instant) -> Option<Binding> {
        let flow = flow_from_text(&record.flow)?;
        Some(Binding {
            key: Key::from_text(&record.key),
            contact: record.contact.as_str().into(),
            call_id: record.call_id.as_str().into(),
            cseq: record.cseq,
            q: record.q,
            expires_at: now.checked_add(record.expires_in)?,
            granted: record.expires_in,
            since: now,
            flow,
            alive: !flow.transport.is_reliable(),
            path: record.path.iter().map(|value| value.as_str().into()).collect(),
            user_agent: record.user_agent.as_deref().map(Into::into),
            instance: record.instance.as_deref().map(Into::into),
            reg_id: record.reg_id,
            dialect: Dialect::from_text(&record.dialect),
            notify_to: "".into(),
            notify_tag: "".into(),
        })
    }
}

/// What was here and was removed: enough to recognise what came late.
#[derive(Clone, Debug, PartialEq)]
pub struct Departed {
    /// Which device.
    pub key: Key,
    /// Of the REGISTER in force when it was removed, or of the one that removed it.
    pub call_id: Box<str>,
    /// Likewise.
    pub cseq: u32,
    /// When it may be forgotten.
    pub until: Instant,
}

/// One user's devices.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// In order of arrival.
    pub bindings: Vec<Binding>,
    /// Removed lately.
    pub departed: Vec<Departed>,
}

/// More departed than this are not remembered for one user; the oldest goes.
const DEPARTED_MAX: usize = 16;

/// All bindings of this shard.
#[derive(Debug, Default)]
pub struct Location {
    /// The table.
    users: HashMap<AddressOfRecord, Set>,
    /// What ends when. The number tells apart what ends at the same moment, in order of arrival.
    ends: BTreeMap<(Instant, u64), (AddressOfRecord, Due)>,
    /// Where each binding stands in `ends`.
    clocks: HashMap<(AddressOfRecord, Key), (Instant, u64)>,
    /// Who registered over a flow.
    by_flow: HashMap<Flow, Vec<AddressOfRecord>>,
    /// Whose Contact this is, by its text.
    by_contact: HashMap<Box<str>, Vec<AddressOfRecord>>,
    /// Numbers `ends`.
    serial: u64,
    /// How many bindings there are.
    count: usize,
}

/// What comes due.
#[derive(Clone, Debug, PartialEq)]
enum Due {
    /// A binding ends.
    Binding(Key),
    /// Some departed of a user may be forgotten.
    Departed,
}

impl Location {
    /// The bindings of a user.
    pub fn bindings(&self, aor: &AddressOfRecord) -> &[Binding] {
        self.users.get(aor).map_or(&[], |set| &set.bindings)
    }

    /// The bindings of a user and what was removed lately.
    pub fn set(&self, aor: &AddressOfRecord) -> Option<&Set> {
        self.users.get(aor)
    }

    /// One binding.
    pub fn binding(&self, aor: &AddressOfRecord, key: &Key) -> Option<&Binding> {
        self.bindings(aor).iter().find(|binding| binding.key == *key)
    }

    /// How many bindings there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Users with a binding, in order.
    pub fn users(&self) -> Vec<AddressOfRecord> {
        let mut users: Vec<_> = self
            .users
            .iter()
            .filter(|(_, set)| !set.bindings.is_empty())
            .map(|(aor, _)| aor.clone())
            .collect();
        users.sort();
        users
    }

    /// Who registered over this flow.
    pub fn on_flow(&self, flow: &Flow) -> &[AddressOfRecord] {
        self.by_flow.get(flow).map_or(&[], Vec::as_slice)
    }

    /// The binding with that Contact URI, if exactly one user has it.
    pub fn by_contact(&self, uri: &str) -> Option<(&AddressOfRecord, &Binding)> {
        let [aor] = self.by_contact.get(uri)?.as_slice() else { return None };
        let binding = self.bindings(aor).iter().find(|binding| *binding.contact == *uri)?;
        Some((aor, binding))
    }

    /// Puts a binding in place of the one with its key. If that was of another Call-ID, its CSeq is remembered
    /// until `remember`: a captured REGISTER of the old one must not undo the new one.
    pub fn put(&mut self, aor: &AddressOfRecord, binding: Binding, remember: Instant) {
        let key = binding.key.clone();
        self.unindex(aor, &key);
        self.serial += 1;
        let clock = (binding.expires_at, self.serial);
        self.ends.insert(clock, (aor.clone(), Due::Binding(key.clone())));
        self.clocks.insert((aor.clone(), key.clone()), clock);
        // A connection from before a restart leads nowhere, and whoever has one of its number now proves nothing by it.
        if binding.alive {
            add(self.by_flow.entry(binding.flow).or_default(), aor);
        }
        add(self.by_contact.entry(binding.contact.clone()).or_default(), aor);
        let set = self.users.entry(aor.clone()).or_default();
        match set.bindings.iter_mut().find(|other| other.key == key) {
            Some(place) => {
                let old = std::mem::replace(place, binding);
                if old.call_id != place.call_id {
                    self.depart(aor, old.key, &old.call_id, old.cseq, remember);
                }
            }
            None => {
                set.bindings.push(binding);
                self.count += 1;
            }
        }
    }

    /// Takes a binding out. Remembered until `remember`, with the CSeq of the REGISTER that removed it if
    /// that is what happened.
    pub fn remove(
        &mut self,
        aor: &AddressOfRecord,
        key: &Key,
        by: Option<(&str, u32)>,
        remember: Instant,
    ) -> Option<Binding> {
        self.unindex(aor, key);
        let set = self.users.get_mut(aor)?;
        let place = set.bindings.iter().position(|binding| binding.key == *key)?;
        let binding = set.bindings.remove(place);
        self.count -= 1;
        let (call_id, cseq) = by.unwrap_or((&binding.call_id, binding.cseq));
        self.depart(aor, key.clone(), call_id, cseq, remember);
        Some(binding)
    }

    /// Remembers what is gone, for a while.
    pub fn depart(&mut self, aor: &AddressOfRecord, key: Key, call_id: &str, cseq: u32, until: Instant) {
        let set = self.users.entry(aor.clone()).or_default();
        let is_first = set.departed.is_empty();
        set.departed.retain(|departed| departed.key != key || *departed.call_id != *call_id);
        if set.departed.len() >= DEPARTED_MAX {
            set.departed.remove(0);
        }
        set.departed.push(Departed { key, call_id: call_id.into(), cseq, until });
        // One alarm for all of a user's: it is set again when it rings too early for some.
        if is_first {
            self.serial += 1;
            self.ends.insert((until, self.serial), (aor.clone(), Due::Departed));
        }
    }

    /// Marks every binding on a lost flow unreachable, and says whose they are.
    pub fn lose_flow(&mut self, flow: &Flow) -> Vec<(AddressOfRecord, Key)> {
        let mut lost = Vec::new();
        for aor in self.by_flow.remove(flow).unwrap_or_default() {
            let Some(set) = self.users.get_mut(&aor) else { continue };
            for binding in set.bindings.iter_mut().filter(|binding| binding.flow == *flow) {
                binding.alive = false;
                lost.push((aor.clone(), binding.key.clone()));
            }
        }
        lost
    }

    /// When something ends next.
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.first_key_value().map(|(&(at, _), _)| at)
    }

    /// The next binding that has ended by `now`; it is still in the table. Forgets the departed on the way.
    pub fn ended(&mut self, now: Instant) -> Option<(AddressOfRecord, Key)> {
        loop {
            let entry = self.ends.first_entry()?;
            if entry.key().0 > now {
                return None;
            }
            match entry.remove() {
                (aor, Due::Binding(key)) => return Some((aor, key)),
                (aor, Due::Departed) => {
                    let Some(set) = self.users.get_mut(&aor) else { continue };
                    set.departed.retain(|departed| departed.until > now);
                    if let Some(next) = set.departed.iter().map(|departed| departed.until).min() {
                        self.serial += 1;
                        self.ends.insert((next, self.serial), (aor, Due::Departed));
                    } else if set.bindings.is_empty() {
                        self.users.remove(&aor);
                    }
                }
            }
        }
    }

    /// Takes the binding with that key out of every index.
    fn unindex(&mut self, aor: &AddressOfRecord, key: &Key) {
        if let Some(clock) = self.clocks.remove(&(aor.clone(), key.clone())) {
            self.ends.remove(&clock);
        }
        let Some(set) = self.users.get(aor) else { return };
        let Some(binding) = set.bindings.iter().find(|binding| binding.key == *key) else { return };
        let others = || set.bindings.iter().filter(|other| other.key != *key);
        if !others().any(|other| other.flow == binding.flow) {
            drop_from(&mut self.by_flow, &binding.flow, aor);
        }
        if !others().any(|other| other.contact == binding.contact) {
            drop_from(&mut self.by_contact, &binding.contact, aor);
        }
    }
}

fn add(list: &mut Vec<AddressOfRecord>, aor: &AddressOfRecord) {
    if let Err(place) = list.binary_search(aor) {
        list.insert(place, aor.clone());
    }
}

fn drop_from<K: std::hash::Hash + Eq>(
    index: &mut HashMap<K, Vec<AddressOfRecord>>,
    key: &K,
    aor: &AddressOfRecord,
) {
    if let Some(list) = index.get_mut(key) {
        list.retain(|other| other != aor);
        if list.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{aor, epoch};

    #[test]
    fn signing_in_and_out_all_day_leaves_one_alarm_behind() {
        let (user, start) = (aor("user1"), epoch());
        let second = Duration::from_secs(1);
        let mut location = Location::default();
        for n in 0..100 {
            let (key, until) = (Key::Contact("sip:a".into()), start + second * (n + 10));
            location.depart(&user, key.clone(), &format!("call-{n}"), 1, until);
            location.depart(&user, key, &format!("call-{n}"), 2, until);
        }
        assert_eq!(location.ends.len(), 1);
        // Each is remembered until its own time all the same.
        assert_eq!(location.ended(start + second * 100), None);
        assert_eq!(location.set(&user).map(|set| set.departed.len()), Some(9));
        assert_eq!(location.ended(start + second * 200), None);
        assert!(location.set(&user).is_none() && location.next_end().is_none());
    }
}
