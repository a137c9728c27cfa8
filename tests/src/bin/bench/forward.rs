//! Port forwards, beside socat on the same path.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::effort::Effort;
use crate::measure::{alternate, started};
use crate::python::connected;
use crate::served::{CONFIG, JMP, Ours, built};
use crate::table::{Row, Target};
use crate::unit::Unit;

/// What a program of this kind reads and writes at once.
const PIECE: usize = 256 * 1024;
/// Connections at once through one forward.
const CROWD: usize = 1000;
/// How long a program may take until it listens.
const START: Duration = Duration::from_secs(20);

pub(crate) const TITLE: &str = "Port forward, beside socat";

pub(crate) const NOTES: &[&str] = &[
    "one connection of a program in this process through `jmp forward` to a server in this process; beside it \
     `socat -b 65536` (its default of 8 KiB is slower) between the same two; over an exporter: beside two of them with a \
     Unix socket between",
    "connections at once: from the first attempt until each has sent a byte and got it back; socat forks for each",
    "medians; turns alternate",
];

/// Measures both directions on both paths, and small pieces.
pub(crate) async fn measure(effort: Effort) -> Result<Vec<Row>> {
    built(JMP)?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut rows = Vec::new();
    let (from_device, to_device, echoed) = (serve(send)?, serve(receive)?, serve(echo)?);
    let config = format!(
        "{CONFIG}  from: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {}}}}}\n  \
         to: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {}}}}}\n  \
         echoed: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {}}}}}\n",
        from_device.port(),
        to_device.port(),
        echoed.port()
    );
    let file = folder.join("forward.yaml");
    std::fs::write(&file, &config)?;
    let exporter = Ours::start(&config, folder).await?;
    for over_exporter in [false, true] {
        for (name, server) in [("from", from_device), ("to", to_device)] {
            let jmp = Command::new(JMP).args(["forward", name, "--output", "json"]);
            let jmp = match over_exporter {
                true => connected(jmp, &exporter.socket),
                false => jmp.arg("--exporter-config").arg(&file),
            };
            let what = format!(
                "forward {name} the device{}",
                if over_exporter { ", over an exporter" } else { "" }
            );
            let row =
                forward(effort, what.clone(), name, jmp, server, over_exporter.then_some(folder))
                    .await;
            rows.push(row.with_context(|| format!("measuring {what}"))?);
        }
    }
    exporter.stop().await?;
    rows.extend(small(effort, &file, echoed).await?);
    Ok(rows)
}

async fn forward(
    effort: Effort,
    what: String,
    name: &str,
    jmp: Command,
    server: SocketAddr,
    between: Option<&Path>,
) -> Result<Row> {
    let download = name == "from";
    let bytes = effort.echo() * 2;
    let works = move |address| pass(address, 1, download);
    let pass = move |address| pass(address, bytes, download);
    let [ours, theirs] = beside(effort.turns(5), jmp, server, between, works, pass).await?;
    let (other, unit) =
        (if between.is_some() { "socat, twice" } else { "socat" }.to_owned(), Unit::Throughput);
    Ok(Row { what, other, unit, ours, theirs, target: Target::AtLeast(0.9) })
}

/// Small pieces: how long an answer takes, and many connections at once.
async fn small(effort: Effort, file: &Path, server: SocketAddr) -> Result<Vec<Row>> {
    let jmp = || {
        let words = ["forward", "echoed", "--output", "json", "--exporter-config"];
        Command::new(JMP).args(words).arg(file)
    };
    let (rounds, crowd) = if effort.quick { (100, 100) } else { (10_000, CROWD) };
    let works = |address| round_trip(address, 1);
    let trip = move |address| round_trip(address, rounds);
    let trips = beside(effort.turns(11), jmp(), server, None, works, trip).await;
    let [ours, theirs] = trips.context("measuring a round trip")?;
    let row = |what: String, ours, theirs, target| Row {
        what,
        other: "socat".to_owned(),
        unit: Unit::Time,
        ours,
        theirs,
        target,
    };
    let target = Target::Within(Duration::from_micros(20));
    let mut rows = vec![row("forward, one byte there and back".to_owned(), ours, theirs, target)];
    let all = move |address| at_once(address, crowd);
    let crowds = beside(effort.turns(5), jmp(), server, None, works, all).await;
    let [ours, theirs] = crowds.with_context(|| format!("measuring {crowd} connections"))?;
    let what = format!("forward, {crowd} connections at once");
    rows.push(row(what, ours, theirs, Target::None));
    Ok(rows)
}

/// The figures of `jmp forward` and of socat on the same path to `server`, in turns.
async fn beside(
    turns: u32,
    jmp: Command,
    server: SocketAddr,
    between: Option<&Path>,
    works: impl Fn(SocketAddr) -> Result<f64> + Copy + Send + 'static,
    measure: impl Fn(SocketAddr) -> Result<f64> + Copy + Send + 'static,
) -> Result<[Vec<f64>; 2]> {
    let (_jmp, line, _output) = started(jmp).await.context("starting `jmp forward`")?;
    let listening: serde_json::Value = serde_json::from_str(&line)
        .map_err(|error| Error::internal(format!("`{line}` is not JSON")).with_source(error))?;
    let ours = listening["address"].as_str().and_then(|address| address.parse().ok());
    let ours = ours.ok_or_else(|| Error::internal(format!("`{line}` names no address")))?;
    let socat = Socat::start(server, between, works).await?;
    let once = async |address| {
        let measured = tokio::task::spawn_blocking(move || measure(address)).await;
        measured.unwrap_or_else(|error| {
            Err(Error::internal("the client's thread panicked").with_source(error))
        })
    };
    let theirs = socat.as_ref().map(|socat| async || once(socat.address).await);
    alternate(turns, async || once(ours).await, theirs).await
}

