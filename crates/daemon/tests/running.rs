//! In which order an exporter begins: nothing is opened before what it is served with is known to
//! be right.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::sync::atomic::{AtomicUsize, Ordering};

use jumpstarter_config::ExporterConfig;
use jumpstarter_daemon::{RunOptions, run};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_exporter::{Access, Address, TlsOptions};

static OPENED: AtomicUsize = AtomicUsize::new(0);
static CLOSED: AtomicUsize = AtomicUsize::new(0);

/// A driver that is seen to be opened and closed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WitnessConfig {}

struct Witness;

#[async_trait]
impl DriverConfig for WitnessConfig {
    const NAME: &'static str = "witness";
    type Driver = Witness;

    async fn open(self, _: OpenContext) -> Result<Witness> {
        OPENED.fetch_add(1, Ordering::SeqCst);
        Ok(Witness)
    }
}
register_driver!(WitnessConfig);

#[async_trait]
impl Driver for Witness {
    async fn close(&self) -> Result<()> {
        CLOSED.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn witnessed() -> [usize; 2] {
    [&OPENED, &CLOSED].map(|count| count.load(Ordering::SeqCst))
}

/// Runs an exporter that cannot begin.
async fn failure(listen: Address, tls: Option<TlsOptions>) -> Error {
    let config = ExporterConfig::parse("export: {w: {type: witness}}", "test.yaml").unwrap();
    let options = RunOptions::new(config)
        .listen([listen])
        .insecure(tls.is_none())
        .access(Access::default().tls(tls));
    run(options, |_| panic!("nobody can connect")).await.unwrap_err()
}

#[tokio::test]
async fn tls_files_are_read_before_the_device_opens() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (text, missing) = (file("text.pem"), file("missing.pem"));
    std::fs::write(&text, "not a certificate").unwrap();
    let free_port = || Address::to_listen_at("127.0.0.1:0").unwrap();
    for (certificate, key, kind) in [
        (&text, &missing, ErrorKind::NotFound),
        (&missing, &text, ErrorKind::InvalidArgument),
        (&text, &text, ErrorKind::InvalidArgument),
    ] {
        let error = failure(free_port(), Some(TlsOptions::new(certificate, key))).await;
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(witnessed(), [0, 0], "{error:?}");
    }
    // What is found out later has opened it, and closes it again.
    let error = failure(Address::Unix(file("no/such/folder/socket")), None).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(witnessed(), [1, 1]);
}
