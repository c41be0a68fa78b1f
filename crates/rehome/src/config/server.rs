//! `server.toml`: which server of the topology this is, and where its things lie.
//!
//! The file alone says little; [`check`] reads it together with the topology it names, and sees that the two
//! agree: that the server is there, and that its certificate proves what others will ask it to prove.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use net::certificates::check_names;
use resilience::topology::{Pool, ServerEntry, Topology};
use server::Offer;
use toml::de::DeValue;

use super::document::{
    self, Choice, Reading, Severity, Shape, Spot, Value, choice_shape, read_choice, table,
};
use super::{Loaded, nearest};
use crate::deployment::files_of;

/// A server file and the topology it names, in agreement.
pub(crate) struct Deployment {
    /// The server file, its paths taken from the directory it lies in.
    pub(crate) file: ServerFile,
    /// The whole deployment.
    pub(crate) topology: Topology,
}

impl Deployment {
    /// This server in the topology, and its pool.
    pub(crate) fn own(&self) -> Option<(&Pool, &ServerEntry)> {
        self.topology.server(&self.file.server)
    }
}

/// Reads a server file by itself. Relative paths in it are taken from the directory it lies in.
pub(crate) fn load(path: &Path) -> Loaded<ServerFile> {
    super::load(path, |name, text| {
        let mut reading = Reading::new(name, text);
        let value = understand(&mut reading, path);
        Loaded { value, mistakes: reading.into_mistakes() }
    })
}

/// Reads a server file and the topology it names, and checks that they agree.
pub(crate) fn check(path: &Path) -> Loaded<Deployment> {
    super::load(path, |name, text| {
        let mut reading = Reading::new(name, text);
        let Some(file) = understand(&mut reading, path) else {
            return Loaded { value: None, mistakes: reading.into_mistakes() };
        };
        let loaded = super::topology::load(&file.topology);
        if let Some(topology) = &loaded.value {
            agree(&file, topology, &mut reading);
        }
        let usable = !reading.is_unusable();
        let value = loaded.value.filter(|_| usable).map(|topology| Deployment { file, topology });
        Loaded { value, mistakes: reading.into_mistakes().into_iter().chain(loaded.mistakes).collect() }
    })
}

/// The file that lies at `path`, by itself.
fn understand(reading: &mut Reading<'_>, path: &Path) -> Option<ServerFile> {
    let mut file = reading.read::<ServerFile>().filter(|_| !reading.is_unusable())?;
    file.lie_in(path.parent().unwrap_or(Path::new("")));
    Some(file)
}

/// Notes where the file and the topology, or the files it names, do not agree.
fn agree(file: &ServerFile, topology: &Topology, reading: &mut Reading<'_>) {
    let mut error = |key: &str, what: String, cure: String| reading.note_at(Severity::Error, key, what, cure);
    let Some((pool, entry)) = topology.server(&file.server) else {
        let names =
            || topology.pools.iter().flat_map(|pool| &pool.servers).map(|server| server.name.as_str());
        let cure = match nearest(&file.server, names()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("servers there: {}", names().collect::<Vec<_>>().join(", ")),
        };
        return error("server", format!("\"{}\" is not in {}", file.server, file.topology.display()), cure);
    };
    match (&file.tls, entry.tls) {
        (None, Some(port)) => {
            let what =
                format!("the topology gives {} the TLS port {port}, but there is no certificate", entry.name);
            error("", what, "add a table [tls] with certificate, key and authorities".to_owned());
        }
        (Some(tls), _) => {
            // Clients ask for the SIP domain (RFC 5922 §7), redirects name the pool, heartbeats the server.
            let mut names = vec![entry.name.as_str(), pool.name.as_str()];
            names.extend(topology.domains.iter().map(String::as_str));
            names.dedup();
            let checked = files_of(tls).load().and_then(|material| {
                check_names(&material.identity.map(|identity| identity.chain).unwrap_or_default(), &names)
            });
            if let Err(why) = checked {
                let key = match &why.path {
                    Some(path) if *path == tls.key => "tls.key",
                    Some(path) if *path == tls.authorities => "tls.authorities",
                    _ => "tls.certificate",
                };
                let path = why.path.as_ref().map_or(String::new(), |path| format!("{}: ", path.display()));
                error(key, format!("{path}{}", why.what), why.cure);
            }
        }
        (None, None) => {}
    }
    if let Some(secret) = &file.nonce_secret {
        let what = match std::fs::metadata(secret) {
            Ok(metadata) if metadata.len() >= 32 => return,
            Ok(metadata) => format!("{} holds {} bytes, of 32 at least", secret.display(), metadata.len()),
            Err(why) => format!("{} cannot be read: {why}", secret.display()),
        };
        let cure = "`rehome keys` makes one; the partner pool needs the same".to_owned();
        error("nonce_secret", what, cure);
    }
}

