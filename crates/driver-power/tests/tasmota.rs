//! A Tasmota plug, which is the test, behind a real broker: mosquitto.
#![cfg(feature = "mqtt")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::serde_json::{Value, json};
use jumpstarter_driver_power as _;
use jumpstarter_driver_testkit::{eventually_some, reserve_port, skip};
use jumpstarter_supervise::{Child, Command};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use support::{open, power, with};

const NAME: &str = "jumpstarter_driver_tasmota.driver.TasmotaPower";
const PROGRAM: &str = "/usr/sbin/mosquitto";

struct Broker {
    folder: tempfile::TempDir,
    /// Without and with TLS.
    ports: [u16; 2],
    _child: Child,
}

impl Broker {
    async fn start() -> Option<Self> {
        if !std::path::Path::new(PROGRAM).exists() {
            skip("mosquitto is not installed: apt-get install mosquitto");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("cert.pem"), issued.cert.pem()).unwrap();
        std::fs::write(path("key.pem"), issued.signing_key.serialize_pem()).unwrap();
        // The password is `hush`.
        let hashed =
            Command::new("mosquitto_passwd").args(["-b", "-c", &path("users"), "me", "hush"]);
        jumpstarter_supervise::run(hashed, Duration::from_secs(60)).await.unwrap();
        let ports = [reserve_port(), reserve_port()];
        let configuration = format!(
            "user root\npersistence false\nallow_anonymous false\npassword_file {}\n\
             listener {} 127.0.0.1\nlistener {} 127.0.0.1\ncertfile {}\nkeyfile {}\n",
            path("users"),
            ports[0],
            ports[1],
            path("cert.pem"),
            path("key.pem"),
        );
        std::fs::write(path("mosquitto.conf"), configuration).unwrap();
        let child =
            Command::new(PROGRAM).args(["-c", &path("mosquitto.conf")]).spawn().await.unwrap();
        for port in ports {
            eventually_some("mosquitto listens", async || {
                assert!(child.is_running(), "{}", child.stderr_tail());
                std::net::TcpStream::connect(("127.0.0.1", port)).ok()
            })
            .await;
        }
        Some(Self { folder, ports, _child: child })
    }

    /// A plug that answers each command with `answer` of it, and notes the commands.
    async fn plug(&self, answer: fn(&str) -> &str) -> tokio::sync::mpsc::UnboundedReceiver<String> {
        let mut options = MqttOptions::new("plug", "127.0.0.1", self.ports[0]);
        options.set_credentials("me", "hush");
        let (client, mut events) = AsyncClient::new(options, 8);
        client.subscribe("cmnd/plug/POWER", QoS::AtLeastOnce).await.unwrap();
        // What the broker kept of the time before.
        client.publish("stat/plug/POWER", QoS::AtLeastOnce, true, "ON").await.unwrap();
        let (commands, noted) = tokio::sync::mpsc::unbounded_channel();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::PubAck(_)) => drop(ready.take().map(|it| it.send(()))),
                    Event::Incoming(Packet::Publish(command)) => {
                        let command = String::from_utf8(command.payload.to_vec()).unwrap();
                        let state = answer(&command).to_owned();
                        commands.send(command).unwrap();
                        client
                            .publish("stat/plug/POWER", QoS::AtLeastOnce, false, state)
                            .await
                            .unwrap();
                    }
                    _ => {}
                }
            }
        });
        is_ready.await.unwrap();
        noted
    }

    fn config(&self) -> Value {
        json!({
            "host": "127.0.0.1", "port": self.ports[0], "tls": false, "username": "me", "password": "hush",
            "cmnd_topic": "cmnd/plug/POWER", "stat_topic": "stat/plug/POWER", "timeout": 60,
        })
    }
}

#[tokio::test]
async fn a_plug_is_switched_and_the_end_of_a_lease_switches_it_off() {
    let Some(broker) = Broker::start().await else { return };
    let mut commands = broker.plug(|command| command).await;
    let device = open(NAME, broker.config()).await.unwrap();
    power(&device).on().await.unwrap();
    power(&device).on().await.unwrap();
    power(&device).off().await.unwrap();
    let error = power(&device).read().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    device.close().await.unwrap();
    let kept = open(NAME, with(broker.config(), "close", json!("keep"))).await.unwrap();
    kept.close().await.unwrap();
    for expected in ["ON", "ON", "OFF", "OFF"] {
        assert_eq!(commands.recv().await.unwrap(), expected);
    }
    assert!(commands.try_recv().is_err());
}

#[tokio::test]
async fn a_switch_that_was_not_seen_to_work_is_an_error() {
    let Some(broker) = Broker::start().await else { return };
    let check = async |config: Value, kind: ErrorKind, expected: &str| {
        let device = open(NAME, with(config, "close", json!("keep"))).await.unwrap();
        let error = power(&device).on().await.unwrap_err();
        let report = error.report();
        assert!(error.kind() == kind && report.contains(expected), "{report}");
        assert!(report.starts_with("switching cmnd/plug/POWER at 127.0.0.1 to ON"), "{report}");
    };
    // The broker keeps `ON` of the plug, which is stuck.
    let _commands = broker.plug(|_| "OFF").await;
    check(
        with(broker.config(), "timeout", json!(7.5)),
        ErrorKind::DeadlineExceeded,
        "`ON` on stat/plug/POWER did not come within 7.5s",
    )
    .await;
    let wrong = with(broker.config(), "password", json!("wrong"));
    check(wrong, ErrorKind::PermissionDenied, "the broker refuses the connection").await;
    let nobody = with(broker.config(), "port", json!(reserve_port()));
    check(nobody, ErrorKind::Unavailable, "the connection to the broker failed").await;
}

#[tokio::test]
async fn a_secured_broker_is_trusted_by_the_configured_authority_alone() {
    let Some(broker) = Broker::start().await else { return };
    let _commands = broker.plug(|command| command).await;
    let config = with(broker.config(), "port", json!(broker.ports[1]));
    let config = with(with(config, "host", json!("localhost")), "tls", json!(true));
    let trusted = with(config.clone(), "ca", json!(broker.folder.path().join("cert.pem")));
    let device = open(NAME, trusted).await.unwrap();
    power(&device).on().await.unwrap();
    let device = open(NAME, with(config, "close", json!("keep"))).await.unwrap();
    let report = power(&device).on().await.unwrap_err().report();
    assert!(report.contains("securing the connection to the broker"), "{report}");
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let good = json!({ "host": "broker", "cmnd_topic": "a", "stat_topic": "b", "tls": false });
    let check = async |field: &str, value: Value, expected: &str| {
        let error = open(NAME, with(good.clone(), field, value)).await.expect_err("it is refused");
        assert!(error.report().contains(expected), "{}", error.report());
    };
    check("transport", json!("websockets"), "transport: is `websockets`").await;
    check("transport", json!("quic"), "unknown variant `quic`").await;
    check("stat_topic", json!("stat/+/POWER"), "stat_topic: is no topic of one plug").await;
    check("timeout", json!(0), "timeout: leaves a switch no time").await;
    check("password", json!("x"), "password: is given without `username`").await;
}
