//! Who is asking: challenge and response arithmetic of Digest, for both ends.
//!
//! A server sends a [`Challenge`] per algorithm it takes; a client picks the [`strongest`] and
//! [`answer`]s; the server reads [`Credentials`] and compares them with the stored [`Ha1`].
//! Passwords appear only in [`Ha1::of`]: what is kept at rest is HA1, per algorithm.
//!
//! ```text
//!   HA1 = H(user ":" realm ":" password)
//!   HA2 = H(method ":" uri)                            qop absent, or auth
//!   HA2 = H(method ":" uri ":" H(body))                qop auth-int
//!   response = H(HA1 ":" nonce ":" HA2)                qop absent (RFC 2069)
//!   response = H(HA1 ":" nonce ":" nc ":" cnonce ":" qop ":" HA2)
//! ```
//!
//! RFC 3261 §22, RFC 7616, RFC 8760; RFC 2617 for what older clients do. Nonces are in [`NonceKey`],
//! replay in [`NonceCounts`].
//!
//! Not here: the `-sess` variants and SHA-512-256 (no SIP client asks for them), `userhash`, and the
//! decision whom to challenge, which is the server's.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use md5::Md5;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

mod list;
mod nonce;
#[cfg(test)]
mod tests;

pub use nonce::{Counted, NonceCounts, NonceKey, NonceVerdict};

use list::Item;

use crate::parse::ParseError;

/// A hash that both ends must share. Ordered from weak to strong.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// The only one that every SIP client knows; what an absent `algorithm` parameter means.
    Md5,
    /// RFC 8760's choice for everyone else.
    Sha256,
}

impl Algorithm {
    /// Every algorithm, the strongest first: the order in which RFC 8760 §2.3 wants challenges listed.
    pub const STRONGEST_FIRST: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Md5];

    /// The token of the `algorithm` parameter.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    /// Bytes in one hash of this kind.
    pub fn size(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha256 => 32,
        }
    }

    /// Hashes the parts with a colon between each two, as every formula of Digest does.
    fn hash(self, parts: &[&[u8]]) -> Hash {
        match self {
            Algorithm::Md5 => {
                let mut hasher = Md5::new();
                feed(parts, |bytes| hasher.update(bytes));
                Hash::new(&hasher.finalize())
            }
            Algorithm::Sha256 => {
                let mut hasher = Sha256::new();
                feed(parts, |bytes| hasher.update(bytes));
                Hash::new(&hasher.finalize())
            }
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = Unusable;

    fn from_str(token: &str) -> Result<Self, Unusable> {
        Self::STRONGEST_FIRST
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(token))
            .ok_or(Unusable::UnknownAlgorithm)
    }
}

fn feed(parts: &[&[u8]], mut update: impl FnMut(&[u8])) {
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            update(b":");
        }
        update(part);
    }
}

/// One hash, of either size.
#[derive(Clone, Copy)]
struct Hash {
    bytes: [u8; 32],
    size: usize,
}

impl Hash {
    fn new(of: &[u8]) -> Hash {
        let mut bytes = [0; 32];
        bytes[..of.len()].copy_from_slice(of);
        Hash { bytes, size: of.len() }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }

    fn hex(&self) -> Hex {
        Hex::of(self.bytes())
    }
}

/// Lower-case hexadecimal on the stack: hashes are hashed again in this form, once or twice per request.
struct Hex {
    digits: [u8; 64],
    size: usize,
}

impl Hex {
    fn of(bytes: &[u8]) -> Hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [b'0'; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Hex { digits, size: bytes.len() * 2 }
    }

    fn bytes(&self) -> &[u8] {
        &self.digits[..self.size]
    }

    fn to_text(&self) -> String {
        self.bytes().iter().map(|digit| char::from(*digit)).collect()
    }
}

/// Reads exactly `size` bytes of hexadecimal, either case.
fn from_hex(text: &str, size: usize) -> Option<Hash> {
    let text = text.as_bytes();
    if text.len() != size * 2 || size > 32 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(Hash { bytes, size })
}

//------------ Ha1 ------------------------------------------------------------

