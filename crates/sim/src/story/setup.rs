//! What a story's world consists of before anything happens.
//!
//! | line | meaning |
//! | --- | --- |
//! | `topology two-sites` | pools `fe1` and `fe2`, one server each, each the other's backup, one SRV record to `fe1` |
//! | `topology two-sites-of-three` | pools `pool1` (`a1 b1 c1`) and `pool2` (`a2 b2 c2`) |
//! | `director NAME at SITE` | adds a director and makes it the only SRV target |
//! | `automatic-failover off POOL` | nobody takes this pool's users unless told to |
//! | `intervals article` / `intervals default` | 30 s and 40 s (as without this line), or the profile's own |
//! | `user NAME homed on POOL [number +49…]` | a user |
//! | `client NAME relaxed-names` | believes SRV targets outside its domain |
//! | `client NAME legacy` | cannot live without presence, and does not say it can |
//! | `mislead SERVER about NAME homed on POOL` | that server's copy of the directory is wrong |
//! | `certificate SERVER also NAME` | its certificate covers this name, too |

use std::collections::BTreeMap;

use resilience::profile::{Profile, Timers};
use resilience::topology::{Pool, PoolName, ServerEntry, ServerName, Site, SrvRecord, Topology, examples};
use server::Directory;
use sip::digest::{Algorithm, Ha1};
use sip::uri::AddressOfRecord;

use super::words::Words;

/// A world's ingredients; plain data, to be built by any [`World`](super::World).
#[derive(Clone, Debug)]
pub struct Setup {
    /// The published document. Its profile is the one the story is played in.
    pub topology: Topology,
    /// The users, in the order they were named.
    pub users: Vec<User>,
    /// Wrong copies of the directory: which server believes which user to be homed where.
    pub misled: Vec<(ServerName, String, PoolName)>,
    /// Further names in servers' certificates.
    pub certificates: Vec<(ServerName, String)>,
}

/// One user, and what is special about their clients.
#[derive(Clone, Debug)]
pub struct User {
    /// The user part of the address: `clientuser1`.
    pub name: String,
    /// Their pool.
    pub home: PoolName,
    /// Telephone number.
    pub number: Option<String>,
    /// Believes SRV targets outside its domain.
    pub relaxed_names: bool,
    /// Cannot live without user services: does not announce `ms-userservices-state-notification`.
    pub legacy: bool,
}

impl User {
    /// An ordinary user homed on `home`.
    pub fn new(name: &str, home: &str) -> Self {
        User { name: name.to_owned(), home: home.into(), number: None, relaxed_names: false, legacy: false }
    }

    /// The password, made from the name: nothing here is secret.
    pub fn password(&self) -> String {
        format!("secret of {}", self.name)
    }
}

impl Setup {
    /// Two sites, one pool each, the article's intervals, nobody in them.
    pub fn new(profile: Profile) -> Self {
        let mut topology = examples::two_sites();
        topology.profile = profile;
        topology.timers = Timers::of(Profile::Lync2010);
        Setup { topology, users: Vec::new(), misled: Vec::new(), certificates: Vec::new() }
    }

    /// The SIP domain.
    pub fn domain(&self) -> &str {
        self.topology.domains.first().map_or(examples::DOMAIN, String::as_str)
    }

    /// The user of a device name: `clientuser1/2` is a device of `clientuser1`.
    pub fn user_of(&self, device: &str) -> Option<&User> {
        let name = device.split('/').next().unwrap_or(device);
        self.users.iter().find(|user| user.name == name)
    }

    /// The address-of-record of a user name.
    pub fn aor(&self, name: &str) -> Result<AddressOfRecord, String> {
        format!("sip:{name}@{}", self.domain())
            .parse()
            .map_err(|why| format!("`{name}` makes no address: {why}"))
    }

    /// The user directory as this server has it.
    pub fn directory(&self, server: &ServerName) -> Result<Directory, String> {
        let realm = self.domain();
        let mut users = BTreeMap::new();
        for user in &self.users {
            let ha1 = |algorithm| Ha1::of(algorithm, &user.name, realm, &user.password());
            let misled = self.misled.iter().find(|(at, about, _)| at == server && *about == user.name);
            users.insert(
                self.aor(&user.name)?,
                server::directory::User {
                    home: misled.map_or_else(|| user.home.clone(), |(_, _, home)| home.clone()),
                    enabled: true,
                    number: user.number.clone(),
                    ha1_md5: ha1(Algorithm::Md5),
                    ha1_sha256: ha1(Algorithm::Sha256),
                },
            );
        }
        Ok(Directory { version: 1, users })
    }

