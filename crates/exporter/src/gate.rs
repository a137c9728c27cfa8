//! Which calls are let through in which state: while a hook runs, only those that come through the
//! hooks' own socket.

use jumpstarter_protocol::v1::ExporterStatus;
use tonic::Status;

use crate::connection::Peer;
use crate::state::State;

/// The methods that are answered in every state.
const ALWAYS: [&str; 4] = [
    "/jumpstarter.v1.ExporterService/GetReport",
    "/jumpstarter.v1.ExporterService/GetStatus",
    "/jumpstarter.v1.ExporterService/LogStream",
    "/jumpstarter.v1.ExporterService/EndSession",
];

/// Lets a call of a method through.
///
/// A call that was let through goes on when the state changes.
///
/// # Errors
/// `FailedPrecondition`, by which clients know that they may try again later.
pub(crate) fn pass(method: &str, peer: &Peer, state: &State) -> Result<(), Status> {
    if ALWAYS.contains(&method) {
        return Ok(());
    }
    match (state.status, state.hook()) {
        // Without a controller nobody else can have the device when a session has ended.
        (ExporterStatus::LeaseReady | ExporterStatus::Available, _) => Ok(()),
        (_, Some(_)) if peer.is_hook => Ok(()),
        (_, Some(hook)) => Err(Status::failed_precondition(format!(
            "the {hook} hook is running: until it ends, only the hook itself may use the device\n\
             hint: follow it with `j status` and `j log`, and try again"
        ))),
        (status, None) => Err(Status::failed_precondition(format!(
            "the exporter takes no calls in its state {}: {}",
            status.as_str_name(),
            state.message
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: ExporterStatus) -> State {
        State { status, message: "why".to_owned(), version: 0, previous: None }
    }

    #[test]
    fn calls_wait_for_hooks_and_questions_do_not() {
        use ExporterStatus::{
            AfterLeaseHook, AfterLeaseHookFailed, Available, BeforeLeaseHook,
            BeforeLeaseHookFailed, LeaseReady, Offline,
        };
        let client = Peer::default();
        let hook = Peer { is_hook: true, ..Peer::default() };
        let calls = [
            "/jumpstarter.v1.ExporterService/DriverCall",
            "/jumpstarter.v1.ExporterService/StreamingDriverCall",
            "/jumpstarter.v1.ExporterService/Reset",
            "/jumpstarter.v1.RouterService/Stream",
            "/jumpstarter.v1.ExporterService/OfALaterVersion",
        ];
        for (status, of_client, of_hook) in [
            (LeaseReady, true, true),
            (Available, true, true),
            (BeforeLeaseHook, false, true),
            (AfterLeaseHook, false, true),
            (BeforeLeaseHookFailed, false, false),
            (AfterLeaseHookFailed, false, false),
            (Offline, false, false),
        ] {
            let state = state(status);
            for call in calls {
                for (peer, allowed) in [(&client, of_client), (&hook, of_hook)] {
                    let passed = pass(call, peer, &state);
                    assert_eq!(passed.is_ok(), allowed, "{status:?} {call}: {passed:?}");
                    if let Err(refused) = passed {
                        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
                    }
                }
            }
            for question in ALWAYS {
                assert!(pass(question, &client, &state).is_ok(), "{status:?} {question}");
            }
        }
    }
}