/// What is stored of a password: the hash of user, realm and password for one algorithm.
///
/// As good as the password within its realm, so `Debug` shows the algorithm alone and `==` takes the
/// same time whatever the bytes.
#[derive(Clone, Copy)]
pub struct Ha1 {
    /// Whose formula made it, and so which responses it can check.
    algorithm: Algorithm,
    /// The hash; the first half only for MD5.
    bytes: [u8; 32],
}

impl Ha1 {
    /// Computes it from the password: when a user is added, and in clients.
    pub fn of(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> Ha1 {
        let hash = algorithm.hash(&[user.as_bytes(), realm.as_bytes(), password.as_bytes()]);
        Ha1 { algorithm, bytes: hash.bytes }
    }

    /// Reads the stored form: hexadecimal of exactly the algorithm's length.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Option<Ha1> {
        from_hex(hex, algorithm.size()).map(|hash| Ha1 { algorithm, bytes: hash.bytes })
    }

    /// The form to store. Treat it as the password it stands for.
    pub fn to_hex(&self) -> String {
        self.hash().hex().to_text()
    }

    /// The algorithm it belongs to.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn hash(&self) -> Hash {
        Hash { bytes: self.bytes, size: self.algorithm.size() }
    }
}

impl PartialEq for Ha1 {
    fn eq(&self, other: &Ha1) -> bool {
        self.algorithm == other.algorithm && bool::from(self.hash().bytes().ct_eq(other.hash().bytes()))
    }
}

impl Eq for Ha1 {}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ha1({}, hidden)", self.algorithm)
    }
}

//------------ Qop and Asked --------------------------------------------------

/// How much of a request the response protects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Qop {
    /// Method and URI.
    Auth,
    /// The body too. Understood, never offered.
    AuthInt,
}

impl Qop {
    /// The token of the `qop` parameter.
    pub fn name(self) -> &'static str {
        match self {
            Qop::Auth => "auth",
            Qop::AuthInt => "auth-int",
        }
    }

    fn from_token(token: &str) -> Option<Qop> {
        [Qop::Auth, Qop::AuthInt].into_iter().find(|qop| qop.name().eq_ignore_ascii_case(token))
    }
}

/// The request that is being protected.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'m> {
    /// Its method, as on the start line.
    pub method: &'m str,
    /// Its Request-URI, as on the start line.
    pub uri: &'m str,
    /// Its body; read only under `auth-int`.
    pub body: &'m [u8],
}

/// HA2 for this protection.
fn ha2(algorithm: Algorithm, qop: Option<Qop>, method: &str, uri: &str, body: &[u8]) -> Hash {
    match qop {
        None | Some(Qop::Auth) => algorithm.hash(&[method.as_bytes(), uri.as_bytes()]),
        Some(Qop::AuthInt) => {
            let body = algorithm.hash(&[body]).hex();
            algorithm.hash(&[method.as_bytes(), uri.as_bytes(), body.bytes()])
        }
    }
}

/// The last line of the formula. `counted` holds `nc`, `cnonce` and `qop` of anything newer than RFC 2069.
fn response(ha1: &Ha1, nonce: &str, counted: Option<(&str, &str, Qop)>, ha2: Hash) -> Hash {
    let (key, ha2) = (ha1.hash().hex(), ha2.hex());
    match counted {
        None => ha1.algorithm.hash(&[key.bytes(), nonce.as_bytes(), ha2.bytes()]),
        Some((nc, cnonce, qop)) => ha1.algorithm.hash(&[
            key.bytes(),
            nonce.as_bytes(),
            nc.as_bytes(),
            cnonce.as_bytes(),
            qop.name().as_bytes(),
            ha2.bytes(),
        ]),
    }
}

//------------ Credentials ----------------------------------------------------

