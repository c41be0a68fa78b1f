//! Answers to challenges: which one, how often, and with which count (RFC 3261 §22, RFC 8760).
//!
//! A nonce is kept and used in advance for the next requests, on every server: the two pools of a pair
//! accept each other's, so a client that fails over is not challenged again. Three things can come of a
//! challenge, and only one of them says that the password is wrong:
//!
//! | what was sent | what came back | meaning |
//! | --- | --- | --- |
//! | nothing, or a nonce from earlier | 401 | answer it |
//! | the nonce just given | 401 `stale=TRUE` | answer once more; after that the server is at fault |
//! | the nonce just given | 401 | the password is wrong |
//!
//! A registrar (401) and a proxy before it (407) may both ask; each is answered for itself. To a host outside
//! the user's domain no nonce is taken along: what answers it would do as well at the server that gave it.

use rand_core::Rng;
use sip::digest::{self, Asked, Challenge};
use sip::header::HeaderName;
use sip::message::Message;

use crate::config::Config;

/// What is known about getting past a server's challenge.
#[derive(Debug, Default)]
pub(crate) struct Login {
    /// The server's last challenge.
    server: Option<Current>,
    /// A proxy's last challenge.
    proxy: Option<Current>,
}

/// A challenge being answered, and how often its nonce has been used.
#[derive(Debug)]
struct Current {
    challenge: Challenge,
    used: u32,
}

/// How far one request has come with its challenges.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Trials {
    /// With the server's.
    server: Trial,
    /// With a proxy's.
    proxy: Trial,
}

/// How far one request has come with the challenges of one side.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Trial {
    /// True once a nonce given to this very request has been used.
    answered: bool,
    /// True once that nonce was called stale.
    stale: bool,
}

/// What to make of a 401 or 407.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Send the request again; it will carry the answer.
    Again,
    /// The password or the user is wrong.
    Wrong,
    /// The server asks for what we cannot give, or never stops asking. Another one may be saner.
    Hopeless,
}

impl Login {
    /// The header lines for a request about to be sent, one for each nonce there is to use.
    pub(crate) fn answers(
        &mut self,
        config: &Config,
        asked: &Asked<'_>,
        rng: &mut dyn Rng,
    ) -> Vec<(HeaderName, String)> {
        let server = self.server.as_mut().map(|current| (HeaderName::Authorization, current));
        let proxy = self.proxy.as_mut().map(|current| (HeaderName::ProxyAuthorization, current));
        server
            .into_iter()
            .chain(proxy)
            .map(|(name, Current { challenge, used })| {
                *used = used.saturating_add(1);
                let ha1 = challenge.ha1(&config.auth_user, &config.password.0);
                let cnonce = format!("{:08x}{:08x}", rng.next_u32(), rng.next_u32());
                (name, digest::answer(challenge, &config.auth_user, &ha1, asked, *used, &cnonce))
            })
            .collect()
    }

    /// Forgets the nonces: whom we turn to next shall ask for himself.
    pub(crate) fn forget(&mut self) {
        *self = Login::default();
    }

    /// The realms of those who have challenged our REGISTER.
    pub(crate) fn realms(&self) -> Vec<String> {
        let both = [&self.server, &self.proxy];
        both.into_iter().flatten().map(|current| current.challenge.realm.to_string()).collect()
    }

    /// Hears a 401 or 407 to a request that has been through `trials`.
    ///
    /// `realms`: those that may ask, where anybody might have: the answer to a REGISTER is our registrar's,
    /// that to a call may come from whoever is called, and what he is given he can try passwords on.
    pub(crate) fn handle_challenge(
        &mut self,
        response: &Message,
        realms: Option<&[String]>,
        trials: &mut Trials,
    ) -> Verdict {
        let (name, current, trial) = match response.status() {
            Some(407) => (HeaderName::ProxyAuthenticate, &mut self.proxy, &mut trials.proxy),
            _ => (HeaderName::WwwAuthenticate, &mut self.server, &mut trials.server),
        };
        let known = |challenge: &Challenge| {
            realms.is_none_or(|realms| realms.iter().any(|r| **r == *challenge.realm))
        };
        let challenges: Vec<Challenge> =
            response.headers(name).flat_map(Challenge::parse_all).filter(known).collect();
        let Some(challenge) = digest::strongest(&challenges).cloned() else {
            return Verdict::Hopeless;
        };
        if trial.answered {
            let verdict = match (challenge.stale, trial.stale) {
                (false, _) => Some(Verdict::Wrong),
                (true, true) => Some(Verdict::Hopeless),
                (true, false) => None,
            };
            if let Some(verdict) = verdict {
                *current = None;
                return verdict;
            }
            trial.stale = true;
        }
        trial.answered = true;
        *current = Some(Current { challenge, used: 0 });
        Verdict::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;
    use resilience::profile::Profile;

    fn challenge(line: &str) -> Message {
        let text = format!(
            "SIP/2.0 {line}\r\nVia: SIP/2.0/TLS h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(text.into()).expect("a response")
    }

    #[test]
    fn a_proxy_and_the_registrar_behind_it_may_both_ask() {
        let aor = "sip:alice@example.test".parse().expect("an address-of-record");
        let config = Config::new(aor, "secret", Profile::Rehome);
        let (mut login, mut trials) = (Login::default(), Trials::default());
        let proxy =
            challenge("407 Proxy\r\nProxy-Authenticate: Digest realm=\"edge\", nonce=\"p\", qop=\"auth\"");
        let server =
            challenge("401 No\r\nWWW-Authenticate: Digest realm=\"home\", nonce=\"s\", qop=\"auth\"");
        assert_eq!(login.handle_challenge(&proxy, None, &mut trials), Verdict::Again);
        assert_eq!(login.handle_challenge(&server, None, &mut trials), Verdict::Again);
        assert_eq!(login.realms(), ["home", "edge"]);
        let asked = Asked { method: "REGISTER", uri: "sip:example.test", body: b"" };
        let lines = login.answers(&config, &asked, &mut ChaCha12Rng::seed_from_u64(1));
        let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [HeaderName::Authorization, HeaderName::ProxyAuthorization]);
        assert_eq!(login.handle_challenge(&proxy, None, &mut trials), Verdict::Wrong);
    }

    #[test]
    fn whoever_is_called_cannot_ask_for_our_password_in_a_realm_of_his_own() {
        let (mut login, mut trials) = (Login::default(), Trials::default());
        let server =
            challenge("401 No\r\nWWW-Authenticate: Digest realm=\"mine\", nonce=\"s\", qop=\"auth\"");
        let realms = ["example.test".to_owned()];
        assert_eq!(login.handle_challenge(&server, Some(&realms), &mut trials), Verdict::Hopeless);
        assert_eq!(login.realms(), Vec::<String>::new(), "nothing is answered");
    }
}
