//! The operator's commands about users, as typed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A directory of its own, with the lab's topology in it.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lab/three-sites.toml");
        std::fs::copy(lab, directory.path().join("topology.toml")).unwrap();
        Self { directory }
    }

    /// Types `rehome user …`, with `input` on standard input.
    fn user(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rehome"))
            .arg("user")
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The command may have ended without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn json(&self, arguments: &[&str], input: &str) -> Value {
        let output = self.user(&[arguments, &["--json"]].concat(), input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The exit code and the one line of an error.
    fn refused(&self, arguments: &[&str], input: &str) -> (Option<i32>, String) {
        let output = self.user(arguments, input);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(line.lines().count(), 1, "{arguments:?}: one line: {line}");
        (output.status.code(), line)
    }

    fn add(&self, user: &str, home: &str) -> Value {
        self.json(&["add", user, "--home", home, "--password-file", "-"], "open sesame\n")
    }
}

#[test]
fn a_user_is_added_moved_disabled_and_forgotten() {
    let desk = Desk::new();
    let alice = desk.add("alice@Example.test", "fe1.example.test");
    assert_eq!(alice["user"], "alice@example.test");
    assert_eq!(alice["backup"], "fe2.example.test");
    assert_eq!(
        alice["primary_servers"].as_array().unwrap().len(),
        2,
        "the pool has two, in the user's order"
    );
    assert_eq!(alice["enabled"], true);

    desk.add("sip:bob@example.test", "fe3.example.test");
    let moved = desk.json(&["move", "alice@example.test", "fe2.example.test"], "");
    assert_eq!(
        (moved["primary"].as_str(), moved["backup"].as_str()),
        (Some("fe2.example.test"), Some("fe1.example.test"))
    );
    assert_eq!(desk.json(&["disable", "alice@example.test"], "")["enabled"], false);
    assert_eq!(desk.json(&["show", "alice@example.test"], "")["enabled"], false);
    assert_eq!(desk.json(&["enable", "alice@example.test"], "")["enabled"], true);

    let homed = desk.json(&["list", "--home", "fe3.example.test"], "");
    assert_eq!(homed["users"].as_array().unwrap().len(), 1);
    assert_eq!(homed["users"][0]["user"], "bob@example.test");

    desk.json(&["remove", "bob@example.test"], "");
    let (code, why) = desk.refused(&["show", "bob@example.test"], "");
    assert_eq!(code, Some(1));
    assert!(why.contains("there is no user bob@example.test"), "{why}");
}

#[test]
fn a_table_is_for_people() {
    let desk = Desk::new();
    desk.add("alice@example.test", "fe1.example.test");
    let output = desk.user(&["list"], "");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "user                primary           backup            number  may register\n\
         alice@example.test  fe1.example.test  fe2.example.test  —       yes\n"
    );
}

#[test]
fn the_password_is_nowhere_on_disk() {
    let desk = Desk::new();
    desk.add("alice@example.test", "fe1.example.test");
    desk.json(&["password", "alice@example.test", "--password-file", "-"], "another sesame\n");
    let mut files = 0;
    for entry in std::fs::read_dir(desk.directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"sesame"));
        files += 1;
    }
    assert!(files >= 2, "topology and directory");
}

#[test]
fn what_cannot_be_is_refused_with_a_cure() {
    let desk = Desk::new();
    let add = |user: &str, home: &str, password: &str| {
        let (code, why) = desk.refused(&["add", user, "--home", home, "--password-file", "-"], password);
        assert_eq!(code, Some(2), "{why}");
        why
    };
    let why = add("alice@example.test", "fe9.example.test", "x");
    assert!(why.contains("did you mean \"fe1.example.test\"?"), "{why}");
    let why = add("alice@example.test", "dir1.example.test", "x");
    assert!(why.contains("is a director and homes nobody; pools that do: fe1.example.test"), "{why}");
    let why = add("alice@example.org", "fe1.example.test", "x");
    assert!(why.contains("example.org is not served; served are example.test"), "{why}");
    let why = add("alice@example.test", "fe1.example.test", "\n");
    assert!(why.contains("the password is empty"), "{why}");

    let (code, why) = desk.refused(&["add", "alice@example.test", "--home", "fe1.example.test"], "");
    assert_eq!(code, Some(2));
    assert!(why.contains("--password-file"), "{why}");

    let (code, why) = desk.refused(&["list"], "");
    assert_eq!(code, Some(2));
    assert!(why.contains("there is no user directory directory.sqlite"), "{why}");
}

#[test]
fn a_user_cannot_be_added_twice() {
    let desk = Desk::new();
    desk.add("alice@example.test", "fe1.example.test");
    let again = ["add", "alice@example.test", "--home", "fe2.example.test", "--password-file", "-"];
    let (code, why) = desk.refused(&again, "x");
    assert_eq!(code, Some(1));
    assert!(why.contains("alice@example.test") && why.contains("exists already"), "{why}");
    assert_eq!(
        desk.json(&["show", "alice@example.test"], "")["primary"],
        "fe1.example.test",
        "nothing has changed"
    );
}
