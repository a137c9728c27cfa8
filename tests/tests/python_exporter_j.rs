//! Our `j` on the exporter in Python: the verbs of every driver that it has.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use insta::assert_snapshot;
use jumpstarter_driver_testkit::{eventually, eventually_some, image, pico};
use jumpstarter_supervise::{Child, Command, Input, Output, Sink, StopPlan, run_unchecked};
use jumpstarter_tests::python_exporter::{PythonExporter, emulating_qemu, python_environment};
use tempfile::TempDir;

const CONFIG: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: python}
export:
  power: {type: jumpstarter_driver_power.driver.MockPower, description: the switch}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
  serial: {type: jumpstarter_driver_pyserial.driver.PySerial, config: {url: 'loop://'}}
  flasher: {type: jumpstarter_driver_opendal.driver.MockFlasher}
  mux: {type: jumpstarter_driver_opendal.driver.MockStorageMux}
  web: {type: jumpstarter_driver_network.driver.TcpNetwork, config: {host: 127.0.0.1, port: 8080}}
  rack: {children: {power: {type: jumpstarter_driver_power.driver.MockPower}}}
  alias: {ref: rack.power}
  qemu: {type: jumpstarter_driver_qemu.driver.Qemu, config: {arch: x86_64, mem: 64M}}
";
/// For one command, on a busy host.
const DEADLINE: Duration = Duration::from_secs(60);

/// An exporter in Python, and our `j` for it.
struct Lab {
    exporter: PythonExporter,
    j: PathBuf,
    folder: TempDir,
}

impl Lab {
    /// None, after a skip, where there is no such exporter.
    async fn start() -> Option<Self> {
        Self::of(CONFIG).await
    }

    async fn of(config: &str) -> Option<Self> {
        let environment = python_environment()?;
        // The task that makes the environment builds our commands, too.
        let j = PathBuf::from(std::env::var_os("JMP").unwrap()).with_file_name("j");
        let folder = tempfile::tempdir().unwrap();
        let programs = emulating_qemu(folder.path()).unwrap();
        let exporter =
            PythonExporter::start_with_programs(&environment, config, &programs).await.unwrap();
        Some(Self { exporter, j, folder })
    }

    fn command(&self, words: &[&str]) -> Command {
        Command::new(&self.j)
            .args(words)
            .current_dir(self.folder.path())
            .env("JUMPSTARTER_HOST", self.exporter.host_port())
            .env("JMP_GRPC_INSECURE", "1")
            .env_remove("JMP_EXPORTER_CONFIG")
            .env_remove("JMP_GRPC_PASSPHRASE")
    }

    async fn run(&self, words: &[&str]) -> Output {
        run_unchecked(self.command(words), DEADLINE).await.unwrap()
    }

    /// What a command that succeeds prints.
    async fn j(&self, words: &[&str]) -> String {
        let output = self.run(words).await;
        let said = format!("{}\n{}\n{}", output.stdout_text(), output.stderr, self.exporter.log());
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        output.stdout_text()
    }

    fn start_j(&self, words: &[&str]) -> Command {
        self.command(words).stdout(Sink::Tail(64 * 1024)).stderr(Sink::Tail(64 * 1024))
    }

    async fn stop(self) {
        self.exporter.stop().await.unwrap();
    }
}

/// Waits for a line on the command's standard output.
async fn first_line(child: &Child) -> String {
    let line = || Some(child.stdout_tail().split_once('\n')?.0.to_owned());
    eventually_some("a line", async || line()).await
}

const SCRIPTS: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: python}
export:
  sh:
    type: jumpstarter_driver_shell.driver.Shell
    config:
      methods:
        greet: {command: 'echo \"hello $1 $MOOD\"', description: Greets somebody}
        fail: 'echo oh >&2; exit 42'
";

#[tokio::test]
async fn python_exporter_and_j_scripts() {
    let Some(lab) = Lab::of(SCRIPTS).await else { return };
    let help = lab.j(&["sh", "--help"]).await;
    assert!(help.contains("greet  Greets somebody") && help.contains("fail   Runs"), "{help}");
    assert_eq!(lab.j(&["sh", "greet", "-e", "MOOD=too", "you"]).await, "hello you too\n");
    let failed = lab.run(&["sh", "fail"]).await;
    assert_eq!((failed.status.code(), &*failed.stderr), (Some(42), "oh\n"));
    lab.stop().await;
}

