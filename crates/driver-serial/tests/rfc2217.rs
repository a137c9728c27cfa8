//! RFC 2217: the client against the server, and against ends that misbehave.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Framing, SerialFlowControl, SerialParity, SerialSettings};
use jumpstarter_driver_serial::{Rfc2217Server, SerialConfig, SerialPort};
use jumpstarter_driver_testkit::eventually;
use jumpstarter_driver_testkit::serial::{receive, timely};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A baud rate that takes until `slow` is notified.
const SLOW: u32 = 4800;

/// A port that echoes, and notes what is asked of it.
#[derive(Default)]
struct Noting {
    notes: Mutex<Vec<String>>,
    slow: Notify,
}

impl Noting {
    fn note(&self, what: String) {
        self.notes.lock().unwrap().push(what);
    }

    fn noted(&self, what: &str) -> bool {
        self.notes.lock().unwrap().iter().any(|noted| noted == what)
    }
}

#[async_trait]
impl Serial for Noting {
    async fn connect(&self) -> Result<Channel> {
        self.note("connected".to_owned());
        let (ours, theirs) = Channel::pair(Framing::Bytes);
        tokio::spawn(async move {
            let (mut reader, mut writer) = theirs.split();
            while let Ok(Some(bytes)) = reader.receive().await {
                if writer.send(bytes).await.is_err() {
                    return;
                }
            }
        });
        Ok(ours)
    }

    async fn set_dtr(&self, level: bool) -> Result<()> {
        self.note(format!("dtr {level}"));
        Ok(())
    }

    async fn set_rts(&self, level: bool) -> Result<()> {
        self.note(format!("rts {level}"));
        Ok(())
    }

    async fn send_break(&self, duration: Option<Span>) -> Result<()> {
        let duration = duration.unwrap().as_duration();
        self.note(format!("break of 50 ms: {}", duration.as_millis() >= 50));
        Ok(())
    }

    async fn configure(&self, settings: SerialSettings) -> Result<SerialSettings> {
        if let Some(rate) = settings.baudrate {
            if rate == SLOW {
                self.slow.notified().await;
            }
            self.note(format!("baudrate {rate}"));
        }
        if let Some(flow) = settings.flow_control {
            self.note(format!("{flow:?}"));
        }
        // It has no 7 data bits.
        let all = SerialConfig::new("loop://".parse().unwrap());
        Ok(SerialSettings {
            baudrate: settings.baudrate.or(Some(all.baudrate)),
            data_bits: Some(8),
            parity: settings.parity.or(Some(SerialParity::None)),
            stop_bits: settings.stop_bits.or(Some(1)),
            flow_control: settings.flow_control.or(Some(SerialFlowControl::None)),
        })
    }
}

async fn served() -> (Arc<Noting>, Rfc2217Server, SerialPort) {
    let (noting, server, config) = serve().await;
    (noting, server, SerialPort::new(config))
}

async fn serve() -> (Arc<Noting>, Rfc2217Server, SerialConfig) {
    let noting = Arc::new(Noting::default());
    let server = Rfc2217Server::bind(noting.clone(), "127.0.0.1:0").await.unwrap();
    let url = format!("rfc2217://{}", server.address());
    let mut config = SerialConfig::new(url.parse().unwrap());
    config.baudrate = 9600;
    config.reconnect = false;
    (noting, server, config)
}

#[tokio::test]
async fn bytes_settings_lines_and_breaks_reach_the_port() {
    let (noting, server, port) = served().await;
    let mut channel = port.connect().await.unwrap();
    assert!(noting.noted("baudrate 9600"));
    let all: Vec<u8> = (0..=255).chain([255, 255, 13, 0]).collect();
    channel.send(all.clone()).await.unwrap();
    assert_eq!(receive(&mut channel, all.len()).await, all);
    port.set_dtr(false).await.unwrap();
    port.set_rts(true).await.unwrap();
    assert!(noting.noted("dtr false") && noting.noted("rts true"));
    port.send_break(Some(Span::milliseconds(50))).await.unwrap();
    assert!(noting.noted("break of 50 ms: true"));
    let changes = SerialSettings {
        baudrate: Some(1_500_000),
        flow_control: Some(SerialFlowControl::Hardware),
        ..SerialSettings::default()
    };
    assert_eq!(port.configure(changes).await.unwrap().baudrate, Some(1_500_000));
    assert!(noting.noted("baudrate 1500000") && noting.noted("Hardware"));
    let refused = SerialSettings { data_bits: Some(7), ..SerialSettings::default() };
    let error = port.configure(refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.report().contains("refused `data_bits`"), "{}", error.report());
    // Without a connection one is made for the moment, and the next has the levels.
    drop(channel);
    eventually("the connection is closed", || port.open_connections() == 0).await;
    port.set_dtr(true).await.unwrap();
    assert!(noting.noted("dtr true"));
    drop(server);
    assert_eq!(port.connect().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_mebibyte_of_the_byte_that_is_doubled_passes() {
    let (_noting, _server, port) = served().await;
    let (mut reader, mut writer) = port.connect().await.unwrap().split();
    let sending = tokio::spawn(async move {
        for _ in 0..256 {
            writer.send(vec![255; 4096]).await.unwrap();
        }
        writer
    });
    let mut count = 0;
    while count < 1 << 20 {
        let bytes = timely(reader.receive()).await.unwrap().unwrap();
        assert!(bytes.iter().all(|byte| *byte == 255));
        count += bytes.len();
    }
    assert_eq!(count, 1 << 20);
    drop(timely(sending).await.unwrap());
}

#[tokio::test]
async fn a_server_of_another_protocol_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = SerialPort::new(SerialConfig::new(
        format!("rfc2217://{}", listener.local_addr().unwrap()).parse().unwrap(),
    ));
    // A telnet server that refuses the option.
    let refusing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[255, 254, 44]).await.unwrap();
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
    };
    let (error, ()) = tokio::join!(port.connect(), refusing);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.hint().unwrap().contains("socket://"), "{error:?}");
    // One that hangs up.
    let (error, _) = tokio::join!(port.connect(), async { drop(listener.accept().await) });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn settings_that_change_while_the_port_is_opened_reach_it() {
    let (noting, _server, mut config) = serve().await;
    config.baudrate = SLOW;
    let port = Arc::new(SerialPort::new(config));
    let opening = tokio::spawn({
        let port = Arc::clone(&port);
        async move { port.connect().await }
    });
    let server = Arc::clone(&noting);
    eventually("the port is being opened", || server.noted("connected")).await;
    let wanted = SerialSettings { baudrate: Some(115_200), ..SerialSettings::default() };
    let mut changing = std::pin::pin!(port.configure(wanted));
    assert!(futures_util::poll!(&mut changing).is_pending());
    noting.slow.notify_one();
    let _channel = timely(opening).await.unwrap().unwrap();
    timely(changing).await.unwrap();
    let notes = noting.notes.lock().unwrap().clone();
    assert_eq!(notes.iter().rfind(|note| note.starts_with("baudrate")).unwrap(), "baudrate 115200");
}

