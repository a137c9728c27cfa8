//! Parts in which a leased device is used.

use std::path::PathBuf;
use std::time::Instant;

use jumpstarter_driver_core::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::station::{SELECTOR, Station};
use super::{LIMIT, Peer, promise, until};

const IMAGE: usize = 256 << 20;

/// The exit code of a shell is its command's.
const CALLS: &str = "\
j power on && j power off && j power on || exit 1
j power nonsense && exit 2
j nonsense on && exit 3
exit 7";

pub(super) async fn calls(station: &Station<'_>) -> Result<String> {
    station.script(CALLS, 7).await?;
    let log = station.log();
    promise(log.contains("power on") && log.contains("power off"), || "no call came".to_owned())?;
    Ok("3 calls, 2 refused words, exit code 7".to_owned())
}

pub(super) async fn streams(station: &Station<'_>) -> Result<String> {
    let script = match station.pair().client {
        Peer::Ours => "streams",
        Peer::Python => {
            std::fs::write(station.path("streams.py"), include_str!("streams.py"))?;
            "python \"$1/streams.py\""
        }
    };
    station.script(script, 0).await?;
    Ok("4 MiB through 4 streams, and 2 readings".to_owned())
}

/// What the console is sent comes back from it, and `pipe` ends by a signal.
const CONSOLE: &str = "\
j console pipe -i -o \"$1/console\" <\"$1/typed\" & pipe=$!
for second in $(seq 60); do
    grep -q 'line 199$' \"$1/console\" 2>/dev/null && break
    sleep 1
done
kill $pipe 2>/dev/null
wait $pipe
exit 0";

pub(super) async fn console(station: &Station<'_>) -> Result<String> {
    let typed: String = (0..200).map(|number| format!("line {number}\n")).collect();
    std::fs::write(station.path("typed"), &typed)?;
    station.script(CONSOLE, 0).await?;
    let back = std::fs::read_to_string(station.path("console"))?;
    promise(back == typed, || format!("the console sent back {back:?}"))?;
    Ok("200 lines there and back".to_owned())
}

pub(super) async fn flash(station: &Station<'_>) -> Result<String> {
    let (image, back) = (station.path("image"), station.path("back"));
    let mut random = fastrand::Rng::with_seed(12);
    let mut bytes = vec![0; IMAGE];
    random.fill(&mut bytes);
    std::fs::write(&image, &bytes)?;
    drop(bytes);
    let began = Instant::now();
    let script = "cd \"$1\" && j flasher flash image && j flasher dump back && cmp image back";
    station.script(script, 0).await?;
    let took = began.elapsed().as_secs_f64();
    std::fs::remove_file(image)?;
    std::fs::remove_file(back)?;
    Ok(format!("256 MiB there and back in {took:.1} s"))
}

/// Forwards until its input ends. The forwards in Python heed no other signal.
const FORWARDS: &str = "\
j echo forward-tcp 0 >\"$1/tcp\" & tcp=$!
j echo forward-unix \"$1/socket\" >/dev/null & unix=$!
read line
kill -KILL $tcp $unix
wait $tcp $unix
exit 0";

pub(super) async fn forwards(station: &Station<'_>) -> Result<String> {
    let options = ["-l", SELECTOR, "--duration", "1200"];
    let mut shell = station.start_shell("c1", &options, FORWARDS).await?;
    let port = station.path("tcp");
    let address = || -> Option<String> {
        let said = std::fs::read_to_string(&port).ok()?;
        let (line, _) = said.split_once('\n')?;
        Some(line.split_whitespace().last()?.to_owned())
    };
    until("a local port", || address().is_some() || !shell.child.is_running()).await?;
    let address = address().ok_or_else(|| Error::internal(shell.errors()))?;
    let socket: PathBuf = station.path("socket");
    // It is there before it listens.
    let listens = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
    until("a local socket", || listens() || !shell.child.is_running()).await?;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (address, socket) = (address.clone(), socket.clone());
        running.spawn(async move {
            match number % 2 {
                0 => there_and_back(TcpStream::connect(address).await?).await,
                _ => there_and_back(UnixStream::connect(socket).await?).await,
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        let ended = ended.map_err(|error| Error::internal("a connection").with_source(error))?;
        ended.with_context(|| shell.errors())?;
    }
    let code = shell.end().await?;
    promise(code == Some(0), || format!("the shell ended with {code:?}: {}", shell.errors()))?;
    station.is_free().await?;
    Ok("8 connections at the same time, by TCP and by a Unix socket".to_owned())
}

/// Sends a mebibyte, and receives it.
async fn there_and_back(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..1_u32 << 20).map(|number| (number % 253) as u8).collect();
    let mut received = vec![0; sent.len()];
    let both =
        async { tokio::try_join!(writer.write_all(&sent), reader.read_exact(&mut received)) };
    let late = |_| Error::deadline_exceeded("a connection through the forward");
    tokio::time::timeout(LIMIT, both).await.map_err(late)??;
    promise(received == sent, || "a connection differs".to_owned())
}