    /// The names that a server's certificate must cover: its own, its pool's, and the SIP domains, which
    /// are what a client asks for that came by an SRV record it cannot trust (RFC 5922 §4).
    pub fn certificate_names(&self, server: &ServerName) -> Vec<String> {
        let mut names = vec![server.to_string()];
        if let Some((pool, _)) = self.topology.server(server) {
            names.push(pool.name.to_string());
        }
        names.extend(self.topology.domains.iter().cloned());
        names.extend(self.certificates.iter().filter(|(at, _)| at == server).map(|(_, name)| name.clone()));
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// Applies one set-up line.
    pub(super) fn apply(&mut self, line: &str) -> Result<(), String> {
        let mut words = Words::new(line);
        match words.word("a set-up line")? {
            "topology" => {
                let (profile, timers) = (self.topology.profile, self.topology.timers.clone());
                self.topology = match words.word("a topology")? {
                    "two-sites" => examples::two_sites(),
                    "two-sites-of-three" => examples::two_sites_of_three(),
                    other => {
                        return Err(format!(
                            "no topology is called `{other}`: two-sites, two-sites-of-three"
                        ));
                    }
                };
                (self.topology.profile, self.topology.timers) = (profile, timers);
            }
            "director" => {
                let name = words.word("a name")?.to_owned();
                words.must("at")?;
                let site = words.word("a site")?.to_owned();
                self.add_director(&name, &site);
            }
            "automatic-failover" => {
                words.must("off")?;
                let name = words.word("a pool")?;
                let pool = self.topology.pools.iter_mut().find(|pool| pool.name == *name);
                pool.ok_or_else(|| format!("no pool is called `{name}`"))?.automatic_failover = false;
            }
            "intervals" => {
                self.topology.timers = match words.word("article or default")? {
                    "article" => Timers::of(Profile::Lync2010),
                    "default" => Timers::of(self.topology.profile),
                    other => return Err(format!("expected article or default, found `{other}`")),
                }
            }
            "user" => {
                let name = words.word("a user")?;
                words.must("homed")?;
                words.must("on")?;
                let home = self.pool_name(words.word("a pool")?)?;
                let mut user = User::new(name, &home);
                if words.eat("number") {
                    user.number = Some(words.word("a telephone number")?.to_owned());
                }
                self.users.push(user);
            }
            "client" => {
                let name = words.word("a user")?;
                let user = self.users.iter_mut().find(|user| user.name == name);
                let user = user.ok_or_else(|| format!("no user is called `{name}`"))?;
                match words.word("relaxed-names or legacy")? {
                    "relaxed-names" => user.relaxed_names = true,
                    "legacy" => user.legacy = true,
                    other => return Err(format!("expected relaxed-names or legacy, found `{other}`")),
                }
            }
            "mislead" => {
                let server = words.word("a server")?;
                if self.topology.server(server).is_none() {
                    return Err(format!("no server is called `{server}`"));
                }
                words.must("about")?;
                let user = words.word("a user")?.to_owned();
                words.must("homed")?;
                words.must("on")?;
                let home = self.pool_name(words.word("a pool")?)?;
                self.misled.push((server.into(), user, home));
            }
            "certificate" => {
                let server = words.word("a server")?;
                if self.topology.server(server).is_none() {
                    return Err(format!("no server is called `{server}`"));
                }
                words.must("also")?;
                self.certificates.push((server.into(), words.word("a name")?.to_owned()));
            }
            other => return Err(format!("`{other}` is not a set-up line")),
        }
        words.end()
    }

    fn pool_name(&self, name: &str) -> Result<PoolName, String> {
        let pool = self.topology.pool(name).ok_or_else(|| format!("no pool is called `{name}`"))?;
        Ok(pool.name.clone())
    }

    fn add_director(&mut self, name: &str, site: &str) {
        if !self.topology.sites.iter().any(|known| known.name == *site) {
            self.topology.sites.push(Site { name: site.into() });
        }
        let number = self.topology.sites.iter().position(|known| known.name == *site).map_or(9, |at| at + 1);
        let address = [127, u8::try_from(number).unwrap_or(9), 0, 100];
        self.topology.pools.push(Pool::director(name, site).with(ServerEntry::new(name, address)));
        self.topology.srv = vec![SrvRecord::new(examples::SERVICE, self.domain(), 0, 5061, name)];
    }
}

/// Whether a line belongs to the set-up.
pub(super) fn is_setup(code: &str) -> bool {
    let first = code.split_whitespace().next().unwrap_or("");
    ["topology", "director", "automatic-failover", "intervals", "user", "client", "mislead", "certificate"]
        .contains(&first)
}
