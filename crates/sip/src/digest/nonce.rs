//! Nonces that need no memory: minted by one server, believed by every server that has the key.
//!
//! A nonce is its own birth certificate. Both pools of a pair hold the same key, so a client that fails
//! over uses the nonce it has and is not challenged again.
//!
//! ```text
//!   time (6 bytes, unix seconds) │ salt (8) │ HMAC-SHA256(key, time │ salt), first 16
//!   └────────────────────── 40 characters of base64url ──────────────────────────┘
//! ```
//!
//! RFC 7616 §3.3 (its advice on making nonces), §3.4 (`nc`), §5.4 (limited use), §5.12 (replay).
//!
//! Not here: the clock and the salt, which are handed in. Nothing binds a nonce to an address: phones
//! change theirs in the middle of a failover.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::{Algorithm, Ha1};

/// The secret of a pair of pools.
#[derive(Clone)]
pub struct NonceKey {
    /// The MAC with the key already worked in: two blocks less per nonce.
    keyed: Hmac<Sha256>,
    /// Stands in for the HA1 of users who do not exist.
    decoy: [u8; 32],
}

/// What a nonce that came back is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NonceVerdict {
    /// Ours and young enough.
    Fresh,
    /// Ours, but too old (or from a clock too far ahead): challenge again with `stale=TRUE`.
    Stale,
    /// Not made with this key.
    Foreign,
}

const TIME: usize = 6;
const SALTED: usize = TIME + 8;
const SIZE: usize = SALTED + 16;
const LETTERS: usize = SIZE / 3 * 4;

impl NonceKey {
    /// Takes the secret; it should be drawn once per pair and kept like a private key.
    pub fn new(secret: [u8; 32]) -> NonceKey {
        // An HMAC takes a key of any length; the error type is that of a trait for all MACs.
        let keyed =
            Hmac::<Sha256>::new_from_slice(&secret).unwrap_or_else(|_| unreachable!("any length is fine"));
        let decoy = keyed.clone().chain_update(b"the HA1 of nobody").finalize().into_bytes().into();
        NonceKey { keyed, decoy }
    }

    /// Makes a nonce at this second. `salt` keeps nonces of one second apart and comes from the caller's rng.
    pub fn mint(&self, unix_now: u64, salt: u64) -> String {
        let mut bytes = [0; SIZE];
        bytes[..TIME].copy_from_slice(&unix_now.to_be_bytes()[8 - TIME..]);
        bytes[TIME..SALTED].copy_from_slice(&salt.to_be_bytes());
        let seal = self.seal(&bytes[..SALTED]);
        bytes[SALTED..].copy_from_slice(&seal);
        encode(&bytes)
    }

    /// Says what a nonce is worth now. One from a partner's clock that runs ahead is as good as one from
    /// a clock that runs behind, up to `lifetime`.
    pub fn judge(&self, nonce: &str, unix_now: u64, lifetime: Duration) -> NonceVerdict {
        let Some(bytes) = decode(nonce) else { return NonceVerdict::Foreign };
        let (salted, seal) = bytes.split_at(SALTED);
        if !bool::from(self.seal(salted).ct_eq(seal)) {
            return NonceVerdict::Foreign;
        }
        if minted_at(&bytes).abs_diff(unix_now) <= lifetime.as_secs() {
            NonceVerdict::Fresh
        } else {
            NonceVerdict::Stale
        }
    }

    /// An HA1 nobody can answer, to verify against when the user does not exist: then "no such user" and
    /// "wrong password" take the same time and end the same way.
    pub fn decoy(&self, algorithm: Algorithm) -> Ha1 {
        Ha1 { algorithm, bytes: self.decoy }
    }

    fn seal(&self, salted: &[u8]) -> [u8; SIZE - SALTED] {
        let mac: [u8; 32] = self.keyed.clone().chain_update(salted).finalize().into_bytes().into();
        let mut seal = [0; SIZE - SALTED];
        seal.copy_from_slice(&mac[..SIZE - SALTED]);
        seal
    }
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(hidden)")
    }
}

fn minted_at(bytes: &[u8; SIZE]) -> u64 {
    bytes[..TIME].iter().fold(0, |time, byte| time << 8 | u64::from(*byte))
}

//------------ Base64url ------------------------------------------------------

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 30 bytes are ten groups of three: no padding, no odd end.
fn encode(bytes: &[u8; SIZE]) -> String {
    let mut text = String::with_capacity(LETTERS);
    for group in bytes.chunks_exact(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for shift in [18, 12, 6, 0] {
            text.push(char::from(ALPHABET[bits >> shift & 63]));
        }
    }
    text
}

