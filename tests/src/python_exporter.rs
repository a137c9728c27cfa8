//! The real exporter in Python, for tests that drive it: a process of the virtual environment that
//! `cargo xtask interop` makes.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Child, Command, Signal, Sink, StopPlan, SuperviseError};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Where the environment is: its folder, with `bin/jmp` in it.
pub const VARIABLE: &str = "JUMPSTARTER_PYTHON_ENVIRONMENT";
/// From the start until clients can connect.
const START: Duration = Duration::from_secs(60);
/// From SIGTERM until SIGKILL: the exporter may have to end a machine meanwhile.
const GRACE: Duration = Duration::from_secs(10);
/// Nothing announces that a port accepts, so it is tried so often.
const PAUSE: Duration = Duration::from_millis(10);
/// Says where the exporter is, in between its log, and waits for its end.
const TELL_HOST: &str = r#"printf 'host=%s\n' "$JUMPSTARTER_HOST" && exec sleep 1000000"#;

/// The virtual environment's folder; `None`, after a [`skip`], where there is none: the test
/// returns.
pub fn python_environment() -> Option<PathBuf> {
    let folder = std::env::var_os(VARIABLE).map(PathBuf::from);
    if folder.is_none() {
        skip(&format!("{VARIABLE} is not set: run `cargo xtask interop`"));
    }
    folder
}

/// A running exporter in Python, on a TCP port of this machine, without TLS, or on a Unix socket.
///
/// Dropping it kills it with everything that it started; [`stop`](Self::stop) lets it end in order.
pub struct PythonExporter {
    child: Child,
    address: String,
    /// Bound to the port too, though it does not listen: nobody else is given the port.
    _port: Option<Socket>,
    _folder: TempDir,
}

impl PythonExporter {
    /// Starts the exporter of an exporter file's text, and returns once it accepts connections.
    /// `environment` is that of [`python_environment`]. Cancelling leaves no process.
    ///
    /// # Errors
    /// `Unavailable`, with its log, when it ends instead; `DeadlineExceeded` after a minute; those
    /// of the system.
    pub async fn start(environment: &Path, config: &str) -> Result<Self> {
        Self::start_with(environment, config, None, None).await
    }

