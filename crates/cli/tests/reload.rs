//! `jmp run` reads its file anew on SIGHUP: it keeps its port, and notifies systemd. Its log
//! reports an expired certificate.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/inside.rs"]
mod inside;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/terminal.rs"]
mod terminal;

use jumpstarter_supervise::{Command, Signal, run_unchecked};

use lab::{clean, eventually, jmp, line, start, transcript};
use terminal::{DEADLINE, J, Lab, Terminal, code};

const BEFORE: &str = "export: {power: {type: mock-power}}\n";
const AFTER: &str = "export: {relay: {type: mock-power}}\n";

#[tokio::test]
async fn the_device_changes_at_the_same_port() {
    let lab = Lab::new(BEFORE);
    let (file, told) = (lab.file(), lab.path("notify"));
    let systemd = tokio::net::UnixDatagram::bind(&told).unwrap();
    let listen = ["--tls-grpc-listener", "127.0.0.1:0", "--tls-grpc-insecure"];
    let words = [&["run", "--exporter-config", &file], listen.as_slice()].concat();
    let (child, mut lines) = start(jmp(&words).env("NOTIFY_SOCKET", &told)).await;
    let ready = line(&mut lines, &child).await;
    let address = ready.strip_prefix("ready tcp://").unwrap().to_owned();
    let j = async |words: &[&str]| {
        let command = clean(Command::new(J)).args(words).env("JUMPSTARTER_HOST", &address);
        transcript(&run_unchecked(command.env("JMP_GRPC_INSECURE", "1"), DEADLINE).await.unwrap())
    };
    let next = async || {
        let mut buffer = [0; 256];
        let count =
            tokio::time::timeout(DEADLINE, systemd.recv(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    assert_eq!(next().await, "READY=1");
    assert_eq!(j(&["power", "on"]).await, "");
    std::fs::write(&file, AFTER).unwrap();
    child.signal(Signal::HUP);
    let reloading = next().await;
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(next().await, "READY=1");
    assert_eq!(j(&["relay", "on"]).await, "");
    assert!(j(&["power", "on"]).await.contains("this device has no `power`"));
    child.signal(Signal::TERM);
    assert!(next().await.starts_with("STOPPING=1"));
    assert_eq!(code(&child).await, Some(0), "{}", child.stderr_tail());
    let log = child.stderr_tail();
    // The device of the old file was closed, and its lease ended, before the new one began.
    assert_eq!(log.matches("the exporter file is read anew").count(), 1, "{log}");
}

/// Makes a certificate that was valid in January 2020.
const EXPIRED: &str = "
openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout old.key -out old.csr
touch index
printf '%s\\n' '[ca]' 'default_ca=d' '[d]' 'database=index' 'new_certs_dir=.' 'rand_serial=yes' \
    'policy=p' 'default_md=sha256' 'x509_extensions=e' '[p]' 'commonName=supplied' '[e]' \\
    'subjectAltName=DNS:localhost' >ca.cnf
openssl ca -config ca.cnf -batch -notext -selfsign -keyfile old.key -in old.csr -out old.pem \
    -startdate 20200101000000Z -enddate 20200201000000Z";

#[tokio::test]
async fn an_expired_certificate_is_a_warning_of_the_log() {
    let lab = Lab::new(BEFORE);
    let file = lab.file();
    let make = clean(Command::new("/bin/sh")).args(["-ec", EXPIRED]).current_dir(lab.folder());
    let made = run_unchecked(make, DEADLINE).await.unwrap();
    assert!(made.status.success(), "{}", made.stderr);
    let listen = ["--tls-grpc-listener", "127.0.0.1:0"];
    let tls = ["--tls-cert", "old.pem", "--tls-key", "old.key", "--passphrase", "x"];
    let words = [&["run", "--exporter-config", &file], listen.as_slice(), &tls].concat();
    let (child, mut lines) = start(jmp(&words).current_dir(lab.folder())).await;
    line(&mut lines, &child).await;
    child.signal(Signal::TERM);
    assert_eq!(code(&child).await, Some(0), "{}", child.stderr_tail());
    let log = child.stderr_tail();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    let [warning] = warnings.as_slice() else { panic!("{log}") };
    assert!(warning.ends_with("the certificate old.pem has expired: clients refuse it"), "{log}");
}

/// At a terminal it is the terminal's end.
#[tokio::test]
async fn the_end_of_the_terminal_ends_the_exporter() {
    let lab = Lab::new(BEFORE);
    let (file, socket) = (lab.file(), lab.path("s"));
    let mut terminal = Terminal::new();
    let words = [
        terminal::JMP,
        "run",
        "--exporter-config",
        &file,
        "--listen-unix",
        socket.to_str().unwrap(),
    ];
    let child = terminal.command(&words).spawn().await.unwrap();
    terminal.shows("ready unix://").await;
    terminal.hang_up();
    assert!(code(&child).await.is_some());
    eventually("its socket is removed", async || (!socket.exists()).then_some(())).await;
}

/// Another program of the user knows the shell's socket; the afterLease hook has a separate one.
#[tokio::test]
async fn a_shells_socket_is_not_the_hooks() {
    let script = "touch hooked; j power off && while [ ! -e go ]; do sleep 0.02; done; echo over";
    let lab = Lab::new(&format!("{BEFORE}hooks: {{afterLease: {{script: '{script}'}}}}\n"));
    let words = ["shell", "--exporter-config", "lab.yaml", "--exporter-logs", "--", "sh", "-c"];
    let command = jmp(&[words.as_slice(), &["printf %s $JUMPSTARTER_HOST > host"]].concat());
    let (child, _lines) = start(command.current_dir(lab.folder())).await;
    eventually("the hook runs", async || lab.path("hooked").exists().then_some(())).await;
    let host = std::fs::read_to_string(lab.path("host")).unwrap();
    let call = clean(Command::new(J)).args(["power", "on"]).env("JUMPSTARTER_HOST", host);
    let said = transcript(&run_unchecked(call, DEADLINE).await.unwrap());
    std::fs::write(lab.path("go"), "").unwrap();
    assert!(said.contains("the afterLease hook is running"), "{said}");
    assert_eq!(code(&child).await, Some(0), "{}", child.stderr_tail());
    assert!(child.stderr_tail().contains(" over\n"), "{}", child.stderr_tail());
}
