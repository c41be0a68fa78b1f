//! The lab as a visitor meets it: up in seconds, cut, restored, signed in to, and gone without a trace.
//!
//! The lab's addresses are fixed, so these tests take turns, also with another run of themselves on this machine.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;

/// A lab that takes longer than this for anything has failed.
const BOUND: Duration = Duration::from_secs(60);

/// Holds the lab's addresses for one test.
fn turn() -> File {
    let path = std::env::temp_dir().join("rehome-lab-tests.lock");
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    file.lock().unwrap();
    file
}

fn rehome(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rehome"));
    command.args(arguments).env("XDG_STATE_HOME", state).env_remove("RUST_LOG");
    command
}

fn said(state: &Path, arguments: &[&str]) -> Output {
    rehome(state, arguments).stdin(Stdio::null()).output().unwrap()
}

/// A command that goes on and prints a JSON object a line.
struct Running {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
}

impl Running {
    fn start(state: &Path, arguments: &[&str]) -> Running {
        let mut child = rehome(state, arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for text in stdout.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
                if line.send(value).is_err() {
                    return;
                }
            }
        });
        Running { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that is as wanted.
    fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.lines.recv_timeout(BOUND) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if is_it(&line) {
                        return line;
                    }
                }
                Err(why) => {
                    let seen: Vec<String> = self.seen.iter().map(Value::to_string).collect();
                    panic!("{what} did not come ({why}); seen:\n{}", seen.join("\n"));
                }
            }
        }
    }

    /// Waits until `user` is served so at `registrar`.
    fn until_served(&mut self, user: &str, service: &str, registrar: &str) {
        let what = format!("{user}, {service} at {registrar},");
        self.until(&what, |line| {
            line["who"] == user && line["service"] == service && line["registrar"] == registrar
        });
    }

    /// Ctrl-C.
    fn interrupt(&self) {
        let killed = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for its end, which must be a good one.
    fn end(mut self) {
        // Its output ends with it, and what it still says is of no interest.
        while self.lines.recv_timeout(BOUND).is_ok() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves no lab behind; one that passed has none any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_lab(state: &Path) -> (Running, Value) {
    let mut lab = Running::start(state, &["lab", "--for", "5m", "--json"]);
    let ready = lab.until("the screen", |line| line["event"] == "ready");
    (lab, ready)
}

#[test]
fn a_pool_is_cut_and_restored_and_its_user_goes_and_comes_home() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let (mut lab, ready) = start_lab(dir.path());
    assert!(ready["seconds"].as_f64().unwrap() < 10.0, "{ready}");
    let is_full = |user: &Value| user["service"] == "full";
    assert!(ready["users"].as_array().unwrap().iter().all(is_full), "{ready}");
    assert_eq!(ready["users"][1]["registrar"], "fe2.example.test");
    assert_eq!(ready["servers"][0]["partners"]["fe2.example.test"], "Up");

    let unknown = said(dir.path(), &["lab", "cut", "fe3"]);
    assert_eq!(unknown.status.code(), Some(1));
    let why = String::from_utf8_lossy(&unknown.stderr);
    assert!(why.contains("fe1.example.test, fe2.example.test"), "{why}");

    let second = said(dir.path(), &["lab"]);
    assert_eq!(second.status.code(), Some(1));
    let why = String::from_utf8_lossy(&second.stderr);
    assert!(why.contains("already running") && why.contains("Ctrl-C"), "{why}");

    assert!(said(dir.path(), &["lab", "cut", "fe2"]).status.success());
    lab.until_served("bob", "limited", "fe1.example.test");

    assert!(said(dir.path(), &["lab", "restore", "fe2.example.test"]).status.success());
    lab.until_served("bob", "full", "fe2.example.test");

    // Cut at the end, too: nobody can sign out through a cable that is out, and it ends all the same.
    assert!(said(dir.path(), &["lab", "cut", "site1"]).status.success());
    lab.interrupt();
    let stopped = lab.until("the end", |line| line["event"] == "stopped");
    assert_eq!(stopped["text"], "everybody is signed out, 2 servers stopped");
    lab.end();

    let alone = said(dir.path(), &["sign-in", "dave@example.test", "--lab"]);
    assert_eq!(alone.status.code(), Some(1));
    let why = String::from_utf8_lossy(&alone.stderr);
    assert!(why.contains("no lab is running"), "{why}");

    let nobody = said(dir.path(), &["lab", "restore", "fe2"]);
    assert_eq!(nobody.status.code(), Some(1));
    let why = String::from_utf8_lossy(&nobody.stderr);
    assert!(why.contains("rehome lab"), "it says what to start: {why}");
}

#[test]
fn a_visitor_discovers_signs_in_is_remembered_and_is_refused_with_a_wrong_password() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let (lab, ready) = start_lab(dir.path());
    let dns = ready["dns"].as_str().unwrap();

    let found = said(dir.path(), &["discover", "example.test", "--dns", dns]);
    assert!(found.status.success());
    let found = String::from_utf8(found.stdout).unwrap();
    let expected = "\
NAPTR example.test → nothing
SRV _sipinternaltls._tcp.example.test → fe1.example.test, fe2.example.test
A/AAAA fe1.example.test → 127.1.0.1
  choice 1: TLS 127.1.0.1:5061 as fe1.example.test
A/AAAA fe2.example.test → 127.2.0.1
  choice 2: TLS 127.2.0.1:5061 as fe2.example.test
";
    assert_eq!(found, expected);
    assert_eq!(said(dir.path(), &["discover", "nowhere.test", "--dns", dns]).status.code(), Some(1));

    let once = |extra: &[&str]| {
        let mut arguments = vec!["sign-in", "dave@example.test", "--lab", "--once"];
        arguments.extend(extra);
        let output = said(dir.path(), &arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (first, _) = once(&[]);
    assert!(first.contains("discover  SRV"), "{first}");
    assert!(first.contains("══ Full at fe1.example.test ══"), "{first}");
    assert!(first.contains("sign-out  fe1.example.test  confirmed"), "{first}");

    let (second, _) = once(&[]);
    assert!(second.contains("cache     fe1.example.test, fe2.example.test"), "{second}");
    assert!(!second.contains("discover"), "what is remembered needs no DNS: {second}");

    let cache = dir.path().join("rehome/cache/dave@example.test.json");
    std::fs::write(&cache, "{ half a fi").unwrap();
    let (third, warned) = once(&[]);
    assert!(third.contains("discover  SRV") && warned.contains("will be written anew"), "{third}{warned}");
    assert!(std::fs::read_to_string(&cache).unwrap().contains("fe2.example.test"));

    for transport in ["udp", "tcp"] {
        let registrar = format!("sip:127.1.0.1:5060;transport={transport}");
        let (plain, _) = once(&["--transport", transport, "--registrar", &registrar, "--relaxed-names"]);
        assert!(plain.contains("══ Full at 127.1.0.1 ══"), "{plain}");
    }

    let wrong = dir.path().join("wrong");
    std::fs::write(&wrong, "not the password\n").unwrap();
    let refused = said(
        dir.path(),
        &["sign-in", "dave@example.test", "--lab", "--password-file", wrong.to_str().unwrap()],
    );
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("refuses"), "{why}");

    // Nobody listens there.
    let dead = "sip:127.1.0.9:5060;transport=tcp";
    let late = ["--transport", "tcp", "--registrar", dead, "--relaxed-names", "--once", "--for", "1s"];
    let mut arguments = vec!["sign-in", "dave@example.test", "--lab"];
    arguments.extend(late);
    let late = said(dir.path(), &arguments);
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&late.stderr).contains("not registered in time"));

    // What programs read: steps, and the service with its place.
    let mut session = Running::start(dir.path(), &["sign-in", "dave@example.test", "--lab", "--json"]);
    let full = session.until("full service", |line| line["service"] == "full");
    assert_eq!(full["registrar"], "fe1.example.test");
    assert!(full["seconds"].is_f64());
    session.interrupt();
    session.until("the farewell", |line| {
        line["event"].as_str().is_some_and(|event| event.starts_with("sign-out"))
    });
    session.end();

    lab.interrupt();
    lab.end();
}

#[test]
fn the_article_is_replayed_on_real_sockets_and_one_profile_rescues_whom_the_other_strands() {
    // Its addresses are its own, but two runs at once would share them.
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let output = said(dir.path(), &["lab", "replay", "article", "--fast", "--json"]);
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    let broken: Vec<&Value> =
        verdict["rows"].as_array().unwrap().iter().filter(|row| row["ok"] != true).collect();
    assert!(output.status.success(), "{broken:#?} {}", verdict["stories"]);
    assert!(verdict["took_s"].as_f64().unwrap() < 120.0);
    let outcome = |story: &str, profile: &str| {
        let stories = verdict["stories"].as_array().unwrap();
        let found = stories.iter().find(|one| one["story"] == story && one["profile"] == profile);
        found.unwrap()["outcome"].as_str().unwrap().to_owned()
    };
    for story in ["s2", "s6"] {
        assert!(outcome(story, "lync2010").starts_with("stranded"), "{}", outcome(story, "lync2010"));
        assert!(outcome(story, "rehome").starts_with("rescued"), "{}", outcome(story, "rehome"));
    }
    let left = std::fs::read_dir(dir.path().join("rehome")).unwrap().count();
    assert_eq!(left, 0, "its files are gone");
}
