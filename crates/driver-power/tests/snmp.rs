//! Outlets of a real agent: snmpd.
#![cfg(feature = "snmp")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::serde_json::{Value, json};
use jumpstarter_driver_power as _;
use support::snmpd::{OUTLETS, Snmpd};
use support::{open, power, readings, with};

const NAME: &str = "jumpstarter_driver_snmp.driver.SNMPServer";

/// Each user of the agent, and its community.
fn identities() -> Vec<Value> {
    let user = |user: &str, more: Value| {
        let mut config = json!({ "user": user });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    vec![
        json!({ "version": "2c", "community": "hush" }),
        user("plain", json!({})),
        user("md5", json!({ "auth_protocol": "MD5", "auth_key": "authentic md5" })),
        user("sha", json!({ "auth_protocol": "SHA", "auth_key": "authentic sha" })),
        user("sha256", json!({ "auth_protocol": "SHA256", "auth_key": "authentic 256" })),
        user("sha512", json!({ "auth_protocol": "SHA512", "auth_key": "authentic 512" })),
        user(
            "des",
            json!({ "auth_protocol": "MD5", "auth_key": "authentic md5", "priv_protocol": "DES", "priv_key": "private des" }),
        ),
        aes(),
    ]
}

fn aes() -> Value {
    json!({
        "user": "aes", "auth_protocol": "SHA", "auth_key": "authentic sha", "priv_protocol": "AES",
        "priv_key": "private aes",
    })
}

#[tokio::test]
async fn every_identity_switches_an_outlet() {
    let Some(agent) = Snmpd::start().await else { return };
    for identity in identities() {
        let config = agent.config(with(identity.clone(), "plug", json!(3)));
        let device = open(NAME, config).await.unwrap();
        for (on, expected) in [(true, "1"), (true, "1"), (false, "0")] {
            let switched = if on { power(&device).on().await } else { power(&device).off().await };
            switched.unwrap_or_else(|error| panic!("{identity}: {}", error.report()));
            assert_eq!(agent.outlet(3), expected, "{identity}");
        }
        device.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_switch_that_was_not_seen_to_work_is_an_error() {
    let Some(agent) = Snmpd::start().await else { return };
    let check = async |change: Value, kind: ErrorKind, expected: &[&str]| {
        // Only a request without an answer takes as long as the timeout.
        let timeout = if kind == ErrorKind::DeadlineExceeded { "1500ms" } else { "60s" };
        let config = agent.config(with(aes(), "plug", json!(4)));
        let mut config = with(config, "timeout", json!(timeout));
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = power(&open(NAME, config).await.unwrap()).on().await.unwrap_err();
        let report = error.report();
        assert_eq!(error.kind(), kind, "{change}: {report}");
        for text in expected {
            assert!(report.contains(text), "{change}: {report}");
        }
        assert!(!report.contains("authentic") && !report.contains("private aes"), "{report}");
    };
    check(
        json!({ "plug": 9, "timeout": "8s" }),
        ErrorKind::FailedPrecondition,
        &["the agent took the value 1, but after 8s it is 0"],
    )
    .await;
    check(json!({ "plug": 7 }), ErrorKind::PermissionDenied, &["`notWritable`", "`plug`"]).await;
    check(json!({ "user": "nobody" }), ErrorKind::PermissionDenied, &["no user `nobody`"]).await;
    check(
        json!({ "auth_key": "a wrong one" }),
        ErrorKind::PermissionDenied,
        &["refuses the key of user `aes`"],
    )
    .await;
    check(
        json!({ "priv_protocol": "NONE" }),
        ErrorKind::PermissionDenied,
        &["check `oid` and `plug`, and that the user may write"],
    )
    .await;
    check(json!({ "priv_key": "a wrong one" }), ErrorKind::DeadlineExceeded, &["`priv_key`"]).await;
    check(
        json!({ "user": "reader", "priv_protocol": "NONE" }),
        ErrorKind::PermissionDenied,
        &["that the user may write"],
    )
    .await;
    check(
        json!({ "version": "2c", "community": "wrong" }),
        ErrorKind::DeadlineExceeded,
        &["no answer within 1.5s", "`community`"],
    )
    .await;
    check(json!({ "port": 9 }), ErrorKind::DeadlineExceeded, &["check `host` and `port`"]).await;
    check(json!({ "host": "nowhere.invalid" }), ErrorKind::Unavailable, &["nowhere.invalid"]).await;
    check(
        json!({ "state_oid": "1.3.6.1.2.1.1.5.0" }),
        ErrorKind::FailedPrecondition,
        &["is no number"],
    )
    .await;
    check(
        json!({ "state_oid": format!("{OUTLETS}.77") }),
        ErrorKind::NotFound,
        &["no such object"],
    )
    .await;
}

#[tokio::test]
async fn an_outlet_may_switch_late_and_have_other_values() {
    let Some(agent) = Snmpd::start().await else { return };
    let config = agent.config(with(aes(), "plug", json!(8)));
    power(&open(NAME, config).await.unwrap()).on().await.unwrap();
    assert_eq!(agent.outlet(8), "1");
    let config = agent.config(with(with(aes(), "plug", json!(5)), "off_value", json!(2)));
    let device = open(NAME, config.clone()).await.unwrap();
    power(&device).on().await.unwrap();
    device.close().await.unwrap();
    assert_eq!(agent.outlet(5), "1", "it is kept");
    let device = open(NAME, with(config, "close", json!("off"))).await.unwrap();
    power(&device).on().await.unwrap();
    device.close().await.unwrap();
    assert_eq!(agent.outlet(5), "2", "the end of the lease");
}

#[tokio::test]
async fn a_meter_is_read() {
    let Some(agent) = Snmpd::start().await else { return };
    let config = agent.config(with(aes(), "plug", json!(1)));
    let without = open(NAME, config.clone()).await.unwrap();
    let error = readings(&*power(&without)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    let config = with(config, "voltage_oid", json!(format!(".{OUTLETS}.101")));
    let config = with(config, "voltage_scale", json!(0.1));
    let config = with(config, "current_oid", json!(format!("{OUTLETS}.102")));
    let device = open(NAME, config.clone()).await.unwrap();
    assert_eq!(readings(&*power(&device)).await.unwrap(), [(230.5, 0.45)]);
    let config = with(config, "current_oid", json!(format!("{OUTLETS}.103")));
    let error = readings(&*power(&open(NAME, config).await.unwrap())).await.unwrap_err();
    assert!(error.report().contains("is no number, but `broken`"), "{error:?}");
}

/// Between the driver and the agent: every second datagram of the driver is lost.
#[tokio::test]
async fn a_request_that_is_lost_is_sent_again() {
    let Some(agent) = Snmpd::start().await else { return };
    let front = std::sync::Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let back = std::sync::Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    back.connect(("127.0.0.1", agent.port)).await.unwrap();
    let config = agent.config(with(aes(), "plug", json!(6)));
    let config = with(config, "port", json!(front.local_addr().unwrap().port()));
    let lost = std::sync::Arc::new(AtomicU32::new(0));
    let counted = lost.clone();
    tokio::spawn(async move {
        let (mut request, mut answer) = ([0; 2048], [0; 2048]);
        let mut client = None;
        let mut passes = true;
        loop {
            tokio::select! {
                Ok((length, from)) = front.recv_from(&mut request) => {
                    client = Some(from);
                    passes = !passes;
                    match passes {
                        true => drop(back.send(&request[..length]).await),
                        false => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    }
                }
                Ok(length) = back.recv(&mut answer) => if let Some(client) = client {
                    drop(front.send_to(&answer[..length], client).await);
                },
            }
        }
    });
    let device = open(NAME, with(config, "timeout", json!("60s"))).await.unwrap();
    power(&device).on().await.unwrap();
    assert_eq!(agent.outlet(6), "1");
    assert!(lost.load(Ordering::Relaxed) > 1);
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let check = async |change: Value, expected: &str| {
        let mut config = with(with(aes(), "plug", json!(1)), "host", json!("pdu"));
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = open(NAME, config).await.expect_err("it is refused");
        let report = error.report();
        assert!(report.contains(expected), "{report}");
        assert!(!report.contains("authentic"), "{report}");
    };
    check(json!({ "user": null }), "user: is missing").await;
    check(json!({ "version": "2c" }), "community: is missing").await;
    check(json!({ "auth_key": null }), "auth_key: is missing").await;
    check(json!({ "priv_key": null }), "priv_key: is missing").await;
    check(json!({ "priv_key": "short" }), "priv_key: has fewer than 8 characters").await;
    check(json!({ "oid": "enterprises.318" }), "oid: is no object identifier").await;
    check(json!({ "state_oid": "" }), "state_oid: is no object identifier").await;
    check(json!({ "off_value": 1 }), "off_value: is the value of on, too").await;
    check(json!({ "timeout": 0 }), "timeout: leaves a switch no time").await;
    check(json!({ "auth_protocol": "SHA1" }), "auth_protocol: unknown variant `SHA1`").await;
}
