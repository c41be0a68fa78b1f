//! From the files of a deployment to a running server, and again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use net::certificates::{Files, Material};
use net::directory::DirectoryFile;
use net::drive_server::{Options, ServerHost};
use resilience::topology::{ServerName, Topology};
use server::directory::Directory;
use sip::digest::NonceKey;

use crate::command::{Trouble, read_topology};
use crate::config::server::{Durability, ServerFile, TlsTable};

/// Bytes of a nonce secret that are used; a file may hold more.
pub(crate) const SECRET: usize = 32;

/// The name of the nonce secret beside a topology.
pub(crate) const SECRET_FILE: &str = "nonce.secret";

/// The name of the authorities beside a topology.
pub(crate) const AUTHORITIES_FILE: &str = "ca.pem";

/// What a server's files say at one moment.
pub(crate) struct Reading {
    /// The published document.
    pub(crate) topology: Arc<Topology>,
    /// Who the users are.
    pub(crate) directory: Arc<Directory>,
    /// Certificate, key and authorities, where the server has TLS.
    pub(crate) certificates: Option<Material>,
}

/// The files of a server that was given a topology and nothing else: they lie beside it, named after the server.
pub(crate) fn beside(topology: &Path, server: &str) -> ServerFile {
    let directory = topology.parent().unwrap_or(Path::new("")).to_path_buf();
    let secret = directory.join(SECRET_FILE);
    let tls = tls_beside(&directory, server);
    ServerFile {
        server: server.to_owned(),
        topology: topology.to_path_buf(),
        directory: directory.join("directory.sqlite"),
        data: directory.join("data").join(server),
        durability: None,
        shards: None,
        nonce_secret: secret.exists().then_some(secret),
        digest: None,
        tls: tls.certificate.exists().then_some(tls),
        admin: None,
        dns: None,
    }
}

/// Where `rehome keys` puts a server's certificate, and `rehome serve` looks for it.
pub(crate) fn tls_beside(directory: &Path, server: &str) -> TlsTable {
    TlsTable {
        certificate: directory.join(format!("{server}.pem")),
        key: directory.join(format!("{server}.key")),
        authorities: directory.join(AUTHORITIES_FILE),
    }
}

/// Reads everything that may change while the server runs.
pub(crate) fn read(file: &ServerFile) -> Result<Reading, Trouble> {
    let topology = Arc::new(read_topology(&file.topology)?);
    if topology.server(&file.server).is_none() {
        let servers = topology.pools.iter().flat_map(|pool| &pool.servers);
        let known: Vec<&str> = servers.map(|server| server.name.as_str()).collect();
        return Err(Trouble::Usage(format!(
            "{} has no server {}; it has {}",
            file.topology.display(),
            file.server,
            known.join(", ")
        )));
    }
    let directory =
        DirectoryFile::open(&file.directory).and_then(|mut open| open.load()).map_err(|why| anyhow!(why))?;
    let certificates = match &file.tls {
        None => None,
        Some(tls) => Some(files_of(tls).load().map_err(|why| anyhow!(why))?),
    };
    Ok(Reading { topology, directory: Arc::new(directory), certificates })
}

/// The same three paths as `net` wants them.
pub(crate) fn files_of(tls: &TlsTable) -> Files {
    Files { certificate: tls.certificate.clone(), key: tls.key.clone(), authorities: tls.authorities.clone() }
}

/// What `net` needs to start this server.
pub(crate) fn options(file: &ServerFile, reading: Reading) -> Result<Options, Trouble> {
    let key = match &file.nonce_secret {
        Some(path) => nonce_key(path)?,
        None => {
            tracing::warn!(
                "no nonce secret: a client that fails over will be challenged again (`rehome keys` makes one)"
            );
            let mut secret = [0; SECRET];
            getrandom::fill(&mut secret).map_err(|why| anyhow!("the system gives no randomness: {why}"))?;
            NonceKey::new(secret)
        }
    };
    let server = ServerName::from(file.server.as_str());
    let mut options = Options::new(reading.topology, reading.directory, server, file.data.clone(), key);
    options.certificates = reading.certificates;
    options.settings.digest = file.digest.unwrap_or_default();
    options.durability = match file.durability.unwrap_or_default() {
        Durability::WriteBehind => net::disk::Durability::default(),
        Durability::Strict => net::disk::Durability::Strict,
        Durability::None => net::disk::Durability::None,
    };
    options.shards = match file.shards {
        Some(shards) => usize::from(shards),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    Ok(options)
}

fn nonce_key(path: &PathBuf) -> anyhow::Result<NonceKey> {
    let bytes = std::fs::read(path).with_context(|| {
        format!("nonce_secret: {} cannot be read; `rehome keys` makes one", path.display())
    })?;
    let Some(secret) = bytes.first_chunk::<SECRET>() else {
        bail!(
            "nonce_secret: {} holds {} bytes, of {SECRET} at least; `rehome keys` makes one",
            path.display(),
            bytes.len()
        );
    };
    Ok(NonceKey::new(*secret))
}

/// Ends a server in good order, once nobody asks it anything any more; gives the changes that could not be saved.
pub(crate) async fn stop(mut host: Arc<ServerHost>) -> usize {
    loop {
        match Arc::try_unwrap(host) {
            Ok(host) => return host.stop().await,
            // A request of the admin interface is being answered; that takes milliseconds.
            Err(asked) => host = asked,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The token in a file, without the line end people's editors add.
pub(crate) fn read_token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the token in {} cannot be read", path.display()))?;
    let token = text.trim();
    if token.is_empty() {
        bail!("{} holds no token; write a long random word into it", path.display());
    }
    Ok(token.to_owned())
}