/// A port whose server is the test, its channel, and the server's connection.
async fn by_hand() -> (Arc<SerialPort>, Channel, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rfc2217://{}", listener.local_addr().unwrap());
    let mut wanted = SerialConfig::new(url.parse().unwrap());
    wanted.reconnect = false;
    let port = Arc::new(SerialPort::new(wanted));
    let connecting = tokio::spawn({
        let port = Arc::clone(&port);
        async move { port.connect().await }
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(&[255, 253, 44]).await.unwrap();
    // The five settings.
    for _ in 0..5 {
        answer(&mut stream).await;
    }
    (port, timely(connecting).await.unwrap().unwrap(), stream)
}

/// Reads until a command has come, and returns its code and value.
async fn command(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut seen = Vec::new();
    loop {
        seen.push(timely(stream.read_u8()).await.unwrap());
        if let Some(begin) = seen.windows(3).position(|three| three == [255, 250, 44])
            && seen.ends_with(&[255, 240])
        {
            return (seen[begin + 3], seen[begin + 4..seen.len() - 2].to_vec());
        }
    }
}

fn answer_to(code: u8, value: &[u8]) -> Vec<u8> {
    [&[255, 250, 44, code + 100], value, &[255, 240]].concat()
}

async fn answer(stream: &mut TcpStream) {
    let (code, value) = command(stream).await;
    stream.write_all(&answer_to(code, &value)).await.unwrap();
}

#[tokio::test]
async fn a_command_without_an_answer_takes_no_answer_of_a_later_one() {
    let (port, _channel, mut stream) = by_hand().await;
    let asking = tokio::spawn({
        let port = Arc::clone(&port);
        async move { port.set_dtr(true).await }
    });
    command(&mut stream).await;
    // It has come. From here on nothing but time passes.
    tokio::time::pause();
    let outcome = asking.await.unwrap();
    tokio::time::resume();
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    let (outcome, ()) = tokio::join!(port.set_rts(false), answer(&mut stream));
    outcome.unwrap();
}

#[tokio::test]
async fn the_answer_to_the_end_of_a_cancelled_break_is_no_answer_to_another_command() {
    let (port, _channel, mut stream) = by_hand().await;
    let breaking = tokio::spawn({
        let port = Arc::clone(&port);
        async move { port.send_break(Some(Span::seconds(10))).await }
    });
    answer(&mut stream).await;
    breaking.abort();
    // The end of the break is answered late.
    let (code, value) = command(&mut stream).await;
    assert_eq!((code, &value[..]), (5, &[6][..]));
    let late = async {
        let (next, level) = command(&mut stream).await;
        let answers = [answer_to(code, &value), answer_to(next, &level)].concat();
        stream.write_all(&answers).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(port.set_dtr(true), late);
    outcome.unwrap();
}

#[tokio::test]
async fn a_server_that_wants_no_data_does_not_keep_a_client_that_leaves() {
    let (port, mut channel, mut stream) = by_hand().await;
    // It suspends the client, and says so by a last word.
    stream.write_all(&[&answer_to(8, &[])[..], b"held"].concat()).await.unwrap();
    assert_eq!(receive(&mut channel, 4).await, b"held");
    channel.send("x").await.unwrap();
    drop(channel);
    eventually("the client left", || port.open_connections() == 0).await;
    let mut rest = Vec::new();
    timely(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.contains(&b'x'));
}
