//! Every state × every sign of the four machines, written out. Whoever changes a row changes it here too.

use std::fmt::Debug;

use super::*;

/// One line per state and sign.
fn print<State, Sign, Act>(states: &[State], signs: &[Sign], next: fn(State, Sign) -> (State, Act)) -> String
where
    State: Copy + Debug,
    Sign: Copy + Debug,
    Act: Debug,
{
    let mut table = String::new();
    for state in states {
        for sign in signs {
            let (to, act) = next(*state, *sign);
            table += &format!("{state:?} + {sign:?} = {to:?}, {act:?}\n");
        }
    }
    table
}

#[test]
fn the_invite_client_machine_is_this_table() {
    use invite_client::{Sign::*, State::*, next};
    let states = [Calling, Proceeding, Completed, Accepted, Terminated];
    let signs = [Provisional, Success, Refusal, Again, GiveUp, Forget, FlowLost];
    assert_eq!(print(&states, &signs, next), INVITE_CLIENT);
}

#[test]
fn the_client_machine_is_this_table() {
    use client::{Sign::*, State::*, next};
    let states = [Trying, Proceeding, Completed, Terminated];
    let signs = [Provisional, Final, Again, GiveUp, Forget, FlowLost];
    assert_eq!(print(&states, &signs, next), CLIENT);
}

#[test]
fn the_invite_server_machine_is_this_table() {
    use invite_server::{Sign::*, State::*, next};
    let states = [Proceeding, Completed, Confirmed, Accepted, Terminated];
    let signs = [Request, Ack, Provisional, Success, Refusal, Again, GiveUp, Forget, FlowLost];
    assert_eq!(print(&states, &signs, next), INVITE_SERVER);
}

#[test]
fn the_server_machine_is_this_table() {
    use server::{Sign::*, State::*, next};
    let states = [Trying, Proceeding, Completed, Terminated];
    let signs = [Request, Provisional, Final, GiveUp, Forget, FlowLost];
    assert_eq!(print(&states, &signs, next), SERVER);
}

#[test]
fn every_state_but_a_ringing_invite_ends_by_itself() {
    use invite_client::State as Asking;
    use invite_server::State as Answering;
    for state in [Asking::Calling, Asking::Completed, Asking::Accepted] {
        assert!(invite_client::timers(state).1.is_some(), "{state:?}");
    }
    for state in [Answering::Completed, Answering::Confirmed, Answering::Accepted] {
        assert!(invite_server::timers(state).1.is_some(), "{state:?}");
    }
    for state in [client::State::Trying, client::State::Proceeding, client::State::Completed] {
        assert!(client::timers(state).1.is_some(), "{state:?}");
    }
    for state in [server::State::Trying, server::State::Proceeding, server::State::Completed] {
        assert!(server::timers(state).1.is_some(), "{state:?}");
    }
    assert_eq!(invite_client::timers(Asking::Proceeding), (None, None));
    assert_eq!(invite_server::timers(Answering::Proceeding), (None, None));
}

const INVITE_CLIENT: &str = "\
Calling + Provisional = Proceeding, PassUp
Calling + Success = Accepted, PassUp
Calling + Refusal = Completed, AcknowledgeAndPassUp
Calling + Again = Calling, Repeat
Calling + GiveUp = Terminated, ReportTimeout
Calling + Forget = Calling, Rest
Calling + FlowLost = Terminated, ReportFlowLost
Proceeding + Provisional = Proceeding, PassUp
Proceeding + Success = Accepted, PassUp
Proceeding + Refusal = Completed, AcknowledgeAndPassUp
Proceeding + Again = Proceeding, Rest
Proceeding + GiveUp = Terminated, ReportTimeout
Proceeding + Forget = Proceeding, Rest
Proceeding + FlowLost = Terminated, ReportFlowLost
Completed + Provisional = Completed, Rest
Completed + Success = Completed, PassUp
Completed + Refusal = Completed, Acknowledge
Completed + Again = Completed, Rest
Completed + GiveUp = Completed, Rest
Completed + Forget = Terminated, Rest
Completed + FlowLost = Terminated, Rest
Accepted + Provisional = Accepted, Rest
Accepted + Success = Accepted, PassUp
Accepted + Refusal = Accepted, Rest
Accepted + Again = Accepted, Rest
Accepted + GiveUp = Accepted, Rest
Accepted + Forget = Terminated, Rest
Accepted + FlowLost = Accepted, Rest
Terminated + Provisional = Terminated, Rest
Terminated + Success = Terminated, Rest
Terminated + Refusal = Terminated, Rest
Terminated + Again = Terminated, Rest
Terminated + GiveUp = Terminated, Rest
Terminated + Forget = Terminated, Rest
Terminated + FlowLost = Terminated, Rest
";