/// An `Authorization` or `Proxy-Authorization` value of scheme Digest, as sent.
///
/// Values stay as they were between the quotes, since that is what both ends hash; only the user name
/// and the realm, which are looked up, have their escapes removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials<'m> {
    /// Who claims to ask. Some clients send the whole address-of-record.
    pub username: Cow<'m, str>,
    /// The realm they believe to answer.
    pub realm: Cow<'m, str>,
    /// Ours, if we minted it: ask [`NonceKey::judge`].
    pub nonce: &'m str,
    /// The Request-URI as the client wrote it. It goes into the hash as sent: proxies rewrite
    /// Request-URIs, and one Lync-family client sends `(null)` here.
    pub uri: &'m str,
    /// The proof, in hexadecimal.
    pub response: &'m str,
    /// The algorithm named; MD5 if none was.
    pub algorithm: Algorithm,
    /// Absent from clients of RFC 2069.
    pub qop: Option<Qop>,
    /// The client's own nonce; there whenever `qop` is.
    pub cnonce: Option<&'m str>,
    /// How often the client has used this nonce, counting this time; there whenever `qop` is.
    pub nonce_count: Option<u32>,
    /// `nc` as written, for the hash.
    nc: Option<&'m str>,
    /// What we sent in the challenge, if anything.
    pub opaque: Option<&'m str>,
}

impl<'m> Credentials<'m> {
    /// Reads the value of the header, without its name. The first Digest in it counts; other schemes
    /// beside it and unknown parameters are passed over.
    pub fn parse(value: &'m str) -> Result<Credentials<'m>, Unusable> {
        let mut fields = Fields::default();
        let mut seen_digest = false;
        for item in list::items(value) {
            match item.map_err(Unusable::Malformed)? {
                Item::Scheme(_) if seen_digest => break,
                Item::Scheme(scheme) => seen_digest = scheme.eq_ignore_ascii_case("Digest"),
                Item::Param(_, _) if !seen_digest => {}
                Item::Param(name, value) => fields.take(name, value)?,
            }
        }
        if !seen_digest {
            return Err(Unusable::OtherScheme);
        }
        fields.credentials()
    }

    /// Whether whoever wrote this knows the password behind `ha1`. Takes the same time for any answer
    /// of the right length.
    ///
    /// Says nothing about the nonce, its count or the realm: those are separate questions, and asking
    /// this one first keeps strangers from learning anything by them.
    pub fn verify(&self, ha1: &Ha1, method: &str, body: &[u8]) -> bool {
        if ha1.algorithm != self.algorithm {
            return false;
        }
        let Some(claimed) = from_hex(self.response, self.algorithm.size()) else { return false };
        let ha2 = ha2(self.algorithm, self.qop, method, self.uri, body);
        let expected = response(ha1, self.nonce, self.counted(), ha2);
        claimed.bytes().ct_eq(expected.bytes()).into()
    }

    /// The server's own proof that it knows HA1, for `Authentication-Info` (RFC 7616 §3.5): the same
    /// formula without a method. `body` is that of the response.
    pub fn rspauth(&self, ha1: &Ha1, body: &[u8]) -> String {
        let ha2 = ha2(ha1.algorithm, self.qop, "", self.uri, body);
        response(ha1, self.nonce, self.counted(), ha2).hex().to_text()
    }

    fn counted(&self) -> Option<(&'m str, &'m str, Qop)> {
        Some((self.nc?, self.cnonce?, self.qop?))
    }
}

/// The parameters of Digest that we read, as they come along.
#[derive(Default)]
struct Fields<'m> {
    username: Option<Cow<'m, str>>,
    realm: Option<Cow<'m, str>>,
    nonce: Option<&'m str>,
    uri: Option<&'m str>,
    response: Option<&'m str>,
    algorithm: Option<&'m str>,
    qop: Option<&'m str>,
    cnonce: Option<&'m str>,
    nc: Option<&'m str>,
    opaque: Option<&'m str>,
    stale: Option<&'m str>,
}

