//! What holds for every message: printing and reading undo each other, nothing is lost, nothing smuggled in,
//! and no bytes whatever make a reader panic.

use bytes::Bytes;
use proptest::prelude::*;
use sip::exercise;
use sip::header::HeaderName as H;
use sip::message::Message;
use sip::method::Method;
use sip::print::{Builder, Rewrite};

/// The messages of RFC 4475: as odd as messages get before they are mutated.
fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The order of a folder is not the same everywhere, and a failure must replay.
    paths.sort();
    let is_message = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "dat");
    paths.into_iter().filter(is_message).map(|path| std::fs::read(path).unwrap()).collect()
}

/// Some moment; only differences matter.
#[expect(clippy::disallowed_methods, reason = "an epoch for virtual time; nothing depends on its value")]
fn epoch() -> std::time::Instant {
    std::time::Instant::now()
}

/// One change to a message; places are fractions of its length, in 65536ths.
#[derive(Clone, Debug)]
enum Mutation {
    /// Puts another byte there.
    Set(u16, u8),
    /// Puts in what parsers trip over.
    Insert(u16, &'static str),
    /// Takes out some bytes.
    Remove(u16, u8),
    /// Says some bytes again elsewhere.
    Repeat(u16, u16, u8),
    /// Goes on with another message.
    Splice(u16, usize),
}

const STUMBLING_BLOCKS: [&str; 24] = [
    "\r\n",
    "\r\n\r\n",
    "\r\n ",
    "\r",
    "\n",
    "\0",
    "\"",
    "\\",
    "<",
    ">",
    ",",
    ";",
    ":",
    "@",
    "%",
    "%00",
    "=",
    " ",
    "SIP/2.0",
    "Content-Length: 5\r\n",
    "\r\nVia: ",
    "4294967297",
    "\u{e9}",
    "*",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<u16>(), prop::sample::select(&STUMBLING_BLOCKS[..]))
            .prop_map(|(at, text)| Mutation::Insert(at, text)),
        (any::<u16>(), 1..40u8).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (any::<u16>(), any::<u16>(), 1..80u8)
            .prop_map(|(from, to, length)| Mutation::Repeat(from, to, length)),
        (any::<u16>(), any::<usize>()).prop_map(|(at, other)| Mutation::Splice(at, other)),
    ]
}

fn mutated(corpus: &[Vec<u8>], which: usize, mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = corpus[which % corpus.len()].clone();
    for mutation in mutations {
        let place = |at: u16| usize::from(at) * bytes.len() / 65536;
        match *mutation {
            Mutation::Set(at, byte) => {
                let at = place(at);
                if let Some(there) = bytes.get_mut(at) {
                    *there = byte;
                }
            }
            Mutation::Insert(at, text) => {
                let at = place(at);
                bytes.splice(at..at, text.bytes());
            }
            Mutation::Remove(at, length) => {
                let at = place(at);
                let end = (at + usize::from(length)).min(bytes.len());
                bytes.drain(at..end);
            }
            Mutation::Repeat(from, to, length) => {
                let (from, to) = (place(from), place(to));
                let end = (from + usize::from(length)).min(bytes.len());
                let again = bytes[from..end].to_vec();
                bytes.splice(to..to, again);
            }
            Mutation::Splice(at, other) => {
                let other = &corpus[other % corpus.len()];
                let at = place(at);
                let rest = usize::from(u16::MAX.wrapping_mul(7)) * other.len() / 65536;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[rest.min(at).min(other.len())..]);
            }
        }
    }
    bytes
}

/// Everything a header value could hold, line ends and all.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ -~]{0,40}", "[a\r\n :<>;,\"]{0,20}"]
}

/// How a value comes back after printing: control bytes are blanks, and blanks around it are not part of it.
fn cleaned(value: &str) -> String {
    let clean = |c: char| if c.is_ascii_control() && c != '\t' { ' ' } else { c };
    value.chars().map(clean).collect::<String>().trim_matches([' ', '\t']).to_owned()
}

