//! Terminal devices, on real pseudo-terminals.

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_serial::{SerialConfig, SerialPort};
use jumpstarter_driver_testkit::eventually;
use jumpstarter_driver_testkit::serial::{Pty, ended, receive, timely};
use jumpstarter_supervise::{Command, Input, Sink};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::termios::{ControlModes, LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio::time::timeout;

fn config(value: serde_json::Value) -> SerialConfig {
    serde_json::from_value(value).expect("a configuration")
}

#[tokio::test]
async fn every_byte_passes_both_ways_unchanged() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    let mut channel = port.connect().await.unwrap();
    let all: Vec<u8> = (0..=255).collect();
    channel.send(all.clone()).await.unwrap();
    assert_eq!(pty.read(256).await, all);
    pty.write(&all).await;
    assert_eq!(receive(&mut channel, 256).await, all);
}

#[tokio::test]
async fn settings_reach_the_terminal() {
    let pty = Pty::open();
    // On Linux the master answers with the settings of the terminal.
    let mut before = tcgetattr(&pty.master).unwrap();
    before.control_modes.insert(ControlModes::HUPCL);
    tcsetattr(&pty.master, OptionalActions::Now, &before).unwrap();
    for (disable_hupcl, baudrate) in [(false, 9600), (true, 1_500_000), (true, 12_345)] {
        let url = pty.path.to_str().unwrap();
        let port = SerialPort::new(config(
            serde_json::json!({ "url": url, "baudrate": baudrate, "disable_hupcl": disable_hupcl }),
        ));
        let channel = port.connect().await.unwrap();
        let now = tcgetattr(&pty.master).unwrap();
        assert_eq!(now.output_speed(), baudrate);
        assert_eq!(now.control_modes.contains(ControlModes::HUPCL), !disable_hupcl);
        assert!(
            !now.local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
        );
        drop(channel);
    }
}

#[tokio::test]
async fn every_setting_reaches_the_terminal_and_can_be_changed() {
    use jumpstarter_driver_core::{SerialFlowControl, SerialParity, SerialSettings};
    use rustix::termios::InputModes;
    let pty = Pty::open();
    let port = SerialPort::new(config(serde_json::json!({
        "url": pty.path, "data_bits": 7, "parity": "even", "stop_bits": 2, "flow_control": "software"
    })));
    let channel = port.connect().await.unwrap();
    let shown = || tcgetattr(&pty.master).unwrap();
    // A pseudo-terminal of Linux has 8 bits and no parity whatever is set.
    assert!(shown().control_modes.contains(ControlModes::CSTOPB));
    assert!(shown().input_modes.contains(InputModes::IXON | InputModes::IXOFF));
    let changes = SerialSettings {
        baudrate: Some(9600),
        stop_bits: Some(1),
        flow_control: Some(SerialFlowControl::Hardware),
        ..SerialSettings::default()
    };
    let all = port.configure(changes).await.unwrap();
    assert_eq!((all.data_bits, all.parity), (Some(7), Some(SerialParity::Even)));
    let changed = |now: rustix::termios::Termios| {
        now.output_speed() == 9600
            && !now.control_modes.contains(ControlModes::CSTOPB)
            && now.control_modes.contains(ControlModes::CRTSCTS)
            && !now.input_modes.intersects(InputModes::IXON | InputModes::IXOFF)
    };
    assert!(changed(shown()));
    // The next opening has them, too, and a reset those of the configuration.
    drop(channel);
    let channel = port.connect().await.unwrap();
    assert!(changed(shown()));
    port.reset().await.unwrap();
    assert!(!changed(shown()));
    assert_eq!(shown().output_speed(), 115_200);
    drop(channel);
    let wrong = SerialSettings { stop_bits: Some(3), ..SerialSettings::default() };
    let error = port.configure(wrong).await.unwrap_err();
    assert_eq!(error.report(), "`stop_bits` must be 1 or 2");
}

#[tokio::test]
async fn a_break_is_as_long_as_it_should_be() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    for connected in [false, true] {
        let channel = if connected { Some(port.connect().await.unwrap()) } else { None };
        let start = std::time::Instant::now();
        port.send_break(Some(Span::milliseconds(50))).await.unwrap();
        assert!(start.elapsed().as_millis() >= 50);
        drop(channel);
    }
    let error = port.send_break(Some(Span::seconds(11))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let socket = SerialPort::unix_socket("/tmp/console");
    assert_eq!(socket.send_break(None).await.unwrap_err().kind(), ErrorKind::Unimplemented);
    SerialPort::loopback().send_break(None).await.unwrap();
}

#[tokio::test]
async fn a_device_that_cannot_be_opened_is_named_when_the_driver_opens() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let here = serde_json::json!({ "url": file.path() });
    let error = config(here).open(OpenContext::at("board.console")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
}

