//! Bytes to index: one pass over the head, `memchr` from line end to line end.
//!
//! Lines end with CRLF and nothing else; a CR or LF alone is refused, since two readers that disagree about
//! where a line ends disagree about what the message says. A line that goes on with white space is folded
//! (RFC 3261 §7.3.1): its CRLFs become blanks in a copy, so all offsets stay what they were. In the same way
//! bytes that are no UTF-8 become `?`, so that whoever sent them can be told.

use bytes::Bytes;

use super::{ParseError, is_space, number};
use crate::header::HeaderName;
use crate::message::{Index, Line, MAX_HEAD, Start};

/// How many header lines we index; more is a flood, not a message.
const MAX_LINES: usize = 512;

/// What ends a head.
const EMPTY_LINE: &str = "an empty line after the headers";

/// Reads the head and finds the body.
pub(crate) fn read(bytes: Bytes) -> Result<(Bytes, Index), ParseError> {
    let bytes = without_leading_lines(bytes);
    let (bytes, mut index) = match scan(&bytes)? {
        Scan::Done(index) => (bytes, index),
        Scan::Folded => {
            let unfolded = unfold(&bytes);
            match scan(&unfolded)? {
                Scan::Done(index) => (unfolded, index),
                Scan::Folded => return Err(ParseError::new(0, "a line that ends", "RFC 3261 §7.3.1")),
            }
        }
    };
    let (bytes, illegible) = legible(bytes, index.body);
    index.flaw = index.flaw.or(illegible);
    let end = end_of_body(&bytes, &mut index);
    Ok((bytes.slice(..end), index))
}

/// Empty lines before a message are ignored (RFC 3261 §7.5).
fn without_leading_lines(bytes: Bytes) -> Bytes {
    let mut start = 0;
    while bytes.get(start..start + 2) == Some(b"\r\n") {
        start += 2;
    }
    if start == 0 { bytes } else { bytes.slice(start..) }
}

/// What a pass over the head came to.
enum Scan {
    /// The index; the body is still to be measured.
    Done(Index),
    /// There is a folded line: unfold and pass again.
    Folded,
}

fn scan(bytes: &[u8]) -> Result<Scan, ParseError> {
    let (first, mut at) = line_at(bytes, 0)?;
    let mut flaw = None;
    let start = start_line(bytes, first, &mut flaw)?;
    if bytes.get(at).copied().is_some_and(is_space) {
        return Err(ParseError::new(at, "a start line that is not folded", "RFC 3261 §7"));
    }
    // Most messages fit; one allocation for all lines.
    let mut lines = Vec::with_capacity(24);
    let mut names: u128 = 0;
    let mut repeated = None;

    loop {
        if at == bytes.len() {
            // The last line is whole; only the empty one is missing, as in RFC 4475 §3.1.2.15.
            flaw = flaw.or(Some(ParseError::new(at, EMPTY_LINE, "RFC 3261 §7")));
            return Ok(Scan::Done(Index { start, lines, names, body: at, flaw, repeated }));
        }
        let (end, next) = line_at(bytes, at)?;
        if end == at {
            return Ok(Scan::Done(Index { start, lines, names, body: next, flaw, repeated }));
        }
        if bytes.get(next).copied().is_some_and(is_space) {
            return Ok(Scan::Folded);
        }
        match header_line(bytes, at, end) {
            Ok(line) => {
                if names & line.name.bit() != 0 && line.name.is_single() {
                    repeated = repeated.or(Some(line.name));
                }
                names |= line.name.bit();
                lines.push(line);
            }
            Err(error) => flaw = flaw.or(Some(error)),
        }
        if lines.len() > MAX_LINES {
            return Err(ParseError::new(at, "no more than 512 header lines", "RFC 3261 §21.5.7"));
        }
        at = next;
    }
}

/// End of the line that starts at `start`, and the start of the next.
fn line_at(bytes: &[u8], start: usize) -> Result<(usize, usize), ParseError> {
    const RFC: &str = "RFC 3261 §7";
    let rest = bytes.get(start..).unwrap_or_default();
    // A CR or LF inside a quoted pair is refused as well: the grammar does not have them.
    match memchr::memchr2(b'\r', b'\n', rest) {
        Some(length) if start + length + 2 > MAX_HEAD => {
            Err(ParseError::new(MAX_HEAD, "a head below 64 KiB", "RFC 3261 §21.5.7"))
        }
        Some(length) if rest.get(length..length + 2) == Some(b"\r\n") => {
            Ok((start + length, start + length + 2))
        }
        Some(length) => Err(ParseError::new(start + length, "CR and LF together", RFC)),
        None => Err(ParseError::new(bytes.len(), EMPTY_LINE, RFC)),
    }
}

