//! `rehome explain`: where a user is, why, and what would happen if that pool died.

use std::fmt::Write as _;

use anyhow::anyhow;
use serde_json::Value;
use sip::uri::AddressOfRecord;

use super::user::short;
use super::{AdminArguments, Trouble};
use crate::admin::segment;
use crate::output::Output;

/// Says where a user is, why, and what would happen if that pool died.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  rehome explain alice@example.test

Asks one running server (a lab: all of its servers); what another knows, ask that one. Ends with 1 if there is no such user.")]
pub(crate) struct Arguments {
    /// The user: `alice@example.test`.
    user: AddressOfRecord,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, output: Output) -> Result<(), Trouble> {
    let user = segment(short(&arguments.user));
    let answer = arguments.admin.ask("GET", &format!("/v1/users/{user}/explain"))?;
    let told = answer["explanations"].as_array().cloned().unwrap_or_default();
    if told.iter().all(|one| one["home"].is_null() && is_empty(&one["bindings"])) {
        if output.json {
            output.say("", &answer)?;
        }
        return Err(Trouble::Failed(anyhow!(
            "there is no user {}; `rehome user list` names all",
            short(&arguments.user)
        )));
    }
    output.say(page(&told), &answer)?;
    Ok(())
}

/// In full what servers say that have seen the user, in a line what the others would answer. If nobody has, the
/// user's own server speaks.
fn page(told: &[Value]) -> String {
    let has_seen = |one: &Value| !is_empty(&one["bindings"]) || !is_empty(&one["moves"]);
    let own = |one: &Value| one["server"] == one["preferred"][0];
    let speaks: Vec<bool> = if told.iter().any(has_seen) {
        told.iter().map(has_seen).collect()
    } else if told.iter().any(own) {
        told.iter().map(own).collect()
    } else {
        vec![true; told.len()]
    };
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let in_full = told.iter().zip(&speaks).filter(|(_, speaks)| **speaks);
    let mut page = in_full.map(|(one, _)| text(one, "text")).collect::<Vec<_>>().join("\n");
    for (place, (one, _)) in told.iter().zip(&speaks).filter(|(_, speaks)| !**speaks).enumerate() {
        let before = if place == 0 { "\nnot seen by\n" } else { "" };
        let _ =
            writeln!(page, "{before}  {}, which would answer {}", text(one, "server"), text(one, "answer"));
    }
    page
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(server: &str, moves: &[&str]) -> Value {
        json!({
            "server": server, "text": format!("bob as seen by {server}\n"), "answer": "301 to fe2",
            "preferred": ["fe2"], "bindings": [], "moves": moves,
        })
    }

    #[test]
    fn a_server_that_has_not_seen_the_user_gets_one_line() {
        let page = page(&[told("fe1", &["REGISTER 301"]), told("fe2", &["REGISTER 200"]), told("fe3", &[])]);
        let expected = "bob as seen by fe1\n\nbob as seen by fe2\n\n\
                        not seen by\n  fe3, which would answer 301 to fe2\n";
        assert_eq!(page, expected);
    }

    #[test]
    fn of_a_user_whom_nobody_has_seen_their_own_server_tells() {
        let page = page(&[told("fe1", &[]), told("fe2", &[])]);
        assert_eq!(page, "bob as seen by fe2\n\nnot seen by\n  fe1, which would answer 301 to fe2\n");
    }
}