const CLIENT: &str = "\
Trying + Provisional = Proceeding, PassUp
Trying + Final = Completed, PassUp
Trying + Again = Trying, Repeat
Trying + GiveUp = Terminated, ReportTimeout
Trying + Forget = Trying, Rest
Trying + FlowLost = Terminated, ReportFlowLost
Proceeding + Provisional = Proceeding, PassUp
Proceeding + Final = Completed, PassUp
Proceeding + Again = Proceeding, Repeat
Proceeding + GiveUp = Terminated, ReportTimeout
Proceeding + Forget = Proceeding, Rest
Proceeding + FlowLost = Terminated, ReportFlowLost
Completed + Provisional = Completed, Rest
Completed + Final = Completed, Rest
Completed + Again = Completed, Rest
Completed + GiveUp = Completed, Rest
Completed + Forget = Terminated, Rest
Completed + FlowLost = Terminated, Rest
Terminated + Provisional = Terminated, Rest
Terminated + Final = Terminated, Rest
Terminated + Again = Terminated, Rest
Terminated + GiveUp = Terminated, Rest
Terminated + Forget = Terminated, Rest
Terminated + FlowLost = Terminated, Rest
";

const INVITE_SERVER: &str = "\
Proceeding + Request = Proceeding, Repeat
Proceeding + Ack = Proceeding, Rest
Proceeding + Provisional = Proceeding, Send
Proceeding + Success = Accepted, Send
Proceeding + Refusal = Completed, Send
Proceeding + Again = Proceeding, Rest
Proceeding + GiveUp = Proceeding, Rest
Proceeding + Forget = Proceeding, Rest
Proceeding + FlowLost = Terminated, ReportFlowLost
Completed + Request = Completed, Repeat
Completed + Ack = Confirmed, Rest
Completed + Provisional = Completed, Rest
Completed + Success = Completed, Rest
Completed + Refusal = Completed, Rest
Completed + Again = Completed, Repeat
Completed + GiveUp = Terminated, ReportTimeout
Completed + Forget = Completed, Rest
Completed + FlowLost = Terminated, Rest
Confirmed + Request = Confirmed, Rest
Confirmed + Ack = Confirmed, Rest
Confirmed + Provisional = Confirmed, Rest
Confirmed + Success = Confirmed, Rest
Confirmed + Refusal = Confirmed, Rest
Confirmed + Again = Confirmed, Rest
Confirmed + GiveUp = Confirmed, Rest
Confirmed + Forget = Terminated, Rest
Confirmed + FlowLost = Terminated, Rest
Accepted + Request = Accepted, Rest
Accepted + Ack = Accepted, PassUp
Accepted + Provisional = Accepted, Rest
Accepted + Success = Accepted, Send
Accepted + Refusal = Accepted, Rest
Accepted + Again = Accepted, Rest
Accepted + GiveUp = Accepted, Rest
Accepted + Forget = Terminated, Rest
Accepted + FlowLost = Accepted, Rest
Terminated + Request = Terminated, Rest
Terminated + Ack = Terminated, Rest
Terminated + Provisional = Terminated, Rest
Terminated + Success = Terminated, Rest
Terminated + Refusal = Terminated, Rest
Terminated + Again = Terminated, Rest
Terminated + GiveUp = Terminated, Rest
Terminated + Forget = Terminated, Rest
Terminated + FlowLost = Terminated, Rest
";

const SERVER: &str = "\
Trying + Request = Trying, Rest
Trying + Provisional = Proceeding, Send
Trying + Final = Completed, Send
Trying + GiveUp = Terminated, ReportTimeout
Trying + Forget = Trying, Rest
Trying + FlowLost = Terminated, ReportFlowLost
Proceeding + Request = Proceeding, Repeat
Proceeding + Provisional = Proceeding, Send
Proceeding + Final = Completed, Send
Proceeding + GiveUp = Terminated, ReportTimeout
Proceeding + Forget = Proceeding, Rest
Proceeding + FlowLost = Terminated, ReportFlowLost
Completed + Request = Completed, Repeat
Completed + Provisional = Completed, Rest
Completed + Final = Completed, Rest
Completed + GiveUp = Completed, Rest
Completed + Forget = Terminated, Rest
Completed + FlowLost = Terminated, Rest
Terminated + Request = Terminated, Rest
Terminated + Provisional = Terminated, Rest
Terminated + Final = Terminated, Rest
Terminated + GiveUp = Terminated, Rest
Terminated + Forget = Terminated, Rest
Terminated + FlowLost = Terminated, Rest
";