impl<'m> Fields<'m> {
    /// Keeps one parameter. Saying something twice is refused: two readers might believe different ones.
    fn take(&mut self, name: &str, value: &'m str) -> Result<(), Unusable> {
        fn once<T>(field: &mut Option<T>, value: T, name: &'static str) -> Result<(), Unusable> {
            match field.replace(value) {
                None => Ok(()),
                Some(_) => Err(Unusable::Repeated(name)),
            }
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("username") {
            once(&mut self.username, list::unescape(value), "username")
        } else if is("realm") {
            once(&mut self.realm, list::unescape(value), "realm")
        } else if is("nonce") {
            once(&mut self.nonce, value, "nonce")
        } else if is("uri") {
            once(&mut self.uri, value, "uri")
        } else if is("response") {
            once(&mut self.response, value, "response")
        } else if is("algorithm") {
            once(&mut self.algorithm, value, "algorithm")
        } else if is("qop") {
            once(&mut self.qop, value, "qop")
        } else if is("cnonce") {
            once(&mut self.cnonce, value, "cnonce")
        } else if is("nc") {
            once(&mut self.nc, value, "nc")
        } else if is("opaque") {
            once(&mut self.opaque, value, "opaque")
        } else if is("stale") {
            once(&mut self.stale, value, "stale")
        } else {
            Ok(())
        }
    }

    fn algorithm(&self) -> Result<Algorithm, Unusable> {
        self.algorithm.map_or(Ok(Algorithm::Md5), str::parse)
    }

    fn credentials(self) -> Result<Credentials<'m>, Unusable> {
        let algorithm = self.algorithm()?;
        let qop = match self.qop {
            Some(token) => Some(Qop::from_token(token).ok_or(Unusable::UnknownQop)?),
            None => None,
        };
        let nonce_count = match self.nc {
            Some(nc) => Some(nonce_count(nc).ok_or(Unusable::BadCount)?),
            None => None,
        };
        if qop.is_some() {
            // RFC 7616 §3.4: with qop, both MUST be there.
            self.cnonce.ok_or(Unusable::Missing("cnonce"))?;
            self.nc.ok_or(Unusable::Missing("nc"))?;
        }
        Ok(Credentials {
            username: self.username.ok_or(Unusable::Missing("username"))?,
            realm: self.realm.ok_or(Unusable::Missing("realm"))?,
            nonce: self.nonce.ok_or(Unusable::Missing("nonce"))?,
            uri: self.uri.ok_or(Unusable::Missing("uri"))?,
            response: self.response.ok_or(Unusable::Missing("response"))?,
            algorithm,
            qop,
            cnonce: self.cnonce,
            nonce_count,
            nc: self.nc,
            opaque: self.opaque,
        })
    }

    fn challenge(self) -> Result<Challenge, Unusable> {
        let algorithm = self.algorithm()?;
        let offers = |wanted: Qop| {
            self.qop
                .is_some_and(|list| list.split(',').any(|qop| Qop::from_token(qop.trim()) == Some(wanted)))
        };
        let qop = match self.qop {
            None => None,
            Some(_) if offers(Qop::Auth) => Some(Qop::Auth),
            Some(_) if offers(Qop::AuthInt) => Some(Qop::AuthInt),
            Some(_) => return Err(Unusable::UnknownQop),
        };
        Ok(Challenge {
            realm: self.realm.ok_or(Unusable::Missing("realm"))?.into_owned(),
            nonce: self.nonce.ok_or(Unusable::Missing("nonce"))?.to_owned(),
            algorithm,
            qop,
            opaque: self.opaque.map(str::to_owned),
            stale: self.stale.is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }
}

/// Eight hexadecimal digits by the RFC; fewer are read too, since the hash uses what was written.
fn nonce_count(nc: &str) -> Option<u32> {
    let hex = !nc.is_empty() && nc.len() <= 8 && nc.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then(|| u32::from_str_radix(nc, 16).ok())?
}

//------------ Challenge ------------------------------------------------------

/// A `WWW-Authenticate` or `Proxy-Authenticate` value of scheme Digest. `Display` prints it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    /// Whose users are meant; shown to a person who must type a password.
    pub realm: String,
    /// To be hashed into the answer, and good for as many requests as the server allows.
    pub nonce: String,
    /// The one algorithm this challenge is about; servers send a line for each (RFC 8760 §2.3).
    pub algorithm: Algorithm,
    /// The protection to use; `None` from servers of RFC 2069.
    pub qop: Option<Qop>,
    /// To be sent back unchanged.
    pub opaque: Option<String>,
    /// The password was right, only the nonce was too old: answer again without asking anybody.
    pub stale: bool,
}

impl Challenge {
    /// A fresh challenge with `qop=auth`, as servers send it.
    pub fn new(realm: &str, nonce: String, algorithm: Algorithm) -> Challenge {
        Challenge {
            realm: realm.to_owned(),
            nonce,
            algorithm,
            qop: Some(Qop::Auth),
            opaque: None,
            stale: false,
        }
    }

