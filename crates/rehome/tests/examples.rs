//! The examples in the tree are what the program prints, and the program can read what it prints.

use std::path::Path;
use std::process::{Command, Output};

fn rehome(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Command::new(env!("CARGO_BIN_EXE_rehome")).args(arguments).current_dir(root).output().unwrap()
}

fn said(arguments: &[&str]) -> String {
    let output = rehome(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_examples_in_the_tree_are_what_the_program_prints() {
    for which in ["topology", "server"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/{which}.toml"));
        let printed = said(&["config", "example", which]);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &printed).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept, printed, "UPDATE_EXPECT=1 writes examples/{which}.toml anew");
    }
}

#[test]
fn the_example_topology_and_the_labs_are_sound() {
    for file in ["examples/topology.toml", "lab/two-sites.toml", "lab/three-sites.toml"] {
        let answer = said(&["topology", "check", file]);
        assert!(answer.trim_end().ends_with("no errors, no warnings"), "{answer}");
    }
}

#[test]
fn what_is_shown_for_programs_is_the_topology() {
    let shown = said(&["topology", "show", "lab/three-sites.toml", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["profile"], "rehome");
    assert_eq!(shown["pools"].as_array().unwrap().len(), 5);
    assert_eq!(shown["pools"][0]["role"], "director");
    assert_eq!(shown["pools"][4]["backup"], "fe1.example.test");
    assert_eq!(shown["timers_s"]["failback_interval"], 15.0);
}

#[test]
fn a_word_that_is_no_command_ends_with_2_and_says_what_there_is() {
    let output = rehome(&["topologie", "check"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("topology"), "the nearest command is named: {said}");
}

#[test]
fn the_examples_and_the_keys_made_for_them_agree() {
    let desk = tempfile::tempdir().unwrap();
    let type_there = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_rehome")).args(arguments).current_dir(desk.path()).output().unwrap()
    };
    for which in ["topology", "server"] {
        let printed = type_there(&["config", "example", which]).stdout;
        std::fs::write(desk.path().join(format!("{which}.toml")), printed).unwrap();
    }
    let before = type_there(&["config", "check"]);
    assert_eq!(before.status.code(), Some(2), "there is no certificate yet");
    let keys = type_there(&["keys"]);
    assert!(keys.status.success(), "{}", String::from_utf8_lossy(&keys.stderr));
    let after = type_there(&["config", "check"]);
    assert_eq!(
        String::from_utf8_lossy(&after.stdout),
        "server.toml: fe1.example.test of pool fe1.example.test in site1\n"
    );
    assert!(after.status.success());
}
