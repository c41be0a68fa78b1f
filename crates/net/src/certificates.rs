//! Certificates: making them for a lab, loading them from files, asking whom they name.
//!
//! ```text
//!   Authority ──issue──► Identity (chain + key) ─┐
//!   PEM files ──load──────────────────────────────┴─► Material ──► tls::Tls (new handshakes use it)
//! ```
//!
//! A server's certificate names the server, its pool and the SIP domains (RFC 5922 §7.1): clients
//! prove the domain, other servers prove the server and the pool. Keys are ECDSA P-256: a failover
//! of 100 000 clients costs a quarter of what RSA would.
//!
//! Not here: handshakes (`tls`), and who may do what with a proved name (the brains).

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::clock;

/// What is wrong with a certificate or key, in which file, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateError {
    /// The file at fault, if it came from one.
    pub path: Option<PathBuf>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub cure: String,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        write!(f, "{}; {}", self.what, self.cure)
    }
}

impl std::error::Error for CertificateError {}

/// Who we are: our certificate, those that lead up from it, and its key.
#[derive(Debug)]
pub struct Identity {
    /// Our certificate first, then its issuers, as sent in a handshake.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Identity {
        Identity { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// Everything TLS needs: who we are, and whom we believe.
#[derive(Clone, Debug)]
pub struct Material {
    /// Ours; a client may have none.
    pub identity: Option<Identity>,
    /// The authorities whose certificates we accept, of servers and of peers.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// The PEM files of one server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Files {
    /// Certificate chain, our own certificate first.
    pub certificate: PathBuf,
    /// Its private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
    /// The authorities we accept, one or more certificates.
    pub authorities: PathBuf,
}

impl Files {
    /// Loads all three, and checks that the key is the certificate's.
    pub fn load(&self) -> Result<Material, CertificateError> {
        let identity = Identity { chain: load_chain(&self.certificate)?, key: load_key(&self.key)? };
        let signs = rustls::crypto::aws_lc_rs::sign::any_supported_type(&identity.key).map_err(|why| {
            CertificateError {
                path: Some(self.key.clone()),
                what: format!("this key cannot be used: {why}"),
                cure: "make an ECDSA P-256 or RSA key".into(),
            }
        })?;
        let same = rustls::sign::CertifiedKey::new(identity.chain.clone(), signs).keys_match();
        if let Err(rustls::Error::InconsistentKeys(_)) = same {
            return Err(CertificateError {
                path: Some(self.key.clone()),
                what: format!("this is not the key of the certificate in {}", self.certificate.display()),
                cure: "give the key that the certificate was requested with".into(),
            });
        }
        Ok(Material { identity: Some(identity), authorities: load_chain(&self.authorities)? })
    }
}

/// Reads every certificate of a PEM file, in its order.
pub fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let pem = read(path)?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|why| CertificateError {
            path: Some(path.into()),
            what: format!("not a PEM file: {why}"),
            cure: "it should hold -----BEGIN CERTIFICATE----- blocks".into(),
        })?;
    if chain.is_empty() {
        return Err(CertificateError {
            path: Some(path.into()),
            what: "no certificate in this file".into(),
            cure: "it should hold -----BEGIN CERTIFICATE----- blocks (a DER file is converted with `openssl x509 -inform der`)".into(),
        });
    }
    Ok(chain)
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|why| CertificateError {
        path: Some(path.into()),
        what: format!("no private key in this file: {why}"),
        cure: "it should hold one unencrypted -----BEGIN PRIVATE KEY----- block".into(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|why| CertificateError {
        path: Some(path.into()),
        what: format!("cannot be read: {why}"),
        cure: match why.kind() {
            std::io::ErrorKind::NotFound => "check the path in the configuration",
            std::io::ErrorKind::PermissionDenied => "let the server's user read it",
            _ => "check the file and its disk",
        }
        .into(),
    })
}

/// The authorities this machine trusts, from the places where systems keep them.
pub fn system_authorities() -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    const PLACES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
        "/etc/ssl/ca-bundle.pem",
    ];
    let found = PLACES.iter().map(Path::new).find(|path| path.exists());
    load_chain(found.unwrap_or(Path::new(PLACES[0])))
}

/// The names a certificate proves, lower case: DNS names, addresses and `sip:` URIs without their scheme of its
/// subjectAltName; its common name only where it has none (RFC 5922 §7.1).
pub fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::URI(uri) => {
                    if let Some(domain) = uri.strip_prefix("sip:") {
                        names.push(domain.to_ascii_lowercase());
                    }
                }
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                    names.extend(v4.or(v6).ok().map(|address| address.to_string()));
                }
                _ => {}
            }
        }
    }
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    names
}

