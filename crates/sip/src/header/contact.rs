//! Contact: where to reach somebody; a list, or `*` for all of them (RFC 3261 §10.2.2, §20.10).

use super::name_addr::NameAddr;

/// All the Contact values of one message.
#[derive(Clone, Debug)]
pub enum Contacts<'m> {
    /// No Contact line at all: in a REGISTER a question, not a change.
    None,
    /// `*`: remove every binding; valid only with `Expires: 0` (RFC 3261 §10.3 step 6).
    Star,
    /// One or more, in order.
    List(Vec<NameAddr<'m>>),
}

impl<'m> Contacts<'m> {
    /// The contacts, none for `*`.
    pub fn list(&self) -> &[NameAddr<'m>] {
        match self {
            Contacts::None | Contacts::Star => &[],
            Contacts::List(list) => list,
        }
    }
}

impl NameAddr<'_> {
    /// The `expires` parameter in seconds; a value that is no number counts as 3600 and one too large as
    /// the largest (RFC 3261 §20.10, §20.19; RFC 4475 §3.1.2.4).
    pub fn expires(&self) -> Option<u32> {
        self.params.get("expires").map(seconds)
    }

    /// The `q` parameter in thousandths; 1000 where there is none, as for a contact nobody ranked.
    pub fn q(&self) -> u16 {
        self.params.get("q").and_then(thousandths).unwrap_or(1000)
    }

    /// The `+sip.instance` parameter without quotes and brackets (RFC 5626 §4.1).
    pub fn instance(&self) -> Option<&str> {
        let value = self.params.get("+sip.instance")?;
        Some(value.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(value))
    }

    /// The `reg-id` parameter, 1 to 2³¹−1 (RFC 5626 §4.2.1).
    pub fn reg_id(&self) -> Option<u32> {
        crate::parse::number(self.params.get("reg-id")?).filter(|id| (1..=0x7fff_ffff).contains(id))
    }
}

/// Delta-seconds, forgiving as RFC 3261 §20.19 and RFC 4475 §3.1.2.4 would have it.
pub(crate) fn seconds(text: &str) -> u32 {
    match crate::parse::number::<u32>(text) {
        Some(seconds) => seconds,
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => u32::MAX,
        None => 3600,
    }
}

/// `qvalue`: 0 to 1 with up to three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = decimals.bytes().chain(std::iter::repeat(b'0')).take(3);
    let fraction = fraction.fold(0u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match (whole, fraction) {
        ("", _) if decimals.is_empty() => None,
        ("0" | "", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// The highest-ranked first; equal ones keep their order (RFC 3261 §16.6, §8.1.3.4).
pub fn by_q<'a, 'm>(contacts: &'a [NameAddr<'m>]) -> Vec<&'a NameAddr<'m>> {
    let mut ranked: Vec<_> = contacts.iter().collect();
    ranked.sort_by_key(|contact| std::cmp::Reverse(contact.q()));
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_is_read_in_thousandths() {
        for (text, q) in [
            ("1", Some(1000)),
            ("1.000", Some(1000)),
            ("0.7", Some(700)),
            (".5", Some(500)),
            ("0", Some(0)),
            ("0.001", Some(1)),
            (".", None),
            ("1.001", None),
            ("0.0001", None),
            ("2", None),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(thousandths(text), q, "{text}");
        }
    }

    #[test]
    fn expiry_is_forgiving() {
        assert_eq!(seconds("60"), 60);
        assert_eq!(seconds("280297596632815"), u32::MAX);
        assert_eq!(seconds("soon"), 3600);
        assert_eq!(seconds("-1"), 3600);
    }

    #[test]
    fn contacts_are_ranked_by_q_and_then_by_place() {
        let contacts: Vec<_> = ["<sip:a@x>;q=0.3", "<sip:b@x>;q=0.7", "<sip:c@x>;q=0.7", "<sip:d@x>"]
            .iter()
            .map(|text| NameAddr::parse(text).unwrap())
            .collect();
        let ranked: Vec<_> = by_q(&contacts).iter().map(|contact| contact.uri.user().unwrap()).collect();
        assert_eq!(ranked, ["d", "b", "c", "a"]);
    }

    #[test]
    fn an_instance_has_neither_quotes_nor_brackets() {
        let contact = NameAddr::parse(r#"<sip:a@x>;+sip.instance="<urn:uuid:0-1>";reg-id=1"#).unwrap();
        assert_eq!(contact.instance(), Some("urn:uuid:0-1"));
        assert_eq!(contact.reg_id(), Some(1));
        assert_eq!(NameAddr::parse("<sip:a@x>;reg-id=0").unwrap().reg_id(), None);
    }
}