/// Offsets are below [`MAX_HEAD`]: `line_at` has seen to it.
fn short(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// Name, colon, value. A blank before the colon is allowed (RFC 3261 §7.3.1, §25.1 HCOLON).
fn header_line(bytes: &[u8], start: usize, end: usize) -> Result<Line, ParseError> {
    const RFC: &str = "RFC 3261 §7.3.1";
    let line = bytes.get(start..end).unwrap_or_default();
    let length = line.iter().position(|&byte| !super::has(byte, super::TOKEN)).unwrap_or(line.len());
    let blanks = line[length..].iter().take_while(|&&byte| is_space(byte)).count();
    if length == 0 || line.get(length + blanks) != Some(&b':') {
        return Err(ParseError::new(start + length, "a header: name and colon", RFC));
    }
    let name = HeaderName::of_bytes(&line[..length]);
    let mut value = length + blanks + 1;
    while line.get(value).copied().is_some_and(is_space) {
        value += 1;
    }
    let mut value_end = line.len();
    while value_end > value && is_space(line[value_end - 1]) {
        value_end -= 1;
    }
    Ok(Line {
        name,
        start: short(start),
        name_end: short(start + length),
        value: short(start + value),
        value_end: short(start + value_end),
    })
}

/// Request line or status line. Mistakes that leave method and version readable are flaws, to be answered.
fn start_line(bytes: &[u8], end: usize, flaw: &mut Option<ParseError>) -> Result<Start, ParseError> {
    let line = bytes.get(..end).unwrap_or_default();
    if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
        status_line(line, flaw)
    } else {
        request_line(line, flaw)
    }
}

fn request_line(line: &[u8], flaw: &mut Option<ParseError>) -> Result<Start, ParseError> {
    const RFC: &str = "RFC 3261 §7.1";
    let method = line.iter().position(|&byte| !super::has(byte, super::TOKEN)).unwrap_or(line.len());
    if method == 0 || line.get(method) != Some(&b' ') {
        return Err(ParseError::new(method, "a method and a blank", RFC));
    }
    let mut end = line.len();
    while end > 0 && is_space(line[end - 1]) {
        end -= 1;
    }
    let version = memchr::memrchr(b' ', &line[..end]).map_or(0, |blank| blank + 1);
    if version <= method || !is_version(&line[version..end]) {
        return Err(ParseError::new(version.max(method), "SIP/2.0 at the end of the line", RFC));
    }
    let (uri_start, uri_end) = (method + 1, version.saturating_sub(1).max(method + 1));
    let uri = &line[uri_start..uri_end];
    if end != line.len() {
        *flaw = Some(ParseError::new(end, "nothing behind the version", RFC));
    } else if let Some(at) = uri.iter().position(|&byte| is_space(byte)) {
        *flaw = Some(ParseError::new(uri_start + at, "one blank before and behind the Request-URI", RFC));
    } else if uri.is_empty() {
        *flaw = Some(ParseError::new(uri_start, "a Request-URI", RFC));
    }
    Ok(Start::Request {
        method: short(method),
        uri: (short(uri_start), short(uri_end)),
        version: (short(version), short(end)),
    })
}

fn status_line(line: &[u8], flaw: &mut Option<ParseError>) -> Result<Start, ParseError> {
    const RFC: &str = "RFC 3261 §7.2";
    let version = memchr::memchr(b' ', line).unwrap_or(line.len());
    if !is_version(&line[..version]) {
        return Err(ParseError::new(0, "SIP/2.0 at the start of the line", RFC));
    }
    let code_at = (version + 1).min(line.len());
    let code = &line[code_at..];
    let code = &code[..code.iter().take_while(|byte| byte.is_ascii_digit()).count()];
    let after = code_at + code.len();
    let status = match code {
        &[hundreds @ b'1'..=b'6', tens, ones] => {
            let digit = |byte: u8| u16::from(byte - b'0');
            digit(hundreds) * 100 + digit(tens) * 10 + digit(ones)
        }
        _ => 0,
    };
    if status == 0 {
        *flaw = Some(ParseError::new(code_at, "a status of three digits, 100 to 699", RFC));
    } else if line.get(after).is_some_and(|&byte| byte != b' ') {
        *flaw = Some(ParseError::new(after, "a blank behind the status", RFC));
    }
    // The blank is due even before an empty phrase (RFC 4475 §3.1.1.13); its absence hurts nobody.
    let reason = (after + 1).min(line.len());
    Ok(Start::Response { version: short(version), status, reason: (short(reason), short(line.len())) })
}