/// Checks that our certificate names everything it will be asked to prove: the server, its pool, and
/// the SIP domains. The error says which names are missing.
pub fn check_names(chain: &[CertificateDer<'_>], wanted: &[&str]) -> Result<(), CertificateError> {
    let names = chain.first().map(names_of).unwrap_or_default();
    let proves = |wanted: &str| {
        let wanted = wanted.to_ascii_lowercase();
        names.iter().any(|name| match name.strip_prefix("*.") {
            // A wildcard stands for exactly one label.
            Some(parent) => wanted.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => *name == wanted,
        })
    };
    let missing: Vec<&str> = wanted.iter().copied().filter(|wanted| !proves(wanted)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    Err(CertificateError {
        path: None,
        what: format!("the certificate names {named}, but not {}", missing.join(", ")),
        cure: "have it issued again with the missing names as subjectAltName (DNS)".into(),
    })
}

//------------ Authority -----------------------------------------------------

/// A certificate authority for the lab and for tests: believed by those who are told to, and by nobody else.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Makes a new one, called `name`, good for ten years.
    pub fn new(name: &str) -> Result<Authority, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(made)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = called(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        valid_for_years(&mut params, 10);
        let certificate = params.self_signed(&key).map_err(made)?;
        Ok(Authority {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Its own certificate: what others must be told to believe.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as PEM, for phones and files.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate that names `names` (DNS names or addresses; the first is its common name), for server
    /// and client side, good for two years.
    pub fn issue(&self, names: &[&str]) -> Result<Identity, CertificateError> {
        self.issue_with_years(names, 2)
    }

    /// The same for a certificate that has expired already: what a forgotten renewal looks like.
    pub fn issue_expired(&self, names: &[&str]) -> Result<Identity, CertificateError> {
        self.issue_with_years(names, 0)
    }

    fn issue_with_years(&self, names: &[&str], years: i32) -> Result<Identity, CertificateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(made)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = called(names.first().copied().unwrap_or("unnamed"));
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().map_err(made)?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for_years(&mut params, years);
        let certificate = params.signed_by(&key, &self.issuer).map_err(made)?;
        Ok(Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// What a server needs to live under this authority: a certificate with these names, and belief in its peers'.
    pub fn material(&self, names: &[&str]) -> Result<Material, CertificateError> {
        Ok(Material { identity: Some(self.issue(names)?), authorities: vec![self.certificate.clone()] })
    }

    /// What a client without a certificate needs: belief in this authority.
    pub fn belief(&self) -> Material {
        Material { identity: None, authorities: vec![self.certificate.clone()] }
    }
}

impl Identity {
    /// The certificate chain as PEM.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The private key as PEM. Keep it secret.
    pub fn key_pem(&self) -> String {
        let label = match &self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem(label, self.key.secret_der())
    }

    /// Writes chain and key where `files` says, the key readable by its owner only.
    pub fn write(&self, files: &Files) -> std::io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::write(&files.certificate, self.chain_pem())?;
        let mut key = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&files.key)?;
        key.write_all(self.key_pem().as_bytes())
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// From yesterday (clocks differ a little) until the same day `years` later; 0 years have been over since yesterday.
fn valid_for_years(params: &mut CertificateParams, years: i32) {
    const DAY: u64 = 86_400;
    let yesterday = clock::unix_s().saturating_sub(DAY);
    let (year, month, day) = clock::civil_date(yesterday);
    // The 29th of February does not come every year.
    let day = day.min(28);
    params.not_before = date_time_ymd(year - i32::from(years == 0), month, day);
    params.not_after = date_time_ymd(year + years, month, day);
}

fn made(why: rcgen::Error) -> CertificateError {
    CertificateError {
        path: None,
        what: format!("a certificate could not be made: {why}"),
        cure: "names must be DNS names or addresses".into(),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::with_capacity(der.len() * 4 / 3 + 4);
    for chunk in der.chunks(3) {
        let three = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 0x3f;
            base64.push(if place <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (at, letter) in base64.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str(&format!("\n-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_read_back_what_was_issued_and_every_mistake_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files {
            certificate: dir.path().join("north1.pem"),
            key: dir.path().join("north1.key"),
            authorities: dir.path().join("authorities.pem"),
        };
        let authority = Authority::new("lab").unwrap();
        let identity = authority.issue(&["north1.example.test", "north.example.test", "127.1.0.1"]).unwrap();
        identity.write(&files).unwrap();

        let why = files.load().unwrap_err();
        assert_eq!(why.path.as_ref(), Some(&files.authorities), "{why}");

        std::fs::write(&files.authorities, authority.pem()).unwrap();
        let material = files.load().unwrap();
        let chain = material.identity.unwrap().chain;
        assert_eq!(names_of(&chain[0]), ["north1.example.test", "north.example.test", "127.1.0.1"]);
        assert_eq!(check_names(&chain, &["North1.example.test", "north.example.test"]), Ok(()));
        let why = check_names(&chain, &["north.example.test", "south.example.test"]).unwrap_err();
        assert!(why.what.ends_with("but not south.example.test"), "{why}");

        std::fs::write(&files.key, authority.issue(&["other"]).unwrap().key_pem()).unwrap();
        let why = files.load().unwrap_err();
        assert!(why.to_string().contains("not the key of the certificate"), "{why}");

        std::fs::write(&files.certificate, "hello").unwrap();
        let why = files.load().unwrap_err();
        assert!(why.to_string().contains("north1.pem: no certificate"), "{why}");
    }
}
