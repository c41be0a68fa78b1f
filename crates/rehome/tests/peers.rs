//! Programs that others wrote, unmodified: `sipp` by the thousand, `baresip` and `linphone` as people use them.
//!
//! Each registers with digest over UDP, TCP and TLS. The phones find their server by SRV, refresh, unregister,
//! and are refused with a wrong password. What the server holds is asked of the server (`explain`, `status`).

mod support;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use support::{DNS, Deployment, FE1, PASSWORD, PHONE, REHOME, Running, fixture, installed, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A deployment whose servers and DNS run. Its domain has SRV records and no address of its own, so that a phone
/// which knows only the domain finds its server by SRV or not at all.
struct Site {
    // Dropped in this order: programs first, their hosts last.
    fe1: Running,
    _others: [Running; 2],
    deployment: Deployment,
}

impl Site {
    /// Starts everything, or says why `test` is skipped. `programs` are (program, Debian's package).
    fn start(test: &str, nickname: &str, programs: &[(&str, &str)]) -> Option<Site> {
        if !installed(test, programs) {
            return None;
        }
        let deployment = Deployment::new(test, nickname, "rehome", &[(0, "fe1"), (10, "fe2")])?;
        let dns = deployment.dns();
        Some(Site { fe1: deployment.serve("fe1"), _others: [dns, deployment.serve("fe2")], deployment })
    }