    /// The same, telling a client with an outlived nonce that its password is not in doubt.
    pub fn stale(realm: &str, nonce: String, algorithm: Algorithm) -> Challenge {
        Challenge { stale: true, ..Challenge::new(realm, nonce, algorithm) }
    }

    /// Every challenge in one header line that we could answer. Other schemes and unknown algorithms are
    /// passed over (RFC 3261 §22.1 wants a line each, but some servers put all on one).
    pub fn parse_all(value: &str) -> Vec<Challenge> {
        let mut found = Vec::new();
        let mut current: Option<Result<Fields<'_>, Unusable>> = None;
        let mut close = |current: Option<Result<Fields<'_>, Unusable>>| {
            found.extend(current.and_then(Result::ok).and_then(|fields| fields.challenge().ok()));
        };
        for item in list::items(value) {
            match item {
                Ok(Item::Scheme(scheme)) => {
                    let digest = scheme.eq_ignore_ascii_case("Digest").then(|| Ok(Fields::default()));
                    close(std::mem::replace(&mut current, digest));
                }
                Ok(Item::Param(name, value)) => {
                    if let Some(Ok(fields)) = &mut current
                        && let Err(why) = fields.take(name, value)
                    {
                        current = Some(Err(why));
                    }
                }
                Err(_) => {
                    current = None;
                    break;
                }
            }
        }
        close(current);
        found
    }

    /// HA1 for this challenge's realm and algorithm.
    pub fn ha1(&self, user: &str, password: &str) -> Ha1 {
        Ha1::of(self.algorithm, user, &self.realm, password)
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Digest realm=\"{}\", nonce=\"{}\", algorithm={}",
            list::escape(&self.realm),
            self.nonce,
            self.algorithm
        )?;
        if let Some(qop) = self.qop {
            write!(f, ", qop=\"{}\"", qop.name())?;
        }
        if let Some(opaque) = &self.opaque {
            write!(f, ", opaque=\"{opaque}\"")?;
        }
        if self.stale {
            f.write_str(", stale=TRUE")?;
        }
        Ok(())
    }
}

/// The challenge to answer: that with the strongest algorithm, the first of several.
///
/// RFC 8760 §2.4 says the topmost; servers list the strongest first, and where one does not we still
/// should not be talked down.
pub fn strongest(challenges: &[Challenge]) -> Option<&Challenge> {
    challenges.iter().rev().max_by_key(|challenge| challenge.algorithm)
}

/// The client's answer: the value of `Authorization` (to a 401) or `Proxy-Authorization` (to a 407).
///
/// `nonce_count` starts at 1 for each nonce and never repeats; `cnonce` is drawn by the caller.
///
/// # Panics
///
/// If `ha1` is for another algorithm than the challenge: make it with [`Challenge::ha1`], or offer only
/// the challenges one has an HA1 for to [`strongest`].
pub fn answer(
    challenge: &Challenge,
    username: &str,
    ha1: &Ha1,
    asked: &Asked<'_>,
    nonce_count: u32,
    cnonce: &str,
) -> String {
    assert!(ha1.algorithm == challenge.algorithm, "the HA1 must be of the algorithm of the challenge");
    let nc = format!("{nonce_count:08x}");
    let counted = challenge.qop.map(|qop| (nc.as_str(), cnonce, qop));
    let ha2 = ha2(challenge.algorithm, challenge.qop, asked.method, asked.uri, asked.body);
    let proof = response(ha1, &challenge.nonce, counted, ha2).hex().to_text();

    let mut value = format!(
        "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{proof}\", algorithm={}",
        list::escape(username),
        list::escape(&challenge.realm),
        challenge.nonce,
        asked.uri,
        challenge.algorithm,
    );
    if let Some((nc, cnonce, qop)) = counted {
        value += &format!(", cnonce=\"{cnonce}\", qop={}, nc={nc}", qop.name());
    }
    if let Some(opaque) = &challenge.opaque {
        value += &format!(", opaque=\"{opaque}\"");
    }
    value
}