/// The example that `rehome config example server` prints.
pub(crate) fn example() -> String {
    document::write(&ServerFile {
        server: "fe1.example.test".to_owned(),
        topology: "topology.toml".into(),
        directory: "directory.sqlite".into(),
        data: "data".into(),
        durability: None,
        shards: None,
        nonce_secret: Some("nonce.secret".into()),
        digest: None,
        tls: Some(TlsTable {
            certificate: "fe1.example.test.pem".into(),
            key: "fe1.example.test.key".into(),
            authorities: "ca.pem".into(),
        }),
        admin: Some(AdminTable { listen: Some(SocketAddr::from(([127, 0, 0, 1], 8061))), token: None }),
        dns: Some(DnsTable { listen: SocketAddr::from(([127, 0, 0, 1], 5353)) }),
    })
}

table! {
    /// One server of the deployment; everything that all of them share is in the topology file. A relative path
    /// starts in the directory of this file.
    pub(crate) struct ServerFile {
        /// Which server of the topology this is.
        server: String,
        /// The deployment.
        topology: PathBuf,
        /// The users: see `rehome user add`.
        directory: PathBuf,
        /// What this server writes: bindings, registration records.
        data: PathBuf,
        /// When a binding is on disk: "write-behind" (within a second of the 200, never in its way), "strict" (before
        /// the 200) or "none" (never: phones register anew after a restart).
        durability: Option<Durability> = "\"write-behind\"",
        /// Worker threads, each with its share of the users; one per core if left out.
        shards: Option<u16> = "2",
        /// A file with at least 32 bytes, the same on both pools of a pair: a client that fails over is then not
        /// challenged again. A secret of its own if left out.
        nonce_secret: Option<PathBuf> = "\"nonce.secret\"",
        /// Which digest algorithms phones are offered: "by-client" (MD5, and SHA-256 to clients known to choose), "both", or
        /// "sha-256" alone. Some phones give up when they see one that they do not know.
        digest: Option<Offer> = "\"by-client\"",
        /// TLS.
        tls: Option<TlsTable>,
        /// Administration.
        admin: Option<AdminTable>,
        /// DNS.
        dns: Option<DnsTable>,
    }
}

table! {
    /// Needed as soon as the topology gives this server a TLS port. All three are PEM; `rehome keys` makes them.
    pub(crate) struct TlsTable {
        /// Names this server, its pool and the SIP domains.
        certificate: PathBuf,
        /// Belongs to it.
        key: PathBuf,
        /// Whom to believe: the servers of partner pools are signed by one of these.
        authorities: PathBuf,
    }
}

table! {
    /// Where `rehome explain`, `status` and the others ask this server.
    pub(crate) struct AdminTable {
        /// Loopback needs no token; anything else does.
        listen: Option<SocketAddr> = "\"127.0.0.1:8061\"",
        /// A file with the token that a caller must show.
        token: Option<PathBuf> = "\"admin.token\"",
    }
}

table! {
    /// Answers DNS for the topology's domains, for sites that have no other server for it.
    pub(crate) struct DnsTable {
        /// Over UDP and TCP.
        listen: SocketAddr,
    }
}

/// When a binding is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Durability {
    /// Within a second, never in the way of the 200.
    #[default]
    WriteBehind,
    /// Before the 200.
    Strict,
    /// Never.
    None,
}

impl Choice for Durability {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("write-behind", Self::WriteBehind), ("strict", Self::Strict), ("none", Self::None)];
}

impl Durability {
    /// The one of that name, as in the file.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::CHOICES.iter().find(|(known, _)| *known == name).map(|(_, durability)| *durability)
    }
}

impl Value for Durability {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        read_choice(value, spot, reading)
    }

    fn shape(&self) -> Shape<'_> {
        choice_shape(*self)
    }
}

impl Choice for Offer {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("by-client", Self::ByClient), ("both", Self::Both), ("sha-256", Self::Sha256)];
}

impl Value for Offer {
    fn read(value: &DeValue<'_>, spot: &Spot, reading: &mut Reading<'_>) -> Option<Self> {
        read_choice(value, spot, reading)
    }

    fn shape(&self) -> Shape<'_> {
        choice_shape(*self)
    }
}