fn request(headers: &[(String, String)], body: &[u8]) -> Bytes {
    let mut builder = Builder::request(&Method::Message, "sip:bob@example.test")
        .header(H::Via, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1")
        .header(H::From, "<sip:alice@example.test>;tag=1")
        .header(H::To, "<sip:bob@example.test>")
        .header(H::CallId, "1")
        .header(H::CSeq, "1 MESSAGE");
    for (name, value) in headers {
        builder = builder.header_named(name, value);
    }
    builder.body("text/plain", body).finish()
}

/// Headers nobody knows.
fn strangers() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("X-[a-zA-Z0-9.!%*_+`'~-]{1,12}", any_value()), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_the_corpus_breaks_a_reader(
        which in any::<usize>(),
        mutations in prop::collection::vec(mutation(), 0..6),
        piece in any::<u8>(),
    ) {
        thread_local!(static CORPUS: Vec<Vec<u8>> = corpus());
        let bytes = CORPUS.with(|corpus| mutated(corpus, which, &mutations));
        exercise::message(&bytes);
        exercise::uri(&bytes.split(|&byte| b"\r<> ".contains(&byte)).collect::<Vec<_>>().join(&b'\n'));
        exercise::digest(&bytes);
        exercise::transaction(&bytes, epoch());
        // Twice over, so that there is a next message to find the start of.
        exercise::frame(&[&[piece][..], &bytes, &bytes].concat());
    }

    #[test]
    fn two_uris_are_compared_without_direction(
        one in "sips?:([a-b%]{1,3}(:p)?@)?[hH](:5060)?(;(lr|ttl=1|x=[12%]|transport=(tcp|TCP))){0,3}(\\?a=[1b](&c=d)?)?",
        other in "sips?:(%6[12]|[a-b]){1,2}@[hH](:5060)?(;(lr|ttl=1|x=[12]|transport=(tcp|TCP))){0,3}",
    ) {
        exercise::uri(format!("{one}\n{other}").as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back_and_prints_the_same(headers in strangers(), body in any::<Vec<u8>>()) {
        let printed = request(&headers, &body);
        let read = Message::parse(printed.clone()).unwrap();
        prop_assert_eq!(read.validate(), Ok(()));
        prop_assert_eq!(read.body(), &body[..]);
        for (name, value) in &headers {
            let expected = cleaned(value);
            prop_assert!(read.headers_named(name).any(|there| there == expected), "{}: {:?}", name, value);
        }
        // Blanks at the end of a line go; nothing else does.
        let once = Rewrite::of(&read).finish();
        let twice = Rewrite::of(&Message::parse(once.clone()).unwrap()).finish();
        prop_assert_eq!(&once, &twice);
        if headers.iter().all(|(_, value)| cleaned(value) == *value) {
            let spaces = |bytes: &Bytes| String::from_utf8_lossy(bytes).replace(": \r\n", ":\r\n");
            prop_assert_eq!(spaces(&once), spaces(&printed));
        }
    }

    #[test]
    fn unknown_headers_survive_a_proxy(headers in strangers(), value in any_value()) {
        let came = Message::parse(request(&headers, b"body")).unwrap();
        let gone = Rewrite::of(&came)
            .request_uri("sip:bob@192.0.2.7")
            .push_front(H::Via, "SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK2")
            .push_front(H::RecordRoute, &value)
            .set(H::MaxForwards, 69)
            .remove_all(H::Route)
            .finish();
        let gone = Message::parse(gone).unwrap();
        let strange = |message: &Message| -> Vec<(String, String)> {
            let named = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            message.all_headers().filter(|(name, _)| name.starts_with("X-")).map(named).collect()
        };
        prop_assert_eq!(strange(&gone).len(), headers.len());
        prop_assert_eq!(strange(&gone), strange(&came));
        prop_assert_eq!(gone.body(), came.body());
    }

    #[test]
    fn no_value_smuggles_a_line_into_a_rewrite(
        value in any_value(), uri in any_value(), name in prop_oneof![any_value(), "[a-zA-Z]"], tag in any_value(),
    ) {
        let came = Message::parse(request(&[], b"")).unwrap();
        let before = came.all_headers().count();
        let gone = Rewrite::of(&came)
            .request_uri(&uri)
            .push_front(H::Route, &value)
            .push_back(H::Path, &value)
            .set(H::CallId, &value)
            // Last, for the name may be one that is set: `i` is Call-ID.
            .push_back_named(&name, &value)
            .finish();
        let lines = gone.split(|&byte| byte == b'\n').count();
        let named = usize::from(sip::parse::is_token(&name));
        // Start line, headers, empty line, and what is behind the last line end: nothing.
        prop_assert_eq!(lines, 1 + before + 2 + named + 2);
        prop_assert!(gone.ends_with(b"\r\n\r\n"));
        prop_assert_eq!(gone.iter().filter(|&&byte| byte == b'\r').count(), lines - 1);

        let answer = Builder::response(&came, 200, &value).to_tag(&tag).header(H::Reason, &value).finish();
        prop_assert_eq!(answer.split(|&byte| byte == b'\n').count(), 1 + 5 + 2 + 2);
    }
}
