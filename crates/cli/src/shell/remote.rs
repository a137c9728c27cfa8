//! A shell for a remote device.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use jumpstarter_client::{Address, ConnectOptions, Exporter, ExporterState, LogRecord};
use jumpstarter_driver_core::{ErrorKind, Result, ResultExt};

use super::command::Surroundings;
use crate::environment::Environment;
use crate::print;
use crate::remote::Remote;

/// The longest wait for an exporter that prepares a lease. Its hooks have shorter limits.
const READY_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long to wait for the log records of the command's last call.
pub(super) const LAST_RECORDS: Duration = Duration::from_millis(200);
/// How long the exporter may take to answer then.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Connects, waits until the exporter takes calls, and runs the command.
pub(super) async fn shell(
    options: &ConnectOptions,
    remote: &Remote,
    show_logs: bool,
    words: &[OsString],
    environment: &Environment,
) -> Result<u8> {
    let exporter = jumpstarter_client::connect(options).await?;
    let surroundings = surroundings(&exporter, remote, environment)?;
    let work = async {
        wait_ready(&exporter, environment).await?;
        let mut command = pin!(surroundings.run(words, environment));
        tokio::select! {
            code = &mut command => return code,
            error = exporter.lost() => environment.report_beside(print::report(&error)),
        }
        command.await
    };
    let code = match show_logs {
        true => with_logs(&exporter, work, environment).await,
        false => work.await,
    };
    exporter.device().close().await.ok();
    code
}

fn surroundings(
    exporter: &Exporter,
    remote: &Remote,
    environment: &Environment,
) -> Result<Surroundings> {
    // The command may change the current folder.
    let absolute =
        |file: &PathBuf| std::path::absolute(Path::new(file)).context("finding out where this is");
    let address = match exporter.address() {
        Address::Unix(socket) => absolute(socket)?.into_os_string(),
        address => address.to_string().into(),
    };
    let certificate = remote.tls_cert.as_ref().zip(remote.tls_key.as_ref());
    let place = exporter.address().to_string();
    let mut surroundings = Surroundings::new(address, place, exporter.motd().map(str::to_owned));
    surroundings.exporter = exporter.name().map(str::to_owned);
    surroundings.insecure = remote.tls_grpc_insecure;
    surroundings.passphrase = remote.passphrase(environment);
    surroundings.authorities = remote.tls_ca.as_ref().map(absolute).transpose()?;
    surroundings.certificate = certificate
        .map(|(certificate, key)| {
            Ok::<_, jumpstarter_driver_core::Error>((absolute(certificate)?, absolute(key)?))
        })
        .transpose()?;
    Ok(surroundings)
}

async fn wait_ready(exporter: &Exporter, environment: &Environment) -> Result<()> {
    match exporter.status().await {
        Ok(status) if status.state == ExporterState::Ready => return Ok(()),
        Ok(status) => {
            let why = Some(status.message).filter(|message| !message.is_empty());
            let why = why.unwrap_or_else(|| format!("its state is {:?}", status.state));
            environment.report_beside(format_args!(
                "waiting for the exporter at {}: {}",
                exporter.address(),
                print::line(&why)
            ));
        }
        // Older exporters have no state and always take calls.
        Err(error) if error.kind() == ErrorKind::Unimplemented => return Ok(()),
        Err(error) => return Err(error),
    }
    exporter.wait_ready(READY_LIMIT).await
}

/// Shows the exporter's log while the work runs.
async fn with_logs(
    exporter: &Exporter,
    work: impl Future<Output = Result<u8>>,
    environment: &Environment,
) -> Result<u8> {
    let records = exporter.logs().await?;
    let mut showing = pin!(async {
        let mut records = records;
        // The log ends with the connection, whose loss is reported elsewhere.
        while let Some(Ok(record)) = records.next().await {
            environment.report_beside(line(&record));
        }
        std::future::pending::<()>().await;
    });
    let mut work = pin!(work);
    let code = tokio::select! {
        code = &mut work => code,
        () = &mut showing => work.await,
    };
    let last = async {
        tokio::time::sleep(LAST_RECORDS).await;
        // The records that the exporter sent before its answer have come with it.
        tokio::time::timeout(ANSWER_LIMIT, exporter.status()).await.ok();
    };
    tokio::select! {
        () = last => {}
        () = &mut showing => {}
    }
    showing.now_or_never();
    code
}

/// The record as the exporter writes it.
pub(super) fn line(record: &LogRecord) -> String {
    let driver = record.driver.as_deref().or(record.driver_type.as_deref());
    let driver = driver
        .filter(|driver| !driver.is_empty())
        .map(|driver| format!("{driver}: "))
        .unwrap_or_default();
    print::line(&format!("{:<7} {driver}{}", record.severity, record.message)).into_owned()
}