    /// Adds users homed on fe1, and waits until it has noticed them by itself.
    fn import(&mut self, users: impl Iterator<Item = String>) {
        let list: String =
            users.map(|user| format!("{user}@example.test,fe1.example.test,{PASSWORD}\n")).collect();
        self.write("users.csv", &list);
        self.deployment.run(&[
            "user",
            "import",
            "users.csv",
            "--topology",
            "topology.toml",
            "--directory",
            "directory.sqlite",
        ]);
        self.fe1.wait_for("directory version", SOON);
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.deployment.path(name);
        let folder = path.parent().expect("every file has a folder");
        std::fs::create_dir_all(folder).expect("a folder can be made");
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// What fe1 answers to a command.
    fn ask_fe1(&self, arguments: &[&str]) -> Value {
        let output = self
            .deployment
            .hosts
            .on("fe1", REHOME)
            .arg("--json")
            .args(arguments)
            .output()
            .expect("the program can be run");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|why| panic!("{arguments:?}: {why}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Where fe1 holds this user to be, and why.
    fn explain(&self, user: &str) -> Value {
        self.ask_fe1(&["explain", &format!("{user}@example.test")])["explanations"][0].take()
    }

    /// The user's bindings at fe1.
    fn bindings(&self, user: &str) -> Vec<Value> {
        let told = self.explain(user);
        told["bindings"].as_array().unwrap_or_else(|| panic!("no list of bindings: {told}")).clone()
    }
}

//------------ sipp ----------------------------------------------------------

/// How many users `sipp` registers, over each transport.
const CROWD: usize = 1000;

#[test]
fn a_thousand_users_register_with_digest_over_udp() {
    let test = "a_thousand_users_register_with_digest_over_udp";
    let Some(site) = Site::start(test, "u", &[("sipp", "sip-tester")]) else { return };
    register_crowd(site, "u1", PHONE.to_string(), format!("{FE1}:5060"), "UDP");
}

#[test]
fn a_thousand_users_register_with_digest_over_tcp() {
    let test = "a_thousand_users_register_with_digest_over_tcp";
    let Some(site) = Site::start(test, "t", &[("sipp", "sip-tester")]) else { return };
    register_crowd(site, "tn", PHONE.to_string(), format!("{FE1}:5060"), "TCP");
}

/// Debian builds `sipp` without TLS, so `stunnel` puts its connections into TLS, one for one.
#[test]
fn a_thousand_users_register_with_digest_over_tls() {
    let test = "a_thousand_users_register_with_digest_over_tls";
    let Some(site) = Site::start(test, "s", &[("sipp", "sip-tester"), ("stunnel", "stunnel4")]) else {
        return;
    };
    let authority = site.deployment.path("ca.pem");
    let config = site.write(
        "stunnel.conf",
        &format!(
            "foreground = yes\npid =\n[sip]\nclient = yes\naccept = 127.0.0.1:5062\nconnect = {FE1}:5061\n\
             CAfile = {}\nverifyChain = yes\ncheckHost = example.test\n",
            authority.display()
        ),
    );
    let mut stunnel = Running::start("stunnel", site.deployment.hosts.on("phone", "stunnel").arg(config));
    stunnel.wait_for("Configuration successful", SOON);
    register_crowd(site, "tn", "127.0.0.1".to_owned(), "127.0.0.1:5062".to_owned(), "TLS");
}

/// Registers [`CROWD`] users by `sipp` in its `mode`, from `local` to `target`; the server sees `transport`.
fn register_crowd(mut site: Site, mode: &str, local: String, target: String, transport: &str) {
    let users = || (0..CROWD).map(|number| format!("crowd{number}"));
    site.import(users());
    let lines: String = users()
        .map(|user| format!("{user};example.test;[authentication username={user} password={PASSWORD}]\n"))
        .collect();
    site.write("fields.csv", &format!("SEQUENTIAL\n{lines}"));
    let output = site
        .deployment
        .hosts
        .on("phone", "sipp")
        .args([&target, "-sf", &fixture("register.xml").display().to_string(), "-inf", "fields.csv"])
        .args(["-m", &CROWD.to_string(), "-r", "200", "-l", "300", "-max_socket", "2000"])
        .args(["-t", mode, "-i", &local, "-nostdin", "-timeout", "60", "-timeout_error"])
        .args(["-trace_err", "-error_file", "errors.log"])
        .current_dir(site.deployment.directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("sipp can be run");
    // It ends with 0 only if every call of the scenario went as written.
    assert!(
        output.status.success(),
        "sipp over {transport}: {}\n{}\nthe server said:\n{}",
        output.status,
        std::fs::read_to_string(site.deployment.path("errors.log")).unwrap_or_default(),
        site.fe1.said()
    );
    let status = site.ask_fe1(&["status"]);
    let registered = &status["servers"][0]["users_by_home_pool"]["fe1.example.test"];
    assert_eq!(registered.as_u64(), Some(CROWD as u64), "the server's own count: {status}");
    let last = site.bindings(&format!("crowd{}", CROWD - 1));
    assert_eq!(last[0]["transport"], transport, "{last:?}");
}

//------------ Phones --------------------------------------------------------

const TRANSPORTS: [&str; 3] = ["udp", "tcp", "tls"];

/// How long a phone asks to be registered: the shortest that the deployment grants.
const EXPIRY_S: u64 = 10;

/// Whose phone it is and how it speaks.
struct Account {
    user: String,
    transport: &'static str,
    password: &'static str,
    /// Who vouches for the servers.
    authority: PathBuf,
}

/// One make of phone.
struct Make {
    /// Switches a phone on.
    start: fn(&Site, &Account) -> Running,
    /// What it says when it has given up registering.
    refused: &'static str,
    /// Switches it off as its user would, so that it unregisters.
    end: fn(&mut Running),
}

/// Phones of one make, side by side: one over each transport, and for each another with a wrong password.
fn phones_live(site: &mut Site, make: &Make) {
    let owner = |transport: &str| format!("owner-{transport}");
    let stranger = |transport: &str| format!("stranger-{transport}");
    site.import(TRANSPORTS.into_iter().flat_map(|transport| [owner(transport), stranger(transport)]));
    let authority = site.deployment.path("ca.pem");
    let switch_on = |user, transport, password| {
        let account = Account { user, transport, password, authority: authority.clone() };
        (make.start)(site, &account)
    };
    let mut owners = TRANSPORTS.map(|transport| switch_on(owner(transport), transport, PASSWORD));
    let mut strangers = TRANSPORTS.map(|transport| switch_on(stranger(transport), transport, "guessed"));

    for transport in TRANSPORTS {
        let user = owner(transport);
        wait_until(&format!("{user} is registered"), SOON, || !site.bindings(&user).is_empty());
        let bindings = site.bindings(&user);
        assert_eq!(bindings.len(), 1, "{bindings:?}");
        assert_eq!(bindings[0]["transport"], transport.to_uppercase(), "{bindings:?}");
        let left = bindings[0]["expires_in_s"].as_u64();
        assert!(left.is_some_and(|left| left <= EXPIRY_S), "{user} got more than it asked for: {bindings:?}");
    }
    for phone in &mut strangers {
        phone.wait_for(make.refused, SOON);
        let said = phone.said();
        assert!(said.contains("response=\""), "it was refused before it gave a password:\n{said}");
    }
    for transport in TRANSPORTS {
        let user = owner(transport);
        // A binding older than its expiry has been refreshed.
        wait_until(&format!("{user} refreshes"), SOON, || {
            let bindings = site.bindings(&user);
            assert_eq!(bindings.len(), 1, "{user} was lost or doubled: {bindings:?}");
            bindings[0]["age_s"].as_u64().is_some_and(|age| age > EXPIRY_S)
        });
    }
    for (transport, phone) in TRANSPORTS.iter().zip(&mut owners) {
        (make.end)(phone);
        phone.wait_for_end(SOON);
        let user = owner(transport);
        wait_until(&format!("{user} is unregistered"), SOON, || site.bindings(&user).is_empty());
        let told = site.explain(&user);
        let last = told["moves"].as_array().and_then(|moves| moves.last()).unwrap_or(&Value::Null);
        let ended = last["what"].as_str().is_some_and(|what| what.contains("client initiated"));
        assert!(ended, "{user} did not unregister but was forgotten: {last}");
    }
    for transport in TRANSPORTS {
        // The strangers have gone on trying all the while.
        let told = site.explain(&stranger(transport));
        assert_eq!(told["bindings"], Value::Array(Vec::new()), "a wrong password was let in");
    }
}

//------------ baresip -------------------------------------------------------

#[test]
fn baresip_registers_over_udp_tcp_and_tls() {
    let test = "baresip_registers_over_udp_tcp_and_tls";
    let Some(mut site) = Site::start(test, "b", &[("baresip", "baresip-core")]) else { return };
    let make = Make { start: baresip, refused: ": 401 Unauthorized (", end: |phone| phone.signal("INT") };
    phones_live(&mut site, &make);
}

fn baresip(site: &Site, account: &Account) -> Running {
    let Account { user, transport, password, authority } = account;
    let config = format!(
        "poll_method epoll\nsip_listen {PHONE}:0\nsip_cafile {}\ndns_server {DNS}:53\n\
         module_path /usr/lib/baresip/modules\nmodule uuid.so\nmodule_app account.so\nmodule_app menu.so\n",
        authority.display()
    );
    let config = site.write(&format!("{user}/config"), &config);
    site.write(
        &format!("{user}/accounts"),
        &format!(
            "<sip:{user}@example.test;transport={transport}>;auth_user={user};auth_pass={password};regint={EXPIRY_S}\n"
        ),
    );
    let home = config.parent().expect("just written there");
    // Into a pipe it would speak by the page.
    let mut command = site.deployment.hosts.on("phone", "stdbuf");
    Running::start(user, command.args(["-oL", "-eL", "baresip", "-s", "-f"]).arg(home))
}

//------------ linphone ------------------------------------------------------

const LINPHONE: [(&str, &str); 2] = [("linphone-daemon", "linphone-cli"), ("pulseaudio", "pulseaudio")];

#[test]
fn linphone_registers_over_udp_tcp_and_tls() {
    let test = "linphone_registers_over_udp_tcp_and_tls";
    let Some(mut site) = Site::start(test, "l", &LINPHONE) else { return };
    let _sound = sound(&site);
    let make =
        Make { start: linphone, refused: "to [LinphoneRegistrationFailed]", end: |phone| phone.say("quit") };
    phones_live(&mut site, &make);
}

#[test]
fn linphone_turns_away_from_a_server_its_authority_does_not_vouch_for() {
    let test = "linphone_turns_away_from_a_server_its_authority_does_not_vouch_for";
    let Some(mut site) = Site::start(test, "m", &LINPHONE) else { return };
    let _sound = sound(&site);
    site.import(std::iter::once("owner".to_owned()));
    site.deployment.run(&["keys", "--topology", "topology.toml", "--out", "elsewhere"]);
    let authority = site.deployment.path("elsewhere/ca.pem");
    let account = Account { user: "owner".to_owned(), transport: "tls", password: PASSWORD, authority };
    let mut phone = linphone(&site, &account);
    phone.wait_for("Certificate verification failed", SOON);
    phone.wait_for("to [LinphoneRegistrationFailed]", SOON);
    assert!(site.bindings("owner").is_empty(), "it registered with a server that nobody vouches for");
}

/// A sound server that plays to nobody: linphone does nothing without one.
fn sound(site: &Site) -> Running {
    let socket = site.deployment.path("sound");
    let mut command = site.deployment.hosts.on("phone", "pulseaudio");
    command
        .args([
            "-n",
            "--daemonize=no",
            "--use-pid-file=no",
            "--exit-idle-time=-1",
            "-L",
            "module-null-sink",
            "-L",
        ])
        .arg(format!("module-native-protocol-unix socket={} auth-anonymous=1", socket.display()))
        .env("HOME", site.deployment.directory.path())
        .env("XDG_RUNTIME_DIR", site.deployment.directory.path());
    let running = Running::start("pulseaudio", &mut command);
    wait_until("pulseaudio listens", SOON, || socket.exists());
    running
}

/// A `linphone-daemon` that registers by itself; `quit` makes it unregister and end.
fn linphone(site: &Site, account: &Account) -> Running {
    let Account { user, transport, password, authority } = account;
    let config = format!(
        "[sip]\ndefault_proxy=0\nsip_port=-1\nsip_tcp_port=-1\nsip_tls_port=-1\nroot_ca={}\n\
         verify_server_certs=1\nverify_server_cn=1\n\
         [proxy_0]\nreg_proxy=<sip:example.test;transport={transport}>\nreg_identity=sip:{user}@example.test\n\
         reg_expires={EXPIRY_S}\nreg_sendregister=1\n\
         [auth_info_0]\nusername={user}\nrealm=example.test\npasswd={password}\n",
        authority.display()
    );
    let config = site.write(&format!("{user}/linphonerc"), &config);
    let home = config.parent().expect("just written there");
    // It does not make the folder of its own database.
    std::fs::create_dir_all(home.join(".local/share/linphone")).expect("a folder can be made");
    let mut command = site.deployment.hosts.on("phone", "stdbuf");
    command
        .args(["-oL", "linphone-daemon", "--log", "/dev/stdout", "--config"])
        .arg(&config)
        .env("HOME", home)
        .env("PULSE_SERVER", format!("unix:{}", site.deployment.path("sound").display()))
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_CONFIG_HOME");
    Running::start_attentive(user, &mut command)
}
