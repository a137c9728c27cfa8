//! Reloads the exporter file on SIGHUP.

use jumpstarter_config::ExporterConfig;
use jumpstarter_exporter::Session;
use jumpstarter_protocol::v1::ExporterStatus;

/// Waits until a session's device is free: no hook runs, and no client is connected or a client has
/// ended its session.
pub(crate) async fn wait_free(session: &Session) {
    let mut state = session.state().watch();
    loop {
        // Waiting fails only if the state can never change again.
        drop(state.wait_for(|state| state.hook().is_none()).await);
        tokio::select! {
            () = session.clients_left() => {}
            _ = state.wait_for(|state| state.status == ExporterStatus::Available) => {}
        }
        if session.state().get().hook().is_none() {
            return;
        }
    }
}

/// Reads the file again. Faults are logged and change nothing.
pub(crate) async fn read(config: &ExporterConfig) -> Option<ExporterConfig> {
    let file = config.origin.clone();
    let read = tokio::task::spawn_blocking(move || ExporterConfig::load(&file)).await;
    match read {
        Ok(Ok(config)) => Some(config),
        Ok(Err(faults)) => {
            tracing::error!("the exporter file has faults: what it said before goes on");
            for line in faults.to_string().lines() {
                tracing::error!("{line}");
            }
            None
        }
        Err(error) => {
            tracing::error!(%error, "the exporter file cannot be read: what it said before goes on");
            None
        }
    }
}

/// The message for systemd during a reload.
pub(crate) fn notification() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")
}
