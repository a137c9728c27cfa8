//! The lease of an exporter without a controller: its hooks, the sessions in it, and its file that
//! is read anew.

mod support;

use jumpstarter_protocol::v1::{
    EndSessionRequest, ExporterStatus, LogSource, ResetRequest, StreamingDriverCallRequest,
};
use rustix::process::Signal;
use support::process::{EXPORT, Exporter, status, until_status};
use support::{DEADLINE, connect};
use tonic::Code;

#[tokio::test]
async fn a_hook_that_ends_the_exporter_is_seen_to_fail() {
    let exporter = Exporter::start(|folder| {
        let go = folder.join("go");
        let script = format!("until [ -e {} ]; do sleep 0.02; done; exit 3", go.display());
        format!("{EXPORT}hooks:\n  beforeLease: {{script: '{script}', onFailure: exit}}\n")
    });
    let mut client = connect(&exporter.socket()).await;
    // The failure shows for two seconds.
    std::fs::write(exporter.folder.path().join("go"), "").unwrap();
    let failed = until_status(&mut client, ExporterStatus::BeforeLeaseHookFailed).await;
    let message = failed.message();
    assert!(
        message.starts_with("beforeLease hook failed (on_failure=exit, shutting down): "),
        "{message}"
    );
    drop(client);
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(1), "{log}");
}