#[tokio::test]
async fn two_ports_of_one_device_take_turns() {
    let pty = Pty::open();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("console");
    std::os::unix::fs::symlink(&pty.path, &link).unwrap();
    let (port, same) = (SerialPort::device(&pty.path), SerialPort::device(&link));
    let first = port.connect().await.unwrap();
    let error = same.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(
        error.report().contains("another driver of this program has it open"),
        "{}",
        error.report()
    );
    // Closing takes a moment, for which the other waits.
    let (second, ()) = tokio::join!(same.connect(), async { drop(first) });
    drop((second.unwrap(), same));
    port.connect().await.unwrap();
}

#[tokio::test]
async fn a_lock_of_somebody_else_is_respected() {
    let pty = Pty::open();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let other = rustix::fs::open(&pty.path, flags, Mode::empty()).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let port = SerialPort::device(&pty.path);
    let error = port.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    assert!(error.report().contains("is in use by"), "{}", error.report());
    flock(&other, FlockOperation::Unlock).unwrap();
    port.connect().await.unwrap();
}

#[tokio::test]
async fn another_program_that_holds_the_device_is_named() {
    let pty = Pty::open();
    let script = format!("exec 3<>{}; flock -x 3 && echo held && read forever", pty.path.display());
    let (told, mut held) = tokio::sync::mpsc::unbounded_channel();
    let sink = Sink::lines(move |line| drop(told.send(line.to_owned())));
    let holder = Command::new("bash")
        .args(["-c", &script])
        .stdin(Input::Piped)
        .stdout(sink)
        .spawn()
        .await
        .unwrap();
    assert_eq!(timely(held.recv()).await.as_deref(), Some("held"), "{}", holder.stderr_tail());
    let port = SerialPort::device(&pty.path);
    let error = port.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(
        error.report().contains(&format!("in use by bash (pid {})", holder.pid())),
        "{}",
        error.report()
    );
    holder.kill();
    timely(holder.wait_gone()).await;
    port.connect().await.unwrap();
}

#[tokio::test]
async fn close_ends_the_connection_and_frees_the_port() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    // Held, and polled by nobody: the port is free all the same.
    let mut idle = port.connect().await.unwrap();
    Serial::close(&port).await.unwrap();
    let mut next = port.connect().await.unwrap();
    ended(&mut idle).await;
    assert_eq!(idle.send("x").await.unwrap_err().kind(), ErrorKind::Unavailable);
    // One that waits for bytes sees the end at once.
    let (end, closed) = tokio::join!(timely(next.receive()), Driver::close(&port));
    closed.unwrap();
    assert_eq!(end.unwrap(), None);
    Driver::close(&port).await.unwrap();
    assert_eq!(port.open_connections(), 0);
}

#[tokio::test]
async fn the_end_of_the_device_is_the_end_of_the_channel() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    let mut channel = port.connect().await.unwrap();
    pty.write(b"last words").await;
    assert_eq!(receive(&mut channel, 10).await, b"last words");
    drop(pty);
    ended(&mut channel).await;
}

#[tokio::test]
async fn a_device_that_is_gone_is_not_found() {
    // By a link that goes with the device, as udev's: the number of a terminal is soon another's.
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ttyUSB0");
    let pty = Pty::open();
    std::os::unix::fs::symlink(&pty.path, &link).unwrap();
    let port = SerialPort::new(config(serde_json::json!({ "url": link, "reconnect": false })));
    let mut channel = port.connect().await.unwrap();
    std::fs::remove_file(&link).unwrap();
    drop(pty);
    ended(&mut channel).await;
    drop(channel);
    let error = port.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
}

#[tokio::test]
async fn lines_that_are_not_there_are_unimplemented() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    for connected in [false, true] {
        let channel = if connected { Some(port.connect().await.unwrap()) } else { None };
        assert_eq!(port.set_dtr(true).await.unwrap_err().kind(), ErrorKind::Unimplemented);
        let error = port.set_rts(false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented);
        assert!(error.report().contains("RTS"), "{}", error.report());
        drop(channel);
    }
    let error = SerialPort::unix_socket("/tmp/console").set_dtr(true).await.unwrap_err();
    assert_eq!(error.report(), "unix:///tmp/console has no DTR line");
    // Programs that set the lines of a board run against a loopback, too.
    SerialPort::loopback().set_dtr(true).await.unwrap();
    SerialPort::loopback().set_rts(false).await.unwrap();
}

#[tokio::test]
async fn cancelled_connects_leave_the_port_free() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    for _ in 0..20 {
        // Polled once: the thread that opens the port is under way when the call is dropped.
        drop(timeout(std::time::Duration::ZERO, port.connect()).await);
    }
    let mut channel = port.connect().await.unwrap();
    channel.send("here").await.unwrap();
    assert_eq!(pty.read(4).await, b"here");
}