//------------ AuthenticationInfo ---------------------------------------------

/// What a server adds to a 2xx (RFC 7616 §3.5): the nonce to use next, and proof that it knows HA1 too.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuthenticationInfo {
    /// Spares the client the next challenge.
    pub next_nonce: Option<String>,
    /// [`Credentials::rspauth`], with the client's `cnonce` and `nc` repeated.
    pub proof: Option<ServerProof>,
}

/// The server's side of mutual authentication.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerProof {
    /// The hash, in hexadecimal.
    pub rspauth: String,
    /// The client's, returned.
    pub cnonce: String,
    /// The client's, returned.
    pub nonce_count: u32,
}

impl AuthenticationInfo {
    /// Reads the value of the header; parameters that make no sense are passed over, for the header is
    /// only ever a help.
    pub fn parse(value: &str) -> AuthenticationInfo {
        let (mut info, mut rspauth, mut cnonce, mut nc) = (AuthenticationInfo::default(), None, None, None);
        for item in list::items(value) {
            match item {
                Ok(Item::Param(name, value)) if name.eq_ignore_ascii_case("nextnonce") => {
                    info.next_nonce = Some(value.to_owned());
                }
                Ok(Item::Param(name, value)) if name.eq_ignore_ascii_case("rspauth") => rspauth = Some(value),
                Ok(Item::Param(name, value)) if name.eq_ignore_ascii_case("cnonce") => cnonce = Some(value),
                Ok(Item::Param(name, value)) if name.eq_ignore_ascii_case("nc") => nc = nonce_count(value),
                Ok(Item::Param(_, _) | Item::Scheme(_)) => {}
                Err(_) => break,
            }
        }
        if let (Some(rspauth), Some(cnonce), Some(nonce_count)) = (rspauth, cnonce, nc) {
            info.proof =
                Some(ServerProof { rspauth: rspauth.to_owned(), cnonce: cnonce.to_owned(), nonce_count });
        }
        info
    }
}

impl fmt::Display for AuthenticationInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(nonce) = &self.next_nonce {
            write!(f, "nextnonce=\"{nonce}\"")?;
        }
        if let Some(proof) = &self.proof {
            if self.next_nonce.is_some() {
                f.write_str(", ")?;
            }
            let ServerProof { rspauth, cnonce, nonce_count } = proof;
            write!(f, "qop=auth, rspauth=\"{rspauth}\", cnonce=\"{cnonce}\", nc={nonce_count:08x}")?;
        }
        Ok(())
    }
}

//------------ Unusable -------------------------------------------------------

/// Why credentials cannot even be checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// They are not Digest: Basic, NTLM, Kerberos, Bearer. Worth a fresh challenge, not a 400.
    OtherScheme,
    /// An algorithm we never offered.
    UnknownAlgorithm,
    /// A protection nobody has heard of.
    UnknownQop,
    /// `nc` is not hexadecimal of up to eight digits.
    BadCount,
    /// A parameter that must be there is not.
    Missing(&'static str),
    /// A parameter is there twice.
    Repeated(&'static str),
    /// The bytes are not a list of parameters.
    Malformed(ParseError),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::OtherScheme => f.write_str("not scheme Digest"),
            Unusable::UnknownAlgorithm => f.write_str("an algorithm that was not offered"),
            Unusable::UnknownQop => f.write_str("an unknown qop"),
            Unusable::BadCount => f.write_str("nc is not a count of eight hexadecimal digits"),
            Unusable::Missing(name) => write!(f, "{name} is missing"),
            Unusable::Repeated(name) => write!(f, "{name} is given twice"),
            Unusable::Malformed(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for Unusable {}
