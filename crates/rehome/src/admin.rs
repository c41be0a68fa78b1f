//! The admin interface: HTTP and JSON between a running server and the commands that ask it.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | each server: pool, partners, users, what was lost |
//! | `GET /v1/users/{user}/explain` | where the user is and why, as each server here sees it |
//! | `POST /v1/reload` | topology, certificates and directory are read again; no connection is dropped |
//! | `POST /v1/pools/{pool}/fail-over` | serve this pool's users now, heartbeat or not |
//! | `POST /v1/pools/{pool}/fail-back` | send this pool's users home now |
//! | `POST /v1/servers/{server}/drain`, `…/undrain` | take no new registrations, or take them again |
//!
//! A refusal is a status of 400 or above with `{"error": "what; cure"}`. With a token every caller must show it
//! (`Authorization: Bearer …`). Without one we listen on loopback alone, and whoever works on this machine may ask; a
//! web page in their browser may not.
//!
//! Not here: what a command prints, and everything that needs no running server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use net::drive_server::ServerHost;
use resilience::topology::PoolName;
use serde_json::{Value, json};
use server::Command;
use server::view::{Explanation, View};
use sip::uri::AddressOfRecord;
use tokio::sync::{mpsc, oneshot};

/// Where a server listens, and commands ask, unless told otherwise.
pub(crate) const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8061);

/// How long a command waits for a running server before it says that there is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// A wish to reload; answered with what was read, or what is wrong with it.
pub(crate) type ReloadWish = oneshot::Sender<Result<String, String>>;

/// What the interface can reach.
#[derive(Clone)]
pub(crate) struct Desk {
    /// The servers of this process: one, or all of a lab. Theirs to end: an open connection here keeps none alive.
    pub(crate) servers: Vec<Weak<ServerHost>>,
    /// Who reloads, if anybody can.
    pub(crate) reload: Option<mpsc::Sender<ReloadWish>>,
    /// What a caller must show.
    pub(crate) token: Option<Arc<str>>,
}

/// A running interface; dropping it closes it.
pub(crate) struct Admin {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Admin {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens the interface at `listen`. `extra` are routes of the caller's own, under the same rules.
pub(crate) async fn open(listen: SocketAddr, desk: Desk, extra: Router) -> anyhow::Result<Admin> {
    if !listen.ip().is_loopback() && desk.token.is_none() {
        bail!("admin: {listen} is not a loopback address, so callers need a token; give `token` in [admin]");
    }
    let listener = tokio::net::TcpListener::bind(listen).await.with_context(|| {
        format!("cannot open the admin interface on {listen}; is another server or lab running here? `--admin` takes another address")
    })?;
    let address = listener.local_addr()?;
    let token = desk.token.clone();
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/users/{user}/explain", get(explain))
        .route("/v1/reload", post(reload))
        .route("/v1/pools/{pool}/fail-over", post(fail_over))
        .route("/v1/pools/{pool}/fail-back", post(fail_back))
        .route("/v1/servers/{server}/drain", post(drain))
        .route("/v1/servers/{server}/undrain", post(undrain))
        .with_state(desk)
        .merge(extra)
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "no such request here") })
        .layer(middleware::from_fn(move |request, next| admit(token.clone(), request, next)));
    let task = tokio::spawn(async move {
        if let Err(why) = axum::serve(listener, router).await {
            tracing::error!(%address, %why, "the admin interface is gone");
        }
    });
    Ok(Admin { address, task })
}

/// Asks a running server. Gives its answer, or its refusal as an error.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
) -> anyhow::Result<Value> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .build()
        .into();
    let uri = format!("http://{address}{path}");
    let mut request = ureq::http::Request::builder().method(method).uri(&uri);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response = agent.run(request.body(())?).with_context(|| {
        format!("nobody answers at {address}; start `rehome serve` or `rehome lab`, or say `--admin` with the right address")
    })?;
    let status = response.status();
    let value: Value =
        response.body_mut().read_json().with_context(|| format!("{address} does not speak our JSON"))?;
    if !status.is_success() {
        bail!("{}", value["error"].as_str().unwrap_or("refused without a reason"));
    }
    Ok(value)
}

/// Escapes one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b':' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// A refusal in the interface's form.
pub(crate) fn refuse(status: StatusCode, why: impl Into<String>) -> Response {
    (status, axum::Json(json!({ "error": why.into() }))).into_response()
}