#[tokio::test]
async fn the_limit_of_characters_per_second_holds() {
    let pty = Pty::open();
    let url = pty.path.to_str().unwrap();
    let port = SerialPort::new(config(serde_json::json!({ "url": url, "cps": 200 })));
    let mut channel = port.connect().await.unwrap();
    let start = std::time::Instant::now();
    channel.send(vec![b'x'; 101]).await.unwrap();
    assert!(start.elapsed().as_millis() >= 500, "{:?}", start.elapsed());
    assert_eq!(pty.read(101).await.len(), 101);
    // A write that waits for its turn ends with the port.
    let port = SerialPort::new(config(serde_json::json!({ "url": "loop://", "cps": 0.01 })));
    let (mut reader, mut writer) = port.connect().await.unwrap().split();
    let sending = tokio::spawn(async move { writer.send("never sent").await });
    assert_eq!(timely(reader.receive()).await.unwrap().unwrap(), "n");
    drop(reader);
    tokio::task::yield_now().await;
    Serial::close(&port).await.unwrap();
    let sent = timely(sending).await.unwrap();
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_missing_device_is_named_when_the_driver_opens() {
    let missing = serde_json::json!({ "url": "/dev/ttyUSB97531" });
    let error = config(missing.clone()).open(OpenContext::at("board.console")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.report().contains("/dev/ttyUSB97531") && error.hint().unwrap().contains("plugged in"),
        "{error:?}"
    );
    for device in jumpstarter_driver_serial::serial_devices() {
        assert!(error.hint().unwrap().contains(device.to_str().unwrap()), "{error:?}");
    }
    let mut unchecked = config(missing);
    unchecked.check_present = false;
    let port = unchecked.open(OpenContext::at("board.console")).await.unwrap();
    assert_eq!(port.connect().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_no_terminal_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = SerialPort::device(file.path()).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
}

#[tokio::test]
async fn dropping_a_channel_closes_the_device() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    let channel = port.connect().await.unwrap();
    let device = pty.path.canonicalize().unwrap();
    let open_here = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == device))
            .count()
    };
    assert_eq!(open_here(), 1);
    drop(channel);
    eventually("the device is closed", || open_here() == 0).await;
}

/// Set for the process that is to be killed: the device that it opens.
const DEVICE: &str = "JUMPSTARTER_TEST_DEVICE";

/// Whether a user without rights can open it.
async fn others_can_open(path: &std::path::Path) -> bool {
    let script = format!("exec 3<>{}", path.display());
    let arguments = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &script];
    let child =
        Command::new("setpriv").args(arguments).spawn().await.expect("setpriv of util-linux");
    timely(child.wait()).await.success()
}

#[tokio::test]
async fn a_killed_process_leaves_a_terminal_that_others_can_open() {
    if let Some(device) = std::env::var_os(DEVICE) {
        let _channel = SerialPort::device(device).connect().await.unwrap();
        println!("held");
        return std::future::pending().await;
    }
    let pty = Pty::open();
    std::fs::set_permissions(&pty.path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .unwrap();
    let (told, mut held) = tokio::sync::mpsc::unbounded_channel();
    let sink = Sink::lines(move |line| drop(told.send(line.to_owned())));
    let name = "a_killed_process_leaves_a_terminal_that_others_can_open";
    let program = std::env::current_exe().unwrap();
    let holder =
        Command::new(program).args([name, "--exact", "--nocapture"]).env(DEVICE, &pty.path);
    let holder = holder.stdout(sink).spawn().await.unwrap();
    while !timely(held.recv()).await.expect("the holder's output").contains("held") {}
    holder.kill();
    timely(holder.wait_gone()).await;
    assert!(others_can_open(&pty.path).await, "the device is locked for good");
    SerialPort::device(&pty.path).connect().await.unwrap();
}

#[tokio::test]
async fn two_locks_that_could_be_shared_keep_each_other_out() {
    let pty = Pty::open();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let other = rustix::fs::open(&pty.path, flags, Mode::empty()).unwrap();
    flock(&other, FlockOperation::LockShared).unwrap();
    let error = SerialPort::device(&pty.path).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
}

#[test]
fn configurations_are_checked() {
    for unlimited in [serde_json::json!(0), serde_json::json!(0.0), serde_json::json!(null)] {
        let none = config(serde_json::json!({ "url": "loop://", "cps": unlimited }));
        assert!(none.check().is_empty());
    }
    let wrong = config(
        serde_json::json!({ "url": "loop://", "baudrate": 0, "cps": -1, "data_bits": 9, "stop_bits": 0 }),
    );
    let fields: Vec<String> = wrong.check().into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["baudrate", "data_bits", "stop_bits", "cps"]);
    for unknown in
        [serde_json::json!({ "url": "loop://", "baud": 1 }), serde_json::json!({ "url": "lop://" })]
    {
        assert!(serde_json::from_value::<SerialConfig>(unknown).is_err());
    }
    let entry = jumpstarter_driver_core::Registry::linked()
        .find("jumpstarter_driver_pyserial.driver.PySerial")
        .unwrap();
    assert_eq!(entry.name, "serial");
    assert_eq!((entry.interfaces)()[0].name, "serial");
}
