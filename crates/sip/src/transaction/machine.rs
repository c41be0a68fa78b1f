//! The two machines of each side behind one face, so that the collection need not care which it drives.
//!
//! What was noticed is translated into the sign of the machine at hand, and what a non-INVITE machine wants
//! done into the words of its INVITE twin, which has them all.

use crate::method::Method;

use super::timer::Timer;
use super::{client, invite_client, invite_server, server};

/// Something that both machines of one side can notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Noticed {
    /// A response: received by a client, to be sent by a server.
    Status(u16),
    /// The request once more.
    Request,
    /// An ACK.
    Ack,
    /// It is time to repeat.
    Again,
    /// It is time to stop hoping.
    GiveUp,
    /// It is time to stop absorbing.
    Forget,
    /// The flow is gone.
    FlowLost,
}

/// Either machine of the asking side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClientMachine {
    Invite(invite_client::State),
    Other(client::State),
}

impl ClientMachine {
    pub(super) fn new(method: &Method) -> ClientMachine {
        if *method == Method::Invite {
            ClientMachine::Invite(invite_client::State::Calling)
        } else {
            ClientMachine::Other(client::State::Trying)
        }
    }

    pub(super) fn step(&mut self, noticed: Noticed) -> invite_client::Act {
        use invite_client::Act;
        match self {
            ClientMachine::Invite(state) => {
                use invite_client::Sign;
                let sign = match noticed {
                    Noticed::Status(..200) => Sign::Provisional,
                    Noticed::Status(200..300) => Sign::Success,
                    Noticed::Status(300..) => Sign::Refusal,
                    Noticed::Again => Sign::Again,
                    Noticed::GiveUp => Sign::GiveUp,
                    Noticed::Forget => Sign::Forget,
                    Noticed::FlowLost => Sign::FlowLost,
                    Noticed::Request | Noticed::Ack => return Act::Rest,
                };
                let (next, act) = invite_client::next(*state, sign);
                *state = next;
                act
            }
            ClientMachine::Other(state) => {
                use client::Sign;
                let sign = match noticed {
                    Noticed::Status(..200) => Sign::Provisional,
                    Noticed::Status(200..) => Sign::Final,
                    Noticed::Again => Sign::Again,
                    Noticed::GiveUp => Sign::GiveUp,
                    Noticed::Forget => Sign::Forget,
                    Noticed::FlowLost => Sign::FlowLost,
                    Noticed::Request | Noticed::Ack => return Act::Rest,
                };
                let (next, act) = client::next(*state, sign);
                *state = next;
                match act {
                    client::Act::Rest => Act::Rest,
                    client::Act::Repeat => Act::Repeat,
                    client::Act::PassUp => Act::PassUp,
                    client::Act::ReportTimeout => Act::ReportTimeout,
                    client::Act::ReportFlowLost => Act::ReportFlowLost,
                }
            }
        }
    }

    pub(super) fn timers(self) -> (Option<Timer>, Option<Timer>) {
        match self {
            ClientMachine::Invite(state) => invite_client::timers(state),
            ClientMachine::Other(state) => client::timers(state),
        }
    }

    pub(super) fn is_proceeding(self) -> bool {
        matches!(
            self,
            ClientMachine::Invite(invite_client::State::Proceeding)
                | ClientMachine::Other(client::State::Proceeding)
        )
    }

    pub(super) fn is_over(self) -> bool {
        matches!(
            self,
            ClientMachine::Invite(invite_client::State::Terminated)
                | ClientMachine::Other(client::State::Terminated)
        )
    }
}

/// Either machine of the answering side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ServerMachine {
    Invite(invite_server::State),
    Other(server::State),
}

impl ServerMachine {
    pub(super) fn new(method: &Method) -> ServerMachine {
        if *method == Method::Invite {
            ServerMachine::Invite(invite_server::State::Proceeding)
        } else {
            ServerMachine::Other(server::State::Trying)
        }
    }

    pub(super) fn step(&mut self, noticed: Noticed) -> invite_server::Act {
        use invite_server::Act;
        match self {
            ServerMachine::Invite(state) => {
                use invite_server::Sign;
                let sign = match noticed {
                    Noticed::Status(..200) => Sign::Provisional,
                    Noticed::Status(200..300) => Sign::Success,
                    Noticed::Status(300..) => Sign::Refusal,
                    Noticed::Request => Sign::Request,
                    Noticed::Ack => Sign::Ack,
                    Noticed::Again => Sign::Again,
                    Noticed::GiveUp => Sign::GiveUp,
                    Noticed::Forget => Sign::Forget,
                    Noticed::FlowLost => Sign::FlowLost,
                };
                let (next, act) = invite_server::next(*state, sign);
                *state = next;
                act
            }
            ServerMachine::Other(state) => {
                use server::Sign;
                let sign = match noticed {
                    Noticed::Status(..200) => Sign::Provisional,
                    Noticed::Status(200..) => Sign::Final,
                    Noticed::Request => Sign::Request,
                    Noticed::GiveUp => Sign::GiveUp,
                    Noticed::Forget => Sign::Forget,
                    Noticed::FlowLost => Sign::FlowLost,
                    Noticed::Ack | Noticed::Again => return Act::Rest,
                };
                let (next, act) = server::next(*state, sign);
                *state = next;
                match act {
                    server::Act::Rest => Act::Rest,
                    server::Act::Send => Act::Send,
                    server::Act::Repeat => Act::Repeat,
                    server::Act::ReportTimeout => Act::ReportTimeout,
                    server::Act::ReportFlowLost => Act::ReportFlowLost,
                }
            }
        }
    }

    pub(super) fn timers(self) -> (Option<Timer>, Option<Timer>) {
        match self {
            ServerMachine::Invite(state) => invite_server::timers(state),
            ServerMachine::Other(state) => server::timers(state),
        }
    }

    pub(super) fn is_over(self) -> bool {
        matches!(
            self,
            ServerMachine::Invite(invite_server::State::Terminated)
                | ServerMachine::Other(server::State::Terminated)
        )
    }
}