async fn admit(token: Option<Arc<str>>, request: Request, next: Next) -> Response {
    if let Some(token) = token {
        let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !same(shown.as_bytes(), token.as_bytes()) {
            return refuse(
                StatusCode::UNAUTHORIZED,
                "the token is missing or wrong; `--token-file` takes it",
            );
        }
    } else if is_of_a_web_page(request.headers()) {
        return refuse(
            StatusCode::FORBIDDEN,
            "web pages may not ask here; use `rehome`, or curl with the address in numbers",
        );
    }
    next.run(request).await
}

/// A page of anywhere can make a browser on this machine ask here: openly, with its origin, or under a name of its own
/// that it lets point to us.
fn is_of_a_web_page(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_number = host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok();
    let is_local = host.split(':').next() == Some("localhost");
    headers.contains_key(header::ORIGIN) || !(is_number || is_local)
}

/// Compares without telling by time how much was right.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

async fn status(State(desk): State<Desk>) -> Response {
    let mut servers = Vec::new();
    for host in desk.servers.iter().filter_map(Weak::upgrade) {
        let views = host.views().await;
        let losses = host.losses();
        if let Some(mut told) = add_up(&views) {
            told["unheard_datagrams"] = losses.unheard.into();
            told["unsent_datagrams"] = losses.unsent.into();
            told["unsaved_changes"] = losses.unsaved.into();
            servers.push(told);
        }
    }
    axum::Json(json!({ "servers": servers })).into_response()
}

/// The views of one server's shards as one.
fn add_up(views: &[View]) -> Option<Value> {
    let first = views.first()?;
    let mut users = std::collections::BTreeMap::new();
    for (pool, count) in views.iter().flat_map(|view| &view.users) {
        *users.entry(pool.to_string()).or_insert(0) += count;
    }
    let partners: Vec<Value> = first
        .partners
        .iter()
        .map(|partner| {
            json!({
                "pool": partner.pool.as_str(),
                "state": format!("{:?}", partner.state),
                "since_s": partner.since.as_secs_f64(),
                "lost_in_s": partner.lost_in.map(|left| left.as_secs_f64()),
            })
        })
        .collect();
    Some(json!({
        "server": first.server.as_str(),
        "pool": first.pool.as_str(),
        "role": format!("{:?}", first.role),
        "profile": first.profile.name(),
        "topology_version": first.topology_version,
        "directory_version": first.directory_version,
        "store_ok": first.store_ok,
        "draining": first.draining,
        "user_services": first.user_services,
        "partners": partners,
        "silent_servers": first.silent.iter().map(|server| server.as_str()).collect::<Vec<_>>(),
        "users_by_home_pool": users,
        "bindings": views.iter().map(|view| view.bindings).sum::<usize>(),
        "going_home": views.iter().map(|view| view.going_home).sum::<usize>(),
        "transactions": views.iter().map(|view| view.transactions).sum::<usize>(),
        "shards": views.len(),
    }))
}

async fn explain(State(desk): State<Desk>, Path(user): Path<String>) -> Response {
    let Ok(aor) = user.parse::<AddressOfRecord>() else {
        return refuse(StatusCode::BAD_REQUEST, format!("`{user}` is no user; say `name@domain`"));
    };
    let mut explanations = Vec::new();
    for host in desk.servers.iter().filter_map(Weak::upgrade) {
        explanations.extend(host.explain(&aor).await.as_ref().map(explanation));
    }
    if explanations.is_empty() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    }
    axum::Json(json!({ "user": user, "explanations": explanations })).into_response()
}

fn explanation(told: &Explanation) -> Value {
    json!({
        "server": told.server.as_str(),
        "text": told.to_string(),
        "home": told.user.as_ref().map(|user| user.home.as_str()),
        "backup": told.user.as_ref().and_then(|user| user.backup.as_ref()).map(|pool| pool.as_str()),
        "enabled": told.user.as_ref().map(|user| user.enabled),
        "preferred": told.user.as_ref().map(|user| {
            user.preferred.iter().map(|server| server.as_str()).collect::<Vec<_>>()
        }),
        "bindings": told.bindings.iter().map(|binding| json!({
            "contact": binding.contact,
            "transport": binding.transport.to_string(),
            "remote": binding.flow.remote.to_string(),
            "reachable": binding.reachable,
            "q": f64::from(binding.q) / 1000.0,
            "expires_in_s": binding.expires_in.as_secs(),
            "age_s": binding.age.as_secs(),
            "user_agent": binding.user_agent,
            "instance": binding.instance,
        })).collect::<Vec<_>>(),
        "answer": told.answer,
        "if_it_died": told.if_it_died,
        "moves": told.moves.iter().map(|step| json!({
            "ago_s": step.ago.as_secs_f64(), "what": step.what,
        })).collect::<Vec<_>>(),
    })
}