/// `SIP/` digits `.` digits; which digits is for the verdict.
fn is_version(text: &[u8]) -> bool {
    let Some((name, digits)) = text.split_at_checked(4) else {
        return false;
    };
    let mut halves = digits.split(|&byte| byte == b'.');
    let mut half =
        || halves.next().is_some_and(|half| !half.is_empty() && half.iter().all(u8::is_ascii_digit));
    name.eq_ignore_ascii_case(b"SIP/") && half() && half() && halves.next().is_none()
}

/// The same bytes with a head that is text, and what was wrong with it: bytes that are no UTF-8, or control
/// bytes. The grammar has those only behind a backslash (`quoted-pair`); anywhere else a terminal, a log or
/// the next server could take them for something they are not.
fn legible(bytes: Bytes, head: usize) -> (Bytes, Option<ParseError>) {
    let text = bytes.get(..head).unwrap_or_default();
    if let Err(error) = std::str::from_utf8(text) {
        let flaw = ParseError::new(error.valid_up_to(), "UTF-8", "RFC 3261 §7");
        return (mended(&bytes, head), Some(flaw));
    }
    // Looks at every byte whatever it finds, which compiles to a few wide instructions; there is nearly never
    // one to be found.
    if !text.iter().fold(false, |found, &byte| found | is_control(byte)) {
        return (bytes, None);
    }
    let mut is_escaped = false;
    let naked = text.iter().position(|&byte| {
        let is_naked = is_control(byte) && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_naked
    });
    let flaw = naked.map(|at| ParseError::new(at, "no control bytes", "RFC 3261 §25.1"));
    (bytes, flaw)
}

/// True for what no line may hold; CR and LF have been found only where lines end.
fn is_control(byte: u8) -> bool {
    // `&` and `|` on purpose: no branches, so that many bytes are looked at together.
    (byte < b' ') & (byte != b'\t') & (byte != b'\r') & (byte != b'\n') | (byte == 0x7f)
}

/// A copy in which each byte of the head that is no UTF-8 is a question mark.
fn mended(bytes: &[u8], head: usize) -> Bytes {
    let mut copy = bytes.to_vec();
    let mut at = 0;
    while let Err(error) = std::str::from_utf8(copy.get(at..head).unwrap_or_default()) {
        let start = at + error.valid_up_to();
        at = error.error_len().map_or(head, |length| start + length);
        copy[start..at].fill(b'?');
    }
    Bytes::from(copy)
}

/// Where the body ends; a length that cannot be is a flaw, and the body then is all there is.
fn end_of_body(bytes: &[u8], index: &mut Index) -> usize {
    const RFC: &str = "RFC 3261 §18.3";
    let there = bytes.len().saturating_sub(index.body);
    let Some(line) = index.lines.iter().find(|line| line.name == HeaderName::ContentLength) else {
        return bytes.len();
    };
    let at = usize::from(line.value);
    let value = bytes.get(at..usize::from(line.value_end)).unwrap_or_default();
    let length =
        std::str::from_utf8(value).ok().and_then(number::<u32>).and_then(|n| usize::try_from(n).ok());
    let wrong = match length {
        _ if index.repeated == Some(HeaderName::ContentLength) => {
            ParseError::new(at, "Content-Length once", "RFC 4475 §3.3.9")
        }
        None => ParseError::new(at, "a length: digits, below 2^32", "RFC 3261 §20.14"),
        Some(length) if length > there => {
            ParseError::new(bytes.len(), "as many bytes of body as Content-Length says", RFC)
        }
        Some(length) => return index.body + length,
    };
    index.flaw = index.flaw.or(Some(wrong));
    bytes.len()
}

/// A copy in which each CRLF that is followed by white space is two blanks, up to the empty line.
fn unfold(bytes: &[u8]) -> Bytes {
    let mut copy = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\r', bytes.get(at..).unwrap_or_default()) {
        let cr = at + found;
        match bytes.get(cr + 1..cr + 4) {
            Some(b"\n\r\n") => break,
            Some([b'\n', b' ' | b'\t', _]) => copy[cr..cr + 2].fill(b' '),
            _ => {}
        }
        at = cr + 1;
    }
    Bytes::from(copy)
}
