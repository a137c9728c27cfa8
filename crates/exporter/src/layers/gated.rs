//! Decides by the exporter's state which calls pass: during a hook only those from the hooks' own
//! socket.

use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::Method;
use jumpstarter_protocol::v1::ExporterStatus;

use crate::peer::Peer;
use crate::state::State;

/// The methods that are answered in every state.
const ALWAYS: [Method; 4] =
    [Method::GetReport, Method::GetStatus, Method::LogStream, Method::EndSession];

/// Checks a call of a method.
///
/// A call that passed continues when the state changes.
///
/// # Errors
/// `FailedPrecondition`, on which clients retry later.
pub(super) fn pass(
    method: Option<Method>,
    peer: &Peer,
    state: &State,
    is_leased: bool,
) -> Result<()> {
    if method.is_some_and(|method| ALWAYS.contains(&method)) {
        return Ok(());
    }
    match (state.status, state.hook()) {
        (ExporterStatus::LeaseReady, _) => Ok(()),
        // Without a controller nobody else can have the device after the end of a session.
        (ExporterStatus::Available, _) if !is_leased => Ok(()),
        (_, Some(_)) if peer.is_hook => Ok(()),
        (_, Some(hook)) => Err(Error::failed_precondition(format!(
            "the {hook} hook is running: until it ends, only the hook itself may use the device"
        ))
        .with_hint("follow it with `j status` and `j log`, and try again")
        .refused()),
        (status, None) => Err(Error::failed_precondition(format!(
            "the exporter takes no calls in its state {}: {}",
            status.as_str_name(),
            state.message
        ))
        .refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_driver_core::ErrorKind;

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
            Some(Method::DriverCall),
            Some(Method::StreamingDriverCall),
            Some(Method::Reset),
            Some(Method::Stream),
            // A method of a later version.
            None,
        ];
        let ended = pass(Some(Method::DriverCall), &client, &state(Available), true);
        assert!(ended.unwrap_err().is_refusal(), "the lease is over");
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
                    let passed = pass(call, peer, &state, false);
                    assert_eq!(passed.is_ok(), allowed, "{status:?} {call:?}: {passed:?}");
                    if let Err(refused) = passed {
                        assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
                        assert!(refused.is_refusal());
                    }
                }
            }
            for question in ALWAYS {
                let passed = pass(Some(question), &client, &state, true);
                assert!(passed.is_ok(), "{status:?} {question:?}");
            }
        }
    }
}
