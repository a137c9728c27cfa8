//! One test, three settings: `from_env` and the blocking device, in a process whose environment
//! says where the device is.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use jumpstarter_client::{DeviceExt, blocking};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Device, Secret};
use jumpstarter_exporter::Access;
use jumpstarter_supervise::{Command, Output, Sink, run_unchecked};
use support::certificates::Certificates;
use support::{DEADLINE, FILE, Served, in_time};

const ASKED: &str = "JUMPSTARTER_TEST_ANYWHERE";
const DONE: &str = "the device was used";

/// Uses a local or remote device; in a separate process, on request.
#[test]
fn a_device_anywhere() {
    match std::env::var(ASKED).as_deref() {
        Ok("async") => {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let device = in_time(<Device as DeviceExt>::from_env()).await.unwrap();
                in_time(device.get::<dyn Power>("power").unwrap().on()).await.unwrap();
                in_time(device.close()).await.unwrap();
            });
        }
        Ok("blocking") => {
            let device = blocking::Device::from_env().unwrap();
            device.block_on(device.get::<dyn Power>("power").unwrap().on()).unwrap();
            device.close().unwrap();
        }
        Ok("failing") => {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let error = runtime.block_on(<Device as DeviceExt>::from_env()).unwrap_err();
            println!("\nfailed: {}", error.report().replace('\n', " / "));
        }
        _ => return,
    }
    println!("\n{DONE}");
}

const VARIABLES: [&str; 7] = [
    "JUMPSTARTER_HOST",
    "JMP_EXPORTER_CONFIG",
    "JMP_GRPC_INSECURE",
    "JMP_GRPC_PASSPHRASE",
    "JMP_GRPC_CA",
    "JMP_GRPC_CERT",
    "JMP_GRPC_KEY",
];

async fn run(how: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_device_anywhere", "--nocapture"])
        .stdout(Sink::Tail(64 * 1024));
    for name in VARIABLES {
        command = command.env_remove(name);
    }
    for (name, value) in environment {
        command = command.env(name, value);
    }
    let output: Output = run_unchecked(command.env(ASKED, how), DEADLINE).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(DONE), "{text}\n{output:?}");
    text
}

async fn both(environment: &[(&str, &str)]) {
    run("async", environment).await;
    run("blocking", environment).await;
}

#[tokio::test]
async fn in_this_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lab.yaml");
    std::fs::write(&file, FILE).unwrap();
    both(&[("JMP_EXPORTER_CONFIG", file.to_str().unwrap())]).await;
}

#[tokio::test]
async fn on_this_host() {
    let served = Served::file(FILE).await;
    // An exporter goes before a file.
    both(&[("JUMPSTARTER_HOST", &served.address), ("JMP_EXPORTER_CONFIG", "/nowhere")]).await;
    served.shut_down().await;
}

async fn on_tcp(access: Access) -> Served {
    let config = jumpstarter_config::ExporterConfig::parse(FILE, "test.yaml").unwrap();
    Served::at(config.open().await.unwrap(), Some("127.0.0.1"), access).await
}

#[tokio::test]
async fn on_another_host() {
    let served = on_tcp(Access::default().passphrase(Secret::new("s3cret"))).await;
    let address = served.address.clone();
    let environment = [
        ("JUMPSTARTER_HOST", &*address),
        ("JMP_GRPC_INSECURE", "1"),
        ("JMP_GRPC_PASSPHRASE", "s3cret"),
    ];
    both(&environment).await;
    served.shut_down().await;

    let certificates = Certificates::make();
    let tls = certificates.of_exporter("localhost").client_authority(certificates.path("ours.pem"));
    let served = on_tcp(Access::default().tls(tls)).await;
    let address = format!("localhost:{}", served.address.rsplit_once(':').unwrap().1);
    let file = |name: &str| certificates.path(name).to_str().unwrap().to_owned();
    let environment = [
        ("JUMPSTARTER_HOST", &*address),
        ("JMP_GRPC_CA", &file("ours.pem")),
        ("JMP_GRPC_CERT", &file("client.pem")),
        ("JMP_GRPC_KEY", &file("client.key")),
    ];
    both(&environment).await;
    served.shut_down().await;
}

#[tokio::test]
async fn nowhere() {
    let text = run("failing", &[]).await;
    let failure = text.lines().find_map(|line| line.strip_prefix("failed: ")).unwrap();
    insta::assert_snapshot!(failure.replace(" / ", "\n"), @r"
    none of JUMPSTARTER_HOST, JMP_LEASE, JMP_SELECTOR and JMP_EXPORTER_CONFIG is set
    hint: set JMP_EXPORTER_CONFIG to an exporter file to have its device in this process, JUMPSTARTER_HOST to an exporter's socket or HOST:PORT, as `jmp shell` does, or JMP_SELECTOR to the labels of a device of a lab
    ");
}