    /// Starts the exporter of a file that names a controller, and returns at once: the controller
    /// shows when it has joined. It has no address.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn join(environment: &Path, config: &str) -> Result<Self> {
        let (folder, command) = prepare(environment, config, None)?;
        let child = command("run").spawn().await.map_err(starting)?;
        Ok(Self { child, address: String::new(), _port: None, _folder: folder })
    }

    /// As [`start`](Self::start), with programs of the folder `programs` in front of those of the
    /// system.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with_programs(
        environment: &Path,
        config: &str,
        programs: &Path,
    ) -> Result<Self> {
        Self::start_with(environment, config, None, Some(programs)).await
    }

    /// As [`start`](Self::start), for clients that say `passphrase`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_guarded(environment: &Path, config: &str, passphrase: &str) -> Result<Self> {
        Self::start_with(environment, config, Some(passphrase), None).await
    }

    /// Starts it on a Unix socket, as its `jmp shell` serves one: with a command in it that does
    /// nothing.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_on_socket(environment: &Path, config: &str) -> Result<Self> {
        let (folder, command) = prepare(environment, config, None)?;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let each = move |line: &str| {
            if let Some(host) = line.strip_prefix("host=") {
                // Nobody waits for it any more when it comes too late.
                drop(tell.send(host.to_owned()));
            }
        };
        let command =
            command("shell").args(["--", "sh", "-c", TELL_HOST]).stdout(Sink::lines(each));
        let child = command.spawn().await.map_err(starting)?;
        let address = timeout(START, told.recv()).await.ok().flatten().ok_or_else(|| {
            let said = child.stdout_tail() + &child.stderr_tail();
            Error::unavailable(format!("it does not say where it listens\n{said}"))
        })?;
        Ok(Self { child, address, _port: None, _folder: folder })
    }

    async fn start_with(
        environment: &Path,
        config: &str,
        passphrase: Option<&str>,
        programs: Option<&Path>,
    ) -> Result<Self> {
        let (folder, command) = prepare(environment, config, programs)?;
        let (port, address) = reserve()?;
        let listener = ["--tls-grpc-listener", &address.to_string(), "--tls-grpc-insecure"];
        let mut command = command("run").args(listener);
        if let Some(passphrase) = passphrase {
            command = command.args(["--passphrase", passphrase]);
        }
        let child = command.spawn().await.map_err(starting)?;
        let exporter =
            Self { child, address: address.to_string(), _port: Some(port), _folder: folder };
        exporter.accepts(address).await?;
        Ok(exporter)
    }

    /// Where clients connect: `127.0.0.1:PORT`, or the path of its socket.
    pub fn host_port(&self) -> String {
        self.address.clone()
    }

    /// The process id of its command, which may have children.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The end of what it said, for the messages of tests.
    pub fn log(&self) -> String {
        self.child.stdout_tail() + &self.child.stderr_tail()
    }

    /// Ends it with SIGTERM, after a while with SIGKILL, and returns when nothing that it started
    /// is left. Cancelling changes nothing.
    ///
    /// # Errors
    /// `Internal` when something is left.
    pub async fn stop(self) -> Result<()> {
        let plan = StopPlan::new().signal(Signal::TERM, GRACE);
        let left = |error| Error::internal("ending the exporter in Python").with_source(error);
        self.child.stop(plan).await.map_err(left).map(drop)
    }

    async fn accepts(&self, address: SocketAddr) -> Result<()> {
        let until = Instant::now() + START;
        while !matches!(timeout(START, TcpStream::connect(address)).await, Ok(Ok(_))) {
            if let Some(status) = self.child.try_status() {
                return Err(Error::unavailable(format!("it ended: {status}\n{}", self.log())));
            }
            if Instant::now() > until {
                let message = format!("it accepts no connection after {START:?}\n{}", self.log());
                return Err(Error::deadline_exceeded(message));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// A folder below `folder` with a QEMU that emulates, for
/// [`start_with_programs`](PythonExporter::start_with_programs): the driver in Python takes a
/// `/dev/kvm` that opens for one that works.
///
/// # Errors
/// Those of the file system.
pub fn emulating_qemu(folder: &std::path::Path) -> Result<PathBuf> {
    let programs = folder.join("programs");
    std::fs::create_dir(&programs)?;
    let program = programs.join("qemu-system-x86_64");
    let script = "#!/bin/sh
PATH=${PATH#*:}
count=$#
while [ $count -gt 0 ]; do
    case $1 in
        kvm) word=tcg ;;
        host) word=max ;;
        *) word=$1 ;;
    esac
    shift
    set -- \"$@\" \"$word\"
    count=$((count - 1))
done
exec qemu-system-x86_64 \"$@\"
";
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(programs)
}

impl fmt::Debug for PythonExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonExporter").field("address", &self.address).finish_non_exhaustive()
    }
}

fn starting(error: SuperviseError) -> Error {
    Error::internal("starting the exporter in Python").with_source(error)
}

/// Writes the file of a configuration into a separate folder, and prepares the environment's `jmp`
/// with a subcommand for it.
fn prepare(
    environment: &Path,
    config: &str,
    programs: Option<&Path>,
) -> Result<(TempDir, impl FnOnce(&str) -> Command)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("exporter.yaml");
    std::fs::write(&file, config)?;
    let bin = environment.join("bin");
    // Hooks find `j` of the same environment.
    let mut path = programs.map(|folder| folder.as_os_str().to_owned()).unwrap_or_default();
    if programs.is_some() {
        path.push(":");
    }
    path.push(&bin);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let command = move |subcommand: &str| {
        Command::new(bin.join("jmp"))
            .args([subcommand, "--exporter-config"])
            .arg(file)
            .env("PATH", path)
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Sink::Tail(64 * 1024))
            .stderr(Sink::Tail(64 * 1024))
    };
    Ok((folder, command))
}

/// A free port, and the socket that keeps it. gRPC binds with SO_REUSEPORT, so it may bind to it
/// all the same.
fn reserve() -> Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    let address = address.ok_or_else(|| Error::internal("the socket has no address"))?;
    Ok((socket, address))
}