#[tokio::test]
async fn a_lease_that_could_not_begin_is_tried_again_when_a_client_ends_its_session() {
    let exporter = Exporter::start(|folder| {
        let mark = folder.join("mark");
        let before = format!("echo preparing; [ -e {} ] || exit 3", mark.display());
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: '{before}', onFailure: endLease}}\n  \
             afterLease: {{script: 'echo tidied; exit 3', onFailure: endLease}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    let failed = until_status(&mut client, ExporterStatus::BeforeLeaseHookFailed).await;
    let message = failed.message();
    assert!(message.starts_with("beforeLease hook failed (on_failure=endLease): "), "{message}");
    assert!(message.contains("exit code 3") || message.contains("exit status: 3"), "{message}");
    let refused = client.call("power", "on", &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    std::fs::write(exporter.folder.path().join("mark"), "").unwrap();
    assert!(client.exporter.end_session(EndSessionRequest {}).await.unwrap().into_inner().success);
    until_status(&mut client, ExporterStatus::Available).await;
    let next = until_status(&mut client, ExporterStatus::LeaseReady).await;
    assert!(next.status_version > failed.status_version, "{next:?}");
    client.call("power", "on", &[]).await.unwrap();
    drop(client);
    assert!(!exporter.log().contains("tidied"));
    exporter.signal(Signal::TERM);
    // The hook after fails, which is said and keeps nothing open.
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("tidied") && log.contains("the afterLease hook failed"), "{log}");
}

#[tokio::test]
async fn the_end_of_a_session_runs_no_hook_and_forgets_its_log() {
    let exporter = Exporter::start(|_| {
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: 'echo prepared'}}\n  afterLease: {{script: 'echo tidied'}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    client.call("power", "on", &[]).await.unwrap();
    assert!(client.exporter.end_session(EndSessionRequest {}).await.unwrap().into_inner().success);
    until_status(&mut client, ExporterStatus::Available).await;
    client.call("power", "off", &[]).await.unwrap();
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    drop(client);
    let mut next = connect(&exporter.socket()).await;
    let mut log = next.exporter.log_stream(()).await.unwrap().into_inner();
    let mut heard = Vec::new();
    while heard.last().is_none_or(|line| line != "power off") {
        let record = tokio::time::timeout(DEADLINE, log.message()).await.unwrap().unwrap().unwrap();
        heard.push(record.message);
    }
    assert!(!heard.iter().any(|line| line == "power on" || line == "prepared"), "{heard:?}");
    drop((next, log));
    // The log has a separate thread.
    exporter.until_logged("prepared").await;
    let count = |text: &str| exporter.log().matches(text).count();
    assert_eq!((count("prepared"), count("tidied")), (1, 0), "{}", exporter.log());
    exporter.signal(Signal::TERM);
    let (code, log) = exporter.code().await;
    assert_eq!((code, log.matches("tidied").count()), (Some(0), 1), "{log}");
}

/// Between the exporter's start and a hook's end only the hook uses the device, whatever a client
/// tries.
#[tokio::test]
async fn while_a_hook_runs_only_the_hook_uses_the_device() {
    let exporter = Exporter::start(|folder| {
        let script = |name: &str| {
            let go = folder.join(name);
            format!("echo {name} runs; while [ ! -e {} ]; do sleep 0.02; done", go.display())
        };
        let (before, after) = (script("before"), script("after"));
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: '{before}'}}\n  afterLease: {{script: '{after}'}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    let (power, echo) = (client.uuid("power"), client.uuid("echo"));
    let read =
        StreamingDriverCallRequest { uuid: power, method: "read".to_owned(), args: Vec::new() };
    let stream = |kind: &str| serde_json::json!({"kind": kind, "uuid": echo, "method": "connect"});
    for (hook, name, running) in [
        ("before", "beforeLease", ExporterStatus::BeforeLeaseHook),
        ("after", "afterLease", ExporterStatus::AfterLeaseHook),
    ] {
        exporter.until_logged(&format!("{hook} runs")).await;
        let mut answers = vec![
            client.call("power", "on", &[]).await.map(drop),
            client.exporter.streaming_driver_call(read.clone()).await.map(drop),
            client.exporter.reset(ResetRequest {}).await.map(drop),
            client.open(&stream("driver").to_string()).await.map(drop),
            client.open(&stream("resource").to_string()).await.map(drop),
        ];
        for answer in answers.drain(..) {
            let refused = answer.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
            assert!(
                refused.message().contains(&format!("the {name} hook is running")),
                "{refused:?}"
            );
        }
        let ended = client.exporter.end_session(EndSessionRequest {}).await.unwrap().into_inner();
        assert!(!ended.success && ended.message().contains(name), "{ended:?}");
        assert_eq!(status(&mut client).await.status(), running, "nothing has ended it");
        client.exporter.get_report(()).await.unwrap();
        // What a hook prints is followed from its beginning.
        let mut log = client.exporter.log_stream(()).await.unwrap().into_inner();
        let heard = async {
            while log.message().await.unwrap().unwrap().message != format!("{hook} runs") {}
        };
        tokio::time::timeout(DEADLINE, heard).await.unwrap();
        std::fs::write(exporter.folder.path().join(hook), "").unwrap();
        if hook == "before" {
            until_status(&mut client, ExporterStatus::LeaseReady).await;
            client.call("power", "on", &[]).await.unwrap();
            exporter.signal(Signal::TERM);
        }
    }
    drop(client);
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn hooks_by_any_interpreter_are_heard() {
    let exporter = Exporter::start(|folder| {
        let script = folder.join("before.py");
        std::fs::write(&script, "import os\nprint('from a file,', os.environ['LEASE_NAME'])\n")
            .unwrap();
        let after =
            r#"import sys; print("inline"); print("on stderr", file=sys.stderr); sys.exit(4)"#;
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: '{}'}}\n  afterLease: {{script: '{after}', exec: python3}}\n",
            script.display()
        )
    });
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    let mut log = client.exporter.log_stream(()).await.unwrap().into_inner();
    exporter.signal(Signal::TERM);
    let mut expected = vec![
        (LogSource::AfterLeaseHook, "inline"),
        (LogSource::AfterLeaseHook, "on stderr"),
        (LogSource::AfterLeaseHook, "a hook failed"),
        (LogSource::BeforeLeaseHook, "from a file, standalone"),
    ];
    while !expected.is_empty() {
        let record = tokio::time::timeout(DEADLINE, log.message()).await.unwrap().unwrap();
        let record = record
            .unwrap_or_else(|| panic!("the log ended without {expected:?}: {}", exporter.log()));
        expected.retain(|(source, words)| {
            record.source() != *source || !record.message.starts_with(words)
        });
    }
    drop((client, log));
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_told_of() {
    let exporter = Exporter::start(|_| {
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: 'echo working; exec sleep 1000', timeout: 5}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    let mut log = client.exporter.log_stream(()).await.unwrap().into_inner();
    let mut heard = Vec::new();
    while !heard.iter().any(|line: &String| line.contains("did not end within 5 s")) {
        let record = tokio::time::timeout(DEADLINE, log.message()).await.unwrap().unwrap().unwrap();
        if record.source() == LogSource::BeforeLeaseHook {
            heard.push(record.message);
        }
    }
    assert_eq!(heard.first().map(String::as_str), Some("working"));
    let seen = until_status(&mut client, ExporterStatus::LeaseReady).await;
    let message = seen.message();
    assert!(message.starts_with("[HOOK_WARNING] beforeLease hook warning: "), "{message}");
    drop((client, log));
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn the_hook_before_adds_to_the_motd() {
    let exporter = Exporter::start(|_| {
        let script = r#"printf "image v1\\n\\n" > "$JMP_MOTD_FILE""#;
        let after = r#"echo "motd file: ${JMP_MOTD_FILE-none}""#;
        format!(
            "motd: Mind the relay.\n{EXPORT}hooks:\n  beforeLease: {{script: '{script}'}}\n  \
             afterLease: {{script: '{after}'}}\n"
        )
    });
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    let report = client.exporter.get_report(()).await.unwrap().into_inner();
    assert_eq!(report.motd, "Mind the relay.\nimage v1");
    drop(client);
    exporter.signal(Signal::TERM);
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("motd file: none"), "{log}");
}

/// Opening a pipe without a writer would block, and so would reading a large file.
#[tokio::test]
async fn a_strange_motd_holds_nothing_up() {
    for (script, expected) in [
        (r#"mkfifo "$JMP_MOTD_FILE""#, 0..=0),
        (r#"mkdir "$JMP_MOTD_FILE""#, 0..=0),
        (r#"head -c 10000000 /dev/zero | tr "\\0" x > "$JMP_MOTD_FILE""#, 65_000..=65_600),
    ] {
        let exporter =
            Exporter::start(|_| format!("{EXPORT}hooks:\n  beforeLease: {{script: '{script}'}}\n"));
        let mut client = connect(&exporter.socket()).await;
        until_status(&mut client, ExporterStatus::LeaseReady).await;
        let report = client.exporter.get_report(()).await.unwrap().into_inner();
        assert!(expected.contains(&report.motd.len()), "{script}: {}", report.motd.len());
        drop(client);
        exporter.signal(Signal::TERM);
        assert_eq!(exporter.code().await.0, Some(0));
    }
}

#[tokio::test]
async fn hang_up_has_the_file_read_anew_once_the_device_is_free() {
    let exporter = Exporter::start(|_| {
        format!(
            "{EXPORT}hooks:\n  beforeLease: {{script: 'echo first'}}\n  afterLease: {{script: 'echo tidied'}}\n"
        )
    });
    let file = exporter.folder.path().join("exporter.yaml");
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    // One with faults changes nothing.
    std::fs::write(&file, "export: {power: {type: no-such-driver}}\n").unwrap();
    exporter.signal(Signal::HUP);
    exporter.until_logged("read anew once no client is connected").await;
    client.call("power", "on", &[]).await.unwrap();
    drop(client);
    exporter.until_logged("what it said before goes on").await;
    assert!(!exporter.log().contains("tidied"), "{}", exporter.log());
    let text =
        "export: {relay: {type: mock-power}}\nhooks:\n  beforeLease: {script: 'echo second'}\n";
    std::fs::write(&file, text).unwrap();
    exporter.signal(Signal::HUP);
    exporter.until_logged("second").await;
    let log = exporter.log();
    let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("no {words}: {log}"));
    assert!(at("first") < at("tidied") && at("tidied") < at("second"), "{log}");
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    client.call("relay", "on", &[]).await.unwrap();
    drop(client);
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn hang_up_waits_for_the_hook_before() {
    let exporter = Exporter::start(|folder| {
        let go = folder.join("go");
        let script =
            format!("echo begun; while [ ! -e {} ]; do sleep 0.02; done; echo over", go.display());
        format!("{EXPORT}hooks:\n  beforeLease: {{script: '{script}'}}\n")
    });
    exporter.until_logged("begun").await;
    std::fs::write(exporter.folder.path().join("exporter.yaml"), EXPORT).unwrap();
    exporter.signal(Signal::HUP);
    exporter.until_logged("read anew once no client is connected").await;
    std::fs::write(exporter.folder.path().join("go"), "").unwrap();
    exporter.until_logged("serving what the exporter file says now").await;
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    assert!(exporter.log().contains(" over\n"), "the hook was not ended: {}", exporter.log());
    drop(client);
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
}

#[tokio::test]
async fn a_signal_ends_an_exporter_that_waits_to_read_its_file() {
    let exporter = Exporter::start(|_| EXPORT.to_owned());
    let mut client = connect(&exporter.socket()).await;
    client.call("power", "on", &[]).await.unwrap();
    exporter.signal(Signal::HUP);
    exporter.until_logged("read anew once no client is connected").await;
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.code().await.0, Some(0));
    drop(client);
}

#[tokio::test]
async fn a_device_is_reset_before_it_is_served() {
    let exporter = Exporter::start_by(
        |folder| {
            let resets = folder.join("resets");
            format!(
                "export:\n  probe: {{type: reset-probe, config: {{file: {}}}}}\n",
                resets.display()
            )
        },
        "exec \"$@\"",
    );
    let resets = std::fs::read_to_string(exporter.folder.path().join("resets")).unwrap();
    assert_eq!(resets, "reset\n", "once, before it listened");
    let mut client = connect(&exporter.socket()).await;
    client.exporter.end_session(EndSessionRequest {}).await.unwrap();
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    drop(client);
    exporter.signal(Signal::TERM);
    let folder = exporter.folder.path().to_owned();
    let resets = async || std::fs::read_to_string(folder.join("resets")).unwrap();
    assert_eq!(resets().await, "reset\n");
    assert_eq!(exporter.code().await.0, Some(0));
}
