//! TLS 1.2 and 1.3: who may talk to whom, decided in the handshake.
//!
//! ```text
//!   we accept   ask for a certificate, do not require one; one that does not verify ends the handshake
//!   we connect  the certificate must name the target; ours is shown when asked for
//! ```
//!
//! Phones have no certificate and prove themselves by digest; servers have one and are then known by
//! the names in it. A reload replaces the configuration whole: new handshakes use the new one, living
//! connections stay.
//!
//! RFC 8446, RFC 5246; RFC 5922 §7 for which names count.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError as Invalid, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    ServerConfig, SignatureScheme, WantsVerifier,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::certificates::{self, CertificateError, Material};
use crate::nic::Stream;

/// How a client treats a server whose certificate is good but names somebody else.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Names {
    /// Refuse it: the certificate must name the target.
    #[default]
    Strict,
    /// Accept it: any certificate of a believed authority will do.
    Any,
}

/// One host's TLS, for both directions; shared, and replaceable while it works.
pub struct Tls {
    names: Names,
    server: ArcSwap<Option<Arc<ServerConfig>>>,
    client: ArcSwap<ClientConfig>,
}

impl Tls {
    /// TLS with this material. Without an identity it can connect but not accept.
    pub fn new(material: &Material, names: Names) -> Result<Arc<Tls>, CertificateError> {
        Ok(Arc::new(Tls {
            names,
            server: ArcSwap::from_pointee(server_config(material)?),
            client: ArcSwap::from_pointee(client_config(material, names)?),
        }))
    }

    /// From now on, handshakes use this material. Nothing changes if it is faulty.
    pub fn reload(&self, material: &Material) -> Result<(), CertificateError> {
        let (server, client) = (server_config(material)?, client_config(material, self.names)?);
        self.server.store(Arc::new(server));
        self.client.store(Arc::new(client));
        Ok(())
    }

    /// Shakes hands with who connected to us; gives the names they proved, none if they showed no certificate.
    pub async fn accept(&self, stream: Stream) -> std::io::Result<(TlsStream<Stream>, Vec<String>)> {
        let Some(config) = self.server.load().as_ref().clone() else {
            return Err(std::io::Error::other("no certificate of our own to accept TLS with"));
        };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let names = proved(stream.get_ref().1.peer_certificates());
        Ok((stream.into(), names))
    }

    /// Shakes hands with whom we connected to, who must prove to be `name`; gives all names they proved.
    pub async fn connect(
        &self,
        stream: Stream,
        name: &str,
    ) -> std::io::Result<(TlsStream<Stream>, Vec<String>)> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| std::io::Error::other(format!("{name:?} is not a name TLS can prove")))?;
        let stream = TlsConnector::from(self.client.load_full()).connect(name, stream).await?;
        let names = proved(stream.get_ref().1.peer_certificates());
        Ok((stream.into(), names))
    }
}

fn proved(chain: Option<&[CertificateDer<'_>]>) -> Vec<String> {
    chain.and_then(<[_]>::first).map(certificates::names_of).unwrap_or_default()
}

fn server_config(material: &Material) -> Result<Option<Arc<ServerConfig>>, CertificateError> {
    let Some(identity) = &material.identity else {
        return Ok(None);
    };
    let verifier = if material.authorities.is_empty() {
        WebPkiClientVerifier::no_client_auth()
    } else {
        WebPkiClientVerifier::builder_with_provider(roots(material)?, provider())
            .allow_unauthenticated()
            .build()
            .map_err(|why| faulty(why.to_string()))?
    };
    let mut config = versions(ServerConfig::builder_with_provider(provider()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(|why| faulty(why.to_string()))?;
    // Tickets instead of a session store: a client that returns costs no memory while it is away.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|why| faulty(why.to_string()))?;
    config.key_log = Arc::new(rustls::KeyLogFile::new());
    Ok(Some(Arc::new(config)))
}

fn client_config(material: &Material, names: Names) -> Result<ClientConfig, CertificateError> {
    let builder = versions(ClientConfig::builder_with_provider(provider()))?;
    let builder = match names {
        Names::Strict => builder.with_root_certificates(roots(material)?),
        Names::Any => {
            let strict = WebPkiServerVerifier::builder_with_provider(roots(material)?, provider())
                .build()
                .map_err(|why| faulty(why.to_string()))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(strict)))
        }
    };
    let mut config = match &material.identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|why| faulty(why.to_string()))?,
        None => builder.with_no_client_auth(),
    };
    config.key_log = Arc::new(rustls::KeyLogFile::new());
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn versions<S: rustls::ConfigSide>(
    builder: ConfigBuilder<S, rustls::WantsVersions>,
) -> Result<ConfigBuilder<S, WantsVerifier>, CertificateError> {
    builder
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|why| faulty(why.to_string()))
}

fn roots(material: &Material) -> Result<Arc<RootCertStore>, CertificateError> {
    let mut roots = RootCertStore::empty();
    for authority in &material.authorities {
        roots
            .add(authority.clone())
            .map_err(|why| faulty(format!("an authority's certificate is unusable: {why}")))?;
    }
    Ok(Arc::new(roots))
}

fn faulty(what: String) -> CertificateError {
    CertificateError {
        path: None,
        what,
        cure: "check certificate, key and authorities with `openssl x509 -text`".into(),
    }
}

/// Verifies everything but the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                Invalid::NotValidForName | Invalid::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