/// One connection that sends a byte and waits for it again and again: the seconds of one round.
fn round_trip(address: SocketAddr, rounds: u32) -> Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let start = Instant::now();
    for _ in 0..rounds {
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(rounds))
}

/// Opens this many connections together; each sends a byte and gets it back. Returns the seconds of
/// all.
fn at_once(address: SocketAddr, connections: usize) -> Result<f64> {
    let start = Instant::now();
    let streams = (0..connections).map(|_| TcpStream::connect(address));
    let mut streams = streams.collect::<std::io::Result<Vec<_>>>()?;
    for stream in &mut streams {
        stream.write_all(&[1])?;
    }
    for stream in &mut streams {
        stream.read_exact(&mut [0])?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// One connection, and the bytes a second that it took.
fn pass(address: SocketAddr, bytes: u64, download: bool) -> Result<f64> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&bytes.to_le_bytes())?;
    let passed = if download {
        drain(&mut stream)?
    } else {
        fill(&mut stream, bytes)?;
        stream.shutdown(Shutdown::Write)?;
        let mut received = [0; 8];
        stream.read_exact(&mut received)?;
        u64::from_le_bytes(received)
    };
    match passed == bytes {
        true => Ok(bytes as f64 / start.elapsed().as_secs_f64()),
        false => Err(Error::data_loss(format!("{passed} bytes came through, of {bytes}"))),
    }
}

/// A server that ends with the process: the device's.
fn serve(answer: fn(TcpStream) -> std::io::Result<()>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let accept = move || {
        for stream in listener.incoming().flatten() {
            // The client of a broken connection reports it.
            drop(std::thread::Builder::new().spawn(move || answer(stream)));
        }
    };
    std::thread::Builder::new().spawn(accept)?;
    Ok(address)
}

/// Sends back what it gets.
fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut piece = [0; 1024];
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            length => stream.write_all(&piece[..length])?,
        }
    }
}

/// Sends as many bytes as the client asks for.
fn send(mut stream: TcpStream) -> std::io::Result<()> {
    let bytes = wanted(&mut stream)?;
    fill(&mut stream, bytes)
}

/// Receives everything and says how much it was.
fn receive(mut stream: TcpStream) -> std::io::Result<()> {
    wanted(&mut stream)?;
    let received = drain(&mut stream)?;
    stream.write_all(&received.to_le_bytes())
}

fn wanted(stream: &mut TcpStream) -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn fill(stream: &mut TcpStream, bytes: u64) -> std::io::Result<()> {
    let piece = vec![0xa5; PIECE];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(PIECE as u64);
        stream.write_all(&piece[..length as usize])?;
        left -= length;
    }
    Ok(())
}

fn drain(stream: &mut TcpStream) -> std::io::Result<u64> {
    let (mut piece, mut received) = (vec![0; PIECE], 0);
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(received),
            length => received += length as u64,
        }
    }
}

/// socat from a port of this machine to a server, directly or by a second one behind a Unix socket.
struct Socat {
    address: SocketAddr,
    _children: Vec<Child>,
}

impl Socat {
    /// `None` if it is not installed.
    async fn start(
        server: SocketAddr,
        between: Option<&Path>,
        works: impl Fn(SocketAddr) -> Result<f64> + Copy + Send + 'static,
    ) -> Result<Option<Self>> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        // With its default of 5, a burst of connections waits for the kernel to send again.
        let listen =
            format!("TCP-LISTEN:{},bind=127.0.0.1,reuseaddr,fork,backlog=4096", port.port());
        let connect = format!("TCP:{server}");
        let hops = match between {
            None => vec![(listen, connect)],
            Some(folder) => {
                let socket = folder.join(format!("socat-{}", port.port())).display().to_string();
                vec![
                    (format!("UNIX-LISTEN:{socket},fork"), connect),
                    (listen, format!("UNIX-CONNECT:{socket}")),
                ]
            }
        };
        let mut children = Vec::new();
        for (from, to) in hops {
            match Command::new("socat").args(["-b", "65536", &from, &to]).spawn().await {
                Ok(child) => children.push(child),
                Err(jumpstarter_supervise::SuperviseError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(Error::internal("starting socat").with_source(error)),
            }
        }
        // It does not say when it listens, so a small transfer is tried until it works.
        let works = async {
            loop {
                let tried = tokio::task::spawn_blocking(move || works(port)).await;
                if matches!(tried, Ok(Ok(_))) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = timeout(START, works).await;
        waited.map_err(|_| Error::deadline_exceeded("socat does not pass anything on"))?;
        Ok(Some(Self { address: port, _children: children }))
    }
}
