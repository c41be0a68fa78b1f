//! Requests through the registration, both ways.

use bytes::Bytes;
use resilience::profile::Profile;
use sip::header::HeaderName;
use sip::method::Method;

use super::scripted::{Does, FE1, Scripted, home};
use crate::config::Calls;
use crate::{Command, Config};

fn at_home(adjust: impl FnOnce(&mut Config)) -> Scripted {
    let mut world = Scripted::with(Profile::Rehome, None, adjust);
    world.server(FE1, home());
    world.tell(Command::SignIn);
    world.story();
    world
}

fn request(method: Method, to: &str) -> Command {
    Command::Request {
        id: 1,
        method,
        to: to.to_owned(),
        headers: Vec::new(),
        content_type: "text/plain".to_owned(),
        body: Bytes::from_static(b"hello"),
    }
}

#[test]
fn a_message_goes_out_by_the_registered_flow_and_its_answer_comes_back() {
    let mut world = at_home(|_| {});
    world.tell(request(Method::Message, "bob"));
    assert_eq!(world.story(), "0.0 MESSAGE   200 OK");
    let (_, message) = world.seen.last().expect("a request");
    assert_eq!(message.request_uri(), Some("sip:bob@example.test"));
    assert_eq!(message.body(), b"hello");
}

#[test]
fn a_request_without_a_registration_fails_at_once() {
    let mut world = Scripted::new(Profile::Rehome);
    world.tell(request(Method::Message, "bob@example.test"));
    assert_eq!(world.story(), "0.0 MESSAGE   no answer (not registered)");
}

#[test]
fn a_request_whose_flow_dies_fails_then() {
    let mut world = at_home(|_| {});
    world.server(FE1, Does::Mute);
    world.tell(request(Method::Message, "bob"));
    world.server(FE1, Does::Refuse);
    world.reset(FE1);
    let story = world.story();
    assert!(story.contains("MESSAGE   no answer (the flow was lost)"), "{story}");
}

#[test]
fn an_incoming_message_is_answered_and_shown() {
    let mut world = at_home(|_| {});
    world.send(FE1, &Method::Message, &[], "good morning");
    assert_eq!(world.last_answer(), 200);
    assert_eq!(world.story(), "0.0 MESSAGE   from sip:bob@example.test  200");
}

#[test]
fn a_call_is_answered_with_an_inactive_description_until_the_other_side_hangs_up() {
    let mut world = at_home(|_| {});
    let contact = [("Contact", "<sip:bob@127.0.0.8:5061;transport=tls>")];
    world.send(FE1, &Method::Invite, &contact, "");
    assert_eq!(world.last_answer(), 200);
    let answer = world.answers.last().cloned().expect("an answer");
    assert!(String::from_utf8_lossy(answer.body()).contains("a=inactive"));
    let to = answer.header(HeaderName::To).expect("a To").to_owned();

    world.elapse(1);
    assert_eq!(world.answers.len(), 2, "the 2xx is repeated until its ACK");
    world.send(FE1, &Method::Ack, &[("To", &to)], "");
    world.elapse(10);
    assert_eq!(world.answers.len(), 2);

    world.send(FE1, &Method::Bye, &[("To", &to)], "");
    assert_eq!(world.last_answer(), 200);
    assert!(world.story().ends_with("call      with sip:bob@example.test is over"));
    world.send(FE1, &Method::Bye, &[("To", &to)], "");
    assert_eq!(world.last_answer(), 481);
}

#[test]
fn a_busy_client_declines_calls() {
    let mut world = at_home(|config| config.calls = Calls::Busy);
    world.send(FE1, &Method::Invite, &[("Contact", "<sip:bob@127.0.0.8>")], "");
    assert_eq!(world.last_answer(), 486);
}

#[test]
fn our_own_call_is_acknowledged_and_ended() {
    let mut world = at_home(|_| {});
    world.tell(request(Method::Invite, "bob"));
    assert_eq!(world.story(), "0.0 INVITE    200 OK");
    world.tell(Command::HangUp { id: 1 });
    let methods: Vec<Method> = world.seen.iter().skip(1).map(|(_, request)| request.method()).collect();
    assert_eq!(methods, [Method::Invite, Method::Ack, Method::Bye]);
    let (_, bye) = world.seen.last().expect("a BYE");
    assert_eq!(bye.request_uri(), Some("sip:bob@127.0.0.8:5061;transport=tls"));
}

#[test]
fn what_we_do_not_do_is_refused_with_what_we_do() {
    let mut world = at_home(|_| {});
    world.send(FE1, &Method::Subscribe, &[("Event", "presence")], "");
    assert_eq!(world.last_answer(), 405);
    let answer = world.answers.last().expect("an answer");
    assert!(answer.header(HeaderName::Allow).is_some_and(|allow| allow.contains("MESSAGE")));
}

#[test]
fn garbage_is_told_and_survived() {
    let mut world = at_home(|_| {});
    world.garbage(FE1, b"MESSAGE what is this\r\n\r\n");
    assert!(world.story().starts_with("0.0 malformed "));
    assert_eq!(world.where_is(), "fe1.example.test");
}
