//! The end of a pod: the exporter asks its sidecar to end.

use std::time::Duration;

use jumpstarter_supervise::Launcher;

/// Where a pod's exporter finds the launcher of its sidecar.
const LAUNCHER: &str = "JUMPSTARTER_LAUNCHER_SOCKET";
/// How long the sidecar may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Asks the sidecar to end, if there is one. A failure is logged: the pod ends in any case.
pub(crate) async fn shut_down() {
    let Some(socket) = std::env::var_os(LAUNCHER).filter(|socket| !socket.is_empty()) else {
        return;
    };
    let launcher = Launcher::new(socket);
    let asked = tokio::task::spawn_blocking(move || launcher.shut_down(ANSWERS_WITHIN)).await;
    match asked {
        Ok(Ok(_)) => tracing::info!("the sidecar ends"),
        Ok(Err(error)) => tracing::warn!(%error, "the sidecar was not asked to end"),
        Err(error) => tracing::warn!(%error, "the sidecar was not asked to end"),
    }
}