impl ServerFile {
    /// Takes every relative path from `directory`.
    fn lie_in(&mut self, directory: &Path) {
        let mut paths = vec![&mut self.topology, &mut self.directory, &mut self.data];
        paths.extend(self.nonce_secret.as_mut());
        if let Some(tls) = &mut self.tls {
            paths.extend([&mut tls.certificate, &mut tls.key, &mut tls.authorities]);
        }
        if let Some(admin) = &mut self.admin {
            paths.extend(admin.token.as_mut());
        }
        for path in paths {
            // Joining an absolute path gives that path.
            *path = directory.join(&*path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::certificates::{Authority, Files};

    /// A directory with the example's files in it; the certificate names `names`.
    fn desk(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("topology.toml"), super::super::topology::example()).unwrap();
        std::fs::write(at("server.toml"), example()).unwrap();
        std::fs::write(at("nonce.secret"), [7; 32]).unwrap();
        let authority = Authority::new("lab").unwrap();
        std::fs::write(at("ca.pem"), authority.pem()).unwrap();
        let files = Files {
            certificate: at("fe1.example.test.pem"),
            key: at("fe1.example.test.key"),
            authorities: at("ca.pem"),
        };
        authority.issue(names).unwrap().write(&files).unwrap();
        directory
    }

    /// What is said about the example after `from` in it has become `to`, file names shortened.
    fn told(directory: &tempfile::TempDir, from: &str, to: &str) -> Vec<String> {
        let path = directory.path().join("server.toml");
        assert!(example().contains(from), "{from}");
        std::fs::write(&path, example().replacen(from, to, 1)).unwrap();
        let beside = format!("{}/", directory.path().display());
        check(&path).mistakes.iter().map(|mistake| mistake.to_string().replace(&beside, "")).collect()
    }

    const NAMES: [&str; 2] = ["fe1.example.test", "example.test"];

    #[test]
    fn the_example_agrees_with_the_example_topology_and_its_paths_start_beside_it() {
        let directory = desk(&NAMES);
        let (deployment, mistakes) = check(&directory.path().join("server.toml")).usable().unwrap();
        assert_eq!(mistakes, []);
        assert_eq!(deployment.file.topology, directory.path().join("topology.toml"));
        assert_eq!(deployment.file.durability, None, "shown as a comment");
        assert_eq!(deployment.own().map(|(pool, _)| pool.site.as_str()), Some("site1"));
        assert_eq!(told(&directory, "\"data\"", "\"/var/lib/rehome\""), [""; 0]);
        let (deployment, _) = check(&directory.path().join("server.toml")).usable().unwrap();
        assert_eq!(deployment.file.data, Path::new("/var/lib/rehome"), "an absolute path stays where it is");
    }

    #[test]
    fn mistakes_in_the_file_are_told_with_line_and_cure() {
        let text = "server = \"fe1.example.test\"\ntopologie = \"t.toml\"\ndirectory = 1\ndata = \"d\"\n\
                    durability = \"strickt\"\n[admin]\nlisten = \"8061\"\n";
        let mut reading = Reading::new("server.toml", text);
        assert!(understand(&mut reading, Path::new("server.toml")).is_none());
        let told: Vec<String> = reading.into_mistakes().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "server.toml:1: error: `topology` is missing; add `topology = …`: the deployment",
                "server.toml:2: error: topologie: unknown key; did you mean `topology`?",
                "server.toml:3: error: directory: is a number, not a text; write it in quotes, as in \
             \"/etc/rehome/topology.toml\"",
                "server.toml:5: error: durability: \"strickt\" is not one of \"write-behind\" or \"strict\" or \"none\"; \
             did you mean \"strict\"?",
                "server.toml:7: error: admin.listen: \"8061\" is not an address with a port; write it as in \
             \"127.0.0.1:8061\" or \"[::1]:8061\"",
            ]
        );
    }

    #[test]
    fn a_server_that_the_topology_does_not_have_is_told_with_the_nearest() {
        let told = told(&desk(&NAMES), "\"fe1.example.test\"", "\"fe11.example.test\"");
        assert_eq!(
            told,
            ["server.toml:4: error: server: \"fe11.example.test\" is not in topology.toml; did you mean \
             \"fe1.example.test\"?"]
        );
    }

    #[test]
    fn a_certificate_must_name_server_pool_and_domain() {
        let told = told(&desk(&["fe1.example.test"]), "\"data\"", "\"data\"");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0]
                .contains("tls.certificate: the certificate names fe1.example.test, but not example.test;")
        );
    }

    #[test]
    fn files_that_are_not_there_are_told_at_the_key_that_names_them() {
        let directory = desk(&NAMES);
        let key = told(&directory, "fe1.example.test.key", "fe9.key");
        assert!(key.len() == 1 && key[0].contains(": error: tls.key: fe9.key"), "{key:?}");
        let topology = told(&directory, "\"topology.toml\"", "\"topologie.toml\"");
        assert!(
            topology.len() == 1 && topology[0].starts_with("topologie.toml:1: error: cannot be read"),
            "{topology:?}"
        );
        let secret = told(&directory, "\"nonce.secret\"", "\"n.secret\"");
        assert!(secret.len() == 1 && secret[0].contains("nonce_secret: "), "{secret:?}");
        assert!(secret[0].contains("n.secret cannot be read"), "{secret:?}");
        std::fs::write(directory.path().join("n.secret"), "short").unwrap();
        let secret = told(&directory, "\"nonce.secret\"", "\"n.secret\"");
        assert!(secret.len() == 1 && secret[0].contains("holds 5 bytes, of 32 at least"), "{secret:?}");
    }

    #[test]
    fn a_tls_port_without_a_certificate_is_told() {
        let directory = desk(&NAMES);
        let path = directory.path().join("server.toml");
        let text = example();
        std::fs::write(&path, &text[..text.find("# Needed as soon").unwrap()]).unwrap();
        let told: Vec<String> = check(&path).mistakes.iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].contains("add a table [tls]"), "{told:?}");
    }
}