async fn reload(State(desk): State<Desk>) -> Response {
    let Some(reload) = &desk.reload else {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "a lab's topology is what it was started with; start it again",
        );
    };
    let (wish, outcome) = oneshot::channel();
    if reload.send(wish).await.is_err() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    }
    match outcome.await {
        Ok(Ok(what)) => axum::Json(json!({ "reloaded": what })).into_response(),
        Ok(Err(why)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, why),
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"),
    }
}

async fn fail_over(State(desk): State<Desk>, Path(pool): Path<String>) -> Response {
    tell_about_pool(&desk, &pool, Command::FailOver).await
}

async fn fail_back(State(desk): State<Desk>, Path(pool): Path<String>) -> Response {
    tell_about_pool(&desk, &pool, Command::FailBack).await
}

/// Tells the servers that watch `pool`; refuses if none here does.
async fn tell_about_pool(desk: &Desk, pool: &str, command: impl Fn(PoolName) -> Command) -> Response {
    let mut told = Vec::new();
    let mut watched = Vec::new();
    for host in desk.servers.iter().filter_map(Weak::upgrade) {
        for view in host.views().await.iter().take(1) {
            if view.partners.iter().any(|partner| partner.pool.as_str() == pool) {
                host.command(command(PoolName::from(pool)));
                told.push(view.server.to_string());
            }
            watched.extend(view.partners.iter().map(|partner| partner.pool.to_string()));
        }
    }
    if told.is_empty() {
        watched.sort();
        watched.dedup();
        let why = format!(
            "no server here backs up a pool called `{pool}`; those watched are: {}",
            watched.join(", ")
        );
        return refuse(StatusCode::NOT_FOUND, why);
    }
    axum::Json(json!({ "told": told })).into_response()
}

async fn drain(State(desk): State<Desk>, Path(server): Path<String>) -> Response {
    tell_server(&desk, &server, Command::Drain).await
}

async fn undrain(State(desk): State<Desk>, Path(server): Path<String>) -> Response {
    tell_server(&desk, &server, Command::Undrain).await
}

async fn tell_server(desk: &Desk, server: &str, command: Command) -> Response {
    let mut known = Vec::new();
    for host in desk.servers.iter().filter_map(Weak::upgrade) {
        let Some(view) = host.views().await.into_iter().next() else { continue };
        if view.server.as_str() == server {
            host.command(command);
            return axum::Json(json!({ "told": [server] })).into_response();
        }
        known.push(view.server.to_string());
    }
    refuse(StatusCode::NOT_FOUND, format!("no server called `{server}` here; there is {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_place_in_the_path() {
        assert_eq!(segment("alice@example.test"), "alice@example.test");
        assert_eq!(segment("../x y?"), "..%2Fx%20y%3F");
    }

    #[test]
    fn a_browser_that_a_web_page_sends_is_told_from_a_person() {
        let is_of_a_web_page = |host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            super::is_of_a_web_page(&headers)
        };
        for host in ["127.0.0.1:8061", "127.0.0.1", "[::1]:8061", "localhost:8061", "localhost"] {
            assert!(!is_of_a_web_page(host, None), "{host}");
            assert!(is_of_a_web_page(host, Some("https://elsewhere.test")), "{host}");
            assert!(is_of_a_web_page(host, Some("null")), "{host}");
        }
        assert!(is_of_a_web_page("elsewhere.test:8061", None), "a name that points to us is not ours");
        assert!(is_of_a_web_page("localhost.elsewhere.test", None));
    }

    #[test]
    fn a_token_must_be_the_same_to_the_byte() {
        assert!(same(b"secret", b"secret"));
        assert!(!same(b"secret", b"Secret"));
        assert!(!same(b"secre", b"secret"));
    }
}
