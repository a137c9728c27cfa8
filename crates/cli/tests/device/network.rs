//! Verbs of network endpoints, and `jmp forward`.

use insta::assert_snapshot;
use jumpstarter_supervise::{Child, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use crate::lab::{Bench, jmp, line, start};
use crate::terminal::code;

#[tokio::test]
async fn addresses() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["rack", "web", "address"]).await, @"127.0.0.1:4711");
    assert_snapshot!(bench.j(&["rack.web", "address", "--host"]).await, @"127.0.0.1");
    assert_snapshot!(bench.j(&["rack.web", "address", "--port"]).await, @"4711");
    assert_snapshot!(bench.j(&["rack.web", "address", "--output", "json"]).await, @r#"{"address":"tcp://127.0.0.1:4711","host":"127.0.0.1","port":4711}"#);
    assert_snapshot!(bench.j(&["echo", "address"]).await, @r"
    --- stderr
    error: this network endpoint has no address
    --- exit code 1
    ");
}

/// Says something through a forward to an echo, and hears it back.
async fn talk(mut connection: impl AsyncRead + AsyncWrite + Unpin) {
    connection.write_all(b"hello").await.unwrap();
    connection.shutdown().await.unwrap();
    let mut heard = String::new();
    connection.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello");
}

/// Ends it as a person does, and answers what it says last.
async fn interrupted(child: &Child) -> String {
    child.signal(Signal::INT);
    assert_eq!(code(child).await, Some(0), "{}", child.stderr_tail());
    child.stderr_tail()
}

#[tokio::test]
async fn a_tcp_forward() {
    let bench = Bench::everything().await;
    let (child, mut lines) = bench.start(&["echo", "forward-tcp"]).await;
    let address = line(&mut lines, &child).await;
    talk(TcpStream::connect(&address).await.unwrap()).await;
    assert_snapshot!(interrupted(&child).await, @"1 connection(s), 5 B to the device, 5 B from it, 0 failed");
}

#[tokio::test]
async fn a_tcp_forward_for_programs() {
    let bench = Bench::everything().await;
    let words = ["echo", "forward-tcp", "--address", "127.0.0.1", "--output", "json"];
    let (child, mut lines) = bench.start(&words).await;
    let listening: serde_json::Value =
        serde_json::from_str(&line(&mut lines, &child).await).unwrap();
    assert_eq!(
        (&listening["host"], &listening["socket"]),
        (&"127.0.0.1".into(), &serde_json::Value::Null)
    );
    let port = u16::try_from(listening["port"].as_u64().unwrap()).unwrap();
    talk(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await;
    assert_eq!(interrupted(&child).await, "");
    assert_snapshot!(line(&mut lines, &child).await, @r#"{"connections":1,"active":0,"bytes_to_device":5,"bytes_from_device":5,"failures":0,"dropped_datagrams":0,"last_error":null}"#);
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let bench = Bench::everything().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = bench.j(&["echo", "forward-tcp", "--address", "127.0.0.1", &port]).await;
    assert_snapshot!(said.replace(&port, "PORT"), @r"
    --- stderr
    error: listening on TCP 127.0.0.1:PORT: port PORT of 127.0.0.1 is taken by another program: Address already in use (os error 98)
    hint: choose another port, or 0 for a free one; `ss -ltnp 'sport = :PORT'` names the program
    --- exit code 1
    ");
}

#[tokio::test]
async fn a_unix_forward() {
    let bench = Bench::everything().await;
    let socket = bench.lab.path("echo.sock");
    let (child, mut lines) = bench.start(&["echo", "forward-unix", "echo.sock"]).await;
    assert_snapshot!(bench.lab.plain(&line(&mut lines, &child).await), @"echo.sock");
    talk(UnixStream::connect(&socket).await.unwrap()).await;
    interrupted(&child).await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_unix_forward_makes_a_private_place() {
    let bench = Bench::everything().await;
    let command =
        bench.command(&["echo", "forward-unix"]).env("XDG_RUNTIME_DIR", bench.lab.folder());
    let (child, mut lines) = start(command).await;
    let address = line(&mut lines, &child).await;
    let socket = std::path::PathBuf::from(&address);
    assert!(socket.starts_with(bench.lab.folder()), "{address}");
    talk(UnixStream::connect(&socket).await.unwrap()).await;
    interrupted(&child).await;
    assert!(!socket.parent().unwrap().exists());
}

#[tokio::test]
async fn a_forward_ends_with_its_exporter() {
    let bench = Bench::everything().await;
    let (child, mut lines) = bench.start(&["echo", "forward-tcp"]).await;
    line(&mut lines, &child).await;
    bench.exporter.kill();
    assert_eq!(code(&child).await, Some(3));
    assert_snapshot!(bench.lab.plain(&child.stderr_tail()), @r"
    error: the exporter at s went away
    hint: connect again when it is back: it has ended, or the network to it failed
    ");
}

#[tokio::test]
async fn jmp_forward_tells_what_to_connect_with() {
    let bench = Bench::everything().await;
    let (child, mut lines) =
        start(jmp(&["forward", "echo"]).env("JUMPSTARTER_HOST", &bench.host)).await;
    let first = line(&mut lines, &child).await;
    let address =
        first.strip_prefix("`echo` is at ").and_then(|rest| rest.strip_suffix("; Ctrl-C ends it"));
    let address = address.unwrap_or_else(|| panic!("{first}"));
    // The service is unknown: no advice.
    talk(TcpStream::connect(address).await.unwrap()).await;
    interrupted(&child).await;
    assert_snapshot!(line(&mut lines, &child).await, @"connections: 1, 5 bytes to the device, 5 from it, failed: 0");
}

#[tokio::test]
async fn jmp_forward_of_a_file_to_a_unix_socket() {
    let bench = Bench::everything().await;
    let file = bench.lab.file();
    let words =
        ["forward", "echo", "--unix", "echo.sock", "--exporter-config", &file, "--output", "json"];
    let (child, mut lines) = start(jmp(&words).current_dir(bench.lab.folder())).await;
    assert_snapshot!(bench.lab.plain(&line(&mut lines, &child).await), @r#"{"address":"echo.sock","host":null,"port":null,"socket":"echo.sock","connect_with":null}"#);
    talk(UnixStream::connect(bench.lab.path("echo.sock")).await.unwrap()).await;
    interrupted(&child).await;
    assert_snapshot!(line(&mut lines, &child).await, @r#"{"connections":1,"active":0,"bytes_to_device":5,"bytes_from_device":5,"failures":0,"dropped_datagrams":0,"last_error":null}"#);
}

#[tokio::test]
async fn jmp_forward_goes_by_the_name_and_the_port_of_the_device() {
    let bench = Bench::of(
        "export:\n  web: {type: tcp, config: {host: 127.0.0.1, port: 4711}}\n  \
         login: {type: tcp, config: {host: 127.0.0.1, port: 22}}\n",
    )
    .await;
    for (path, advice) in
        [("web", "connect with: http://ADDRESS"), ("login", "connect with: ssh -p PORT 127.0.0.1")]
    {
        let (child, mut lines) =
            start(jmp(&["forward", path]).env("JUMPSTARTER_HOST", &bench.host)).await;
        let first = line(&mut lines, &child).await;
        let address = first.split_whitespace().nth(3).unwrap().trim_end_matches(';').to_owned();
        let port = address.rsplit(':').next().unwrap();
        let said = line(&mut lines, &child).await;
        assert_eq!(said.replace(&address, "ADDRESS").replace(port, "PORT"), advice);
        interrupted(&child).await;
    }
}

#[tokio::test]
async fn jmp_forward_of_something_else() {
    let bench = Bench::everything().await;
    let forward = |path: &'static str| {
        bench.run(jmp(&["forward", path]).env("JUMPSTARTER_HOST", &bench.host))
    };
    assert_snapshot!(forward("power").await, @r"
    --- stderr
    error: `power` has no interface `network`
    hint: its interfaces: `power`; `network` is at `echo` and `rack.web`
    --- exit code 1
    ");
    assert_snapshot!(forward("eco").await, @r"
    --- stderr
    error: there is no `eco` in this device
    hint: did you mean `echo`? There are `power`, `echo`, `console`, `flasher`, `rack`, `rack.web`, `rack.shelf`, `rack.shelf.power` and `switch`
    --- exit code 1
    ");
    assert_snapshot!(bench.run(jmp(&["forward", "echo"])).await, @r"
    --- stderr
    error: which device?
    hint: run this in `jmp shell`, set JUMPSTARTER_HOST to an exporter's socket or HOST:PORT, or add --exporter-config FILE, --exporter ALIAS, --tls-grpc HOST:PORT, or --selector LABELS for a device of a lab
    --- exit code 2
    ");
}

#[tokio::test]
async fn jmp_forward_ends_with_its_exporter() {
    let bench = Bench::everything().await;
    let (child, mut lines) =
        start(jmp(&["forward", "echo"]).env("JUMPSTARTER_HOST", &bench.host)).await;
    line(&mut lines, &child).await;
    bench.exporter.kill();
    assert_eq!(code(&child).await, Some(1));
    assert_snapshot!(bench.lab.plain(&child.stderr_tail()), @r"
    error: the exporter at s went away
    hint: connect again when it is back: it has ended, or the network to it failed
    ");
}

#[tokio::test]
async fn datagrams_are_forwarded_by_both_commands_and_refused_as_a_stream() {
    let device = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = device.local_addr().unwrap().port();
    let bench = Bench::of(&format!(
        "export:\n  dns: {{type: udp, config: {{host: 127.0.0.1, port: {port}}}}}\n"
    ))
    .await;
    let forward = jmp(&["forward", "dns"]).env("JUMPSTARTER_HOST", &bench.host);
    for (starting, prefix) in [
        (start(forward).await, "`dns` is at UDP "),
        (bench.start(&["dns", "forward-udp", "--address", "127.0.0.1"]).await, ""),
    ] {
        let (child, mut lines) = starting;
        let first = line(&mut lines, &child).await;
        let address = first.strip_prefix(prefix).unwrap_or_else(|| panic!("{first}"));
        let address = address.trim_end_matches("; Ctrl-C ends it");
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(address).await.unwrap();
        for datagram in ["question", ""] {
            client.send(datagram.as_bytes()).await.unwrap();
            let mut buffer = [0; 64];
            let (length, from) = device.recv_from(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], datagram.as_bytes());
            device.send_to(b"answer", from).await.unwrap();
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], b"answer");
        }
        interrupted(&child).await;
    }
    let said = bench.j(&["dns", "forward-tcp"]).await;
    assert_snapshot!(said.replace(&port.to_string(), "PORT"), @r"
    --- stderr
    error: udp://127.0.0.1:PORT takes datagrams, and this forward passes on streams
    hint: forward it to a UDP port: `j PATH forward-udp`
    --- exit code 1
    ");
}