fn decode(text: &str) -> Option<[u8; SIZE]> {
    if text.len() != LETTERS {
        return None;
    }
    let mut bytes = [0; SIZE];
    for (group, letters) in bytes.chunks_exact_mut(3).zip(text.as_bytes().chunks_exact(4)) {
        let mut bits = 0_u32;
        for letter in letters {
            let digit = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(digit);
        }
        group.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    Some(bytes)
}

//------------ NonceCounts ----------------------------------------------------

/// Which counts of which nonces have been used: the guard against replay.
///
/// Each nonce has a window of 64 counts behind the highest one, so requests that overtake each other are
/// fine and a repeated one is not. The table is bounded: when it is full the oldest nonce is forgotten,
/// and with it every older one, so that forgetting never lets a replay in. Size it for the nonces of one
/// lifetime; below that clients are merely challenged more often.
///
/// The table belongs to one server. A nonce that comes with a count above 1 was in use elsewhere, so every lower
/// count is taken for used: what was captured at one pool is worth nothing at the other once the client is there.
#[derive(Clone, Debug)]
pub struct NonceCounts {
    /// By birth, then seal: the first is the oldest.
    used: BTreeMap<Birth, Window>,
    /// The youngest nonce that was forgotten; all up to it are.
    forgotten: Option<Birth>,
    capacity: usize,
}

/// Time of minting and the seal, which is unique per nonce.
type Birth = (u64, [u8; SIZE - SALTED]);

/// What became of a nonce count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Counted {
    /// Never seen before.
    New,
    /// Seen, or so far behind that we cannot tell: somebody replays, or a retransmission got here.
    Replayed,
    /// So old that we do not remember the nonce: challenge again with `stale=TRUE`.
    Forgotten,
}

/// Counts seen of one nonce.
#[derive(Clone, Copy, Debug)]
struct Window {
    highest: u32,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

impl NonceCounts {
    /// An empty table for at most so many nonces (at least one).
    pub fn new(capacity: usize) -> NonceCounts {
        NonceCounts { used: BTreeMap::new(), forgotten: None, capacity: capacity.max(1) }
    }

    /// Notes one use. Ask only after [`NonceKey::judge`] found the nonce `Fresh` and the response right:
    /// otherwise strangers fill the table.
    pub fn count(&mut self, nonce: &str, count: u32) -> Counted {
        let Some(bytes) = decode(nonce) else { return Counted::Forgotten };
        let mut seal = [0; SIZE - SALTED];
        seal.copy_from_slice(&bytes[SALTED..]);
        let birth = (minted_at(&bytes), seal);

        if let Some(window) = self.used.get_mut(&birth) {
            return if window.note(count) { Counted::New } else { Counted::Replayed };
        }
        if self.forgotten.is_some_and(|youngest| birth <= youngest) {
            return Counted::Forgotten;
        }
        self.used.insert(birth, Window { highest: count, seen: u64::MAX });
        if self.used.len() > self.capacity
            && let Some((oldest, _)) = self.used.pop_first()
        {
            self.forgotten = self.forgotten.max(Some(oldest));
        }
        Counted::New
    }

    /// Takes every nonce minted before this second for forgotten: a server that has just started does not know how
    /// they were used.
    pub fn forget_before(&mut self, unix: u64) {
        let youngest = unix.checked_sub(1).map(|second| (second, [u8::MAX; SIZE - SALTED]));
        self.forgotten = self.forgotten.max(youngest);
        self.used = self.used.split_off(&(unix, [0; SIZE - SALTED]));
    }

    /// Drops the nonces that [`NonceKey::judge`] would call `Stale` anyway.
    pub fn forget_stale(&mut self, unix_now: u64, lifetime: Duration) {
        let oldest = unix_now.saturating_sub(lifetime.as_secs());
        self.used = self.used.split_off(&(oldest, [0; SIZE - SALTED]));
    }

    /// Nonces remembered.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

impl Window {
    /// Whether this count is new, and notes it.
    fn note(&mut self, count: u32) -> bool {
        if count > self.highest {
            let ahead = count - self.highest;
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let Some(bit) = 1_u64.checked_shl(self.highest - count) else { return false };
        let new = self.seen & bit == 0;
        self.seen |= bit;
        new
    }
}