#[tokio::test]
async fn python_exporter_and_j_tree_power_and_calls() {
    let Some(lab) = Lab::start().await else { return };
    assert_snapshot!(lab.j(&["tree"]).await, @r"
    power       power                                       the switch
    echo        network
    serial      serial
    flasher     flasher
    mux         storage_mux
    web         network               tcp://127.0.0.1:8080
    rack
    └─ power    power
    alias       → rack.power
    qemu        qemu
    ├─ power    power
    ├─ flasher  flasher, oci_flasher
    ├─ console  serial
    └─ vnc      network
    ");
    assert_eq!(lab.j(&["power", "on"]).await, "");
    assert_eq!(lab.j(&["alias", "cycle", "--wait", "0"]).await, "");
    assert_eq!(lab.j(&["rack", "power", "off"]).await, "");
    let reading = "voltage=0.0 V  current=0.0 A  apparent_power=0.0 VA\n";
    assert!(lab.j(&["power", "read"]).await.starts_with(reading));
    assert_snapshot!(lab.j(&["stream", "power", "read"]).await, @r"
    current: 0.0
    voltage: 0.0
    current: 2.0
    voltage: 5.0
    ");
    assert_eq!(lab.j(&["call", "qemu", "get_hostname"]).await, "demo\n");
    let output = lab.run(&["call", "power", "explode"]).await;
    assert_snapshot!(format!("{}\n{:?}", output.stderr, output.status.code()), @r"
    error: method explode not found on driver

    Some(1)
    ");
    lab.stop().await;
}

#[tokio::test]
async fn python_exporter_and_j_flash_and_dump() {
    let Some(lab) = Lab::start().await else { return };
    let file = |name: &str| lab.folder.path().join(name);
    std::fs::write(file("image"), b"firmware".repeat(100_000)).unwrap();
    lab.j(&["flasher", "flash", "image"]).await;
    lab.j(&["flasher", "dump", "back"]).await;
    assert!(std::fs::read(file("back")).unwrap() == std::fs::read(file("image")).unwrap());
    for (tool, compression) in [("gzip", "gzip"), ("xz", "xz"), ("bzip2", "bz2"), ("zstd", "zstd")]
    {
        std::fs::write(file("packed"), image::new_compressed(tool).unwrap()).unwrap();
        lab.j(&["flasher", "flash", "--target", "boot:packed", "--compression", compression]).await;
        lab.j(&["flasher", "dump", "--target", "boot", "back"]).await;
        assert!(std::fs::read(file("back")).unwrap() == image::new(), "{compression}");
        // What was dumped compressed is whole: flashed, it is the image again.
        lab.j(&["flasher", "dump", "--compression", compression, "packed"]).await;
        lab.j(&["flasher", "flash", "--target", "boot:packed", "--compression", compression]).await;
        lab.j(&["flasher", "dump", "--target", "boot", "back"]).await;
        assert!(
            std::fs::read(file("back")).unwrap() == std::fs::read(file("image")).unwrap(),
            "{compression}"
        );
    }
    lab.j(&["mux", "host"]).await;
    lab.j(&["mux", "dut"]).await;
    lab.j(&["mux", "off"]).await;
    lab.stop().await;
}

#[tokio::test]
async fn python_exporter_and_j_networks_and_serial() {
    let Some(lab) = Lab::start().await else { return };
    assert_eq!(lab.j(&["web", "address"]).await, "127.0.0.1:8080\n");
    let forward = lab.start_j(&["echo", "forward-tcp"]).spawn().await.unwrap();
    let address = first_line(&forward).await;
    let address = address.rsplit(' ').next().unwrap().to_owned();
    let talk = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    };
    tokio::time::timeout(DEADLINE, talk).await.unwrap();
    let plan = StopPlan::new().signal(jumpstarter_supervise::Signal::INT, DEADLINE);
    forward.stop(plan).await.unwrap();
    assert_eq!(forward.try_status().unwrap().code(), Some(0), "{}", forward.stderr_tail());

    let piped = lab
        .start_j(&["serial", "pipe"])
        .stdin(Input::Bytes(b"hello\n".to_vec()))
        .spawn()
        .await
        .unwrap();
    assert_eq!(first_line(&piped).await, "hello");
    let plan = StopPlan::new().signal(jumpstarter_supervise::Signal::INT, DEADLINE);
    piped.stop(plan).await.unwrap();
    lab.stop().await;
}

#[tokio::test]
async fn python_exporter_and_j_a_machine() {
    let Some(lab) = Lab::start().await else { return };
    pico::write_to(lab.folder.path().join("pico.img")).unwrap();
    lab.j(&["qemu", "resize", "memory", "96M"]).await;
    lab.j(&["qemu", "flasher", "flash", "pico.img"]).await;
    lab.j(&["qemu", "power", "on"]).await;
    let console = lab
        .start_j(&["qemu", "console", "pipe"])
        .stdin(Input::Bytes(b"\n".to_vec()))
        .spawn()
        .await
        .unwrap();
    eventually("a login", || console.stdout_tail().contains("login: ")).await;
    console.kill();
    lab.j(&["qemu", "power", "off"]).await;
    lab.stop().await;
}
