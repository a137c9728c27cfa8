//! The steps, in their order. Dropping [`Demo::run`] at any moment leaves a device that
//! [`Demo::close`] closes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jumpstarter_config::ExporterConfig;
use jumpstarter_console::{Console, SerialExt};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{HostFacts, Machine, MachineState, Phase, QemuConfig, QemuSettings};
use jumpstarter_driver_testkit::pico;
use jumpstarter_tests::page;
use tokio::time::Instant;

use crate::guest::Guest;
use crate::report::Report;

/// How long a guest may take to answer a line that is typed.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a guest may take from its login to its first page.
const PAGE: Duration = Duration::from_secs(120);
/// Longer than any other wait.
const FOREVER: Span = Span::seconds(24 * 3600);
/// How long a paused guest has to say nothing.
const SILENCE: Duration = Duration::from_millis(500);
/// How many of the console's lines a failure shows.
const CONSOLE_LINES: usize = 15;

/// The demo and what it holds.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) report: Report,
    device: Option<Device>,
    console: Option<Console>,
}

impl Demo {
    pub(crate) fn new(report: Report) -> Self {
        Self { report, device: None, console: None }
    }

    /// All steps.
    pub(crate) async fn run(
        &mut self,
        config: &Path,
        guest: Guest,
        image: Option<&Path>,
    ) -> Result<()> {
        let config = self.check(config)?;
        let (device, facts) = self.open(&config).await?;
        let vm = device.get::<dyn Machine>("qemu")?;
        self.flash(&device, guest, image).await?;
        // Opened before the power is on, so that no word is lost.
        self.console =
            Some(device.get::<dyn Serial>("qemu.console")?.expect().await?.without_ansi());
        self.power_on(&device, &facts).await?;
        self.log_in(&device, &vm, guest).await?;
        self.fetch(&device, &vm, guest).await?;
        self.pause(&vm, guest).await?;
        self.resume(&vm, guest).await?;
        self.read(&device).await?;
        self.stop(&vm).await?;
        self.report.begin("close");
        self.close().await?;
        self.report.done("the machine, its sockets and its images are removed");
        Ok(())
    }

    /// Closes the device; idempotent.
    pub(crate) async fn close(&mut self) -> Result<()> {
        match &self.device {
            Some(device) => device.close().await,
            None => Ok(()),
        }
    }

    /// The end of what the console said.
    pub(crate) fn last_lines(&self) -> Option<String> {
        let text = self.console.as_ref()?.transcript_text();
        let lines: Vec<&str> = text.trim_end().lines().collect();
        Some(lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n"))
    }

    fn check(&mut self, path: &Path) -> Result<ExporterConfig> {
        self.report.begin("check");
        let config = ExporterConfig::load(path).map_err(|faults| {
            Error::invalid_argument(format!("the exporter file is wrong:\n{faults}"))
                .with_hint("`jmp drivers qemu` lists what a machine takes")
        })?;
        self.report.done(&format!("{}: no faults", path.display()));
        Ok(config)
    }

    async fn open(&mut self, config: &ExporterConfig) -> Result<(Device, HostFacts)> {
        self.report.begin("open");
        let device = config.open().await?;
        self.device = Some(device.clone());
        let facts = HostFacts::probe(&machine(config)?).await?;
        let names: Vec<&str> =
            device.nodes().iter().filter_map(|node| node.path().strip_prefix("qemu.")).collect();
        self.report.done(&format!("machine `qemu` with {}", names.join(", ")));
        Ok((device, facts))
    }

    async fn flash(&mut self, device: &Device, guest: Guest, image: Option<&Path>) -> Result<()> {
        self.report.begin("flash");
        let source = match (image, guest) {
            (Some(path), _) => ImageSource::path(path),
            (None, Guest::Pico) => ImageSource::bytes(pico::image()).with_name("pico.img"),
            (None, _) => {
                return Err(Error::invalid_argument("no image").with_hint("name one with --image"));
            }
        };
        let name = source.name();
        let length = match image {
            Some(path) => std::fs::metadata(path).map(|metadata| metadata.len()).ok(),
            None => source.length().await,
        };
        let source = source.with_observer(self.report.observer("flash"));
        device.get::<dyn Flasher>("qemu.flasher")?.flash(source, None).await?;
        let name = Path::new(&name)
            .file_name()
            .map_or(name.clone(), |name| name.to_string_lossy().into_owned());
        let size = length.map(|length| ByteSize::bytes(length).to_string()).unwrap_or_default();
        self.report.done(&format!("{size}  {name}"));
        Ok(())
    }

    async fn power_on(&mut self, device: &Device, facts: &HostFacts) -> Result<()> {
        self.report.begin("power on");
        device.get::<dyn Power>("power")?.on().await?;
        self.report.done(&format!(
            "QEMU {} answers; accelerator {}",
            facts.version,
            facts.accelerator.kind.name()
        ));
        Ok(())
    }

    async fn log_in(&mut self, device: &Device, vm: &Arc<dyn Machine>, guest: Guest) -> Result<()> {
        self.report.begin("log in");
        let settings = device.get::<dyn QemuSettings>("qemu")?;
        let user = settings.get_username().await?;
        let password = Secret::new(settings.get_password().await?);
        let console = console(&mut self.console)?;
        let talk = async {
            console.login(&user, Some(&password), guest.prompt(), guest.boots_within()).await?;
            ask(console, guest).await
        };
        let answer = while_up(vm, talk).await?;
        self.report.done(&format!("as `{user}`: {}", answer.trim()));
        Ok(())
    }

    async fn fetch(&mut self, device: &Device, vm: &Arc<dyn Machine>, guest: Guest) -> Result<()> {
        if !guest.serves_a_page() {
            self.report.skip("fetch", "left out: this guest is not known to serve a page");
            return Ok(());
        }
        self.report.begin("fetch");
        let host = device.get::<dyn QemuSettings>("qemu")?.get_hostname().await?;
        let web = device.get::<dyn Network>("qemu.web")?;
        // The guest asks for its address while one logs in: it may not have it yet.
        let body = while_up(vm, page::fetch(&*web, "/", PAGE)).await?;
        if !body.contains(&host) {
            return Err(Error::data_loss(format!(
                "the page does not name the host `{host}`: {body}"
            )));
        }
        let words = body.lines().last().unwrap_or_default().trim_start_matches("<p>");
        self.report.done(&format!("through {}: {words}", web.address().await?));
        Ok(())
    }

    /// Pauses, and shows that nobody answers.
    async fn pause(&mut self, vm: &Arc<dyn Machine>, guest: Guest) -> Result<()> {
        self.report.begin("pause");
        vm.pause().await?;
        expect_state(vm, Phase::Paused).await?;
        let console = console(&mut self.console)?;
        while is_heard(console).await? {}
        console.send_line(guest.question().command).await?;
        if is_heard(console).await? {
            return Err(Error::internal("the paused guest answered"));
        }
        self.report.done("paused: what is typed is not answered");
        Ok(())
    }

    /// Resumes; what was typed meanwhile is answered now.
    async fn resume(&mut self, vm: &Arc<dyn Machine>, guest: Guest) -> Result<()> {
        self.report.begin("resume");
        vm.resume().await?;
        expect_state(vm, Phase::Running).await?;
        let console = console(&mut self.console)?;
        while_up(vm, answer(console, guest)).await?;
        self.report.done("running: what was typed meanwhile is answered");
        Ok(())
    }

    async fn read(&mut self, device: &Device) -> Result<()> {
        self.report.begin("readings");
        let readings = device.get::<dyn Power>("power")?.read().await?;
        let mut shown = Vec::new();
        for reading in readings.take(2).collect::<Vec<_>>().await {
            let PowerReading { voltage, current, .. } = reading?;
            shown.push(format!("{voltage:.0} V {current:.2} A"));
        }
        self.report.done(&format!("{} (amperes: cores in use)", shown.join(", ")));
        Ok(())
    }

    async fn stop(&mut self, vm: &Arc<dyn Machine>) -> Result<()> {
        self.report.begin("stop");
        let outcome = vm.stop().await?;
        expect_state(vm, Phase::Off).await?;
        self.report.done(&outcome.to_string());
        Ok(())
    }
}

/// The configuration of the machine, as the file has it.
fn machine(config: &ExporterConfig) -> Result<QemuConfig> {
    match config.export.iter().find(|planned| planned.name() == "qemu") {
        Some(planned) => serde_json::from_value(planned.config().clone()).map_err(|error| {
            Error::internal("reading the machine's configuration again").with_source(error)
        }),
        None => Err(Error::not_found(format!("{}: no machine `qemu` in `export`", config.origin))),
    }
}

fn console(console: &mut Option<Console>) -> Result<&mut Console> {
    console.as_mut().ok_or_else(|| Error::internal("the console is not open"))
}

/// Types the guest's question and returns the answer.
async fn ask(console: &mut Console, guest: Guest) -> Result<String> {
    console.send_line(guest.question().command).await?;
    answer(console, guest).await
}

/// Waits for the answer to the guest's question, and for the next prompt.
async fn answer(console: &mut Console, guest: Guest) -> Result<String> {
    let found = console.wait_for_regex(guest.question().answer, ANSWER).await?;
    console.wait_for(guest.prompt(), ANSWER).await?;
    Ok(found.group(1).unwrap_or_default().into_owned())
}

/// Waits for what a machine does that may die meanwhile: the console outlives it.
async fn while_up<T>(vm: &Arc<dyn Machine>, wait: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        outcome = wait => outcome,
        dead = vm.wait_for(Phase::Crashed, Some(FOREVER)) => match dead {
            Ok(state) => Err(Error::unavailable(format!("the machine {state}"))),
            Err(error) => Err(error),
        },
    }
}

/// Whether the guest says anything within a moment; forgets what it said.
async fn is_heard(console: &mut Console) -> Result<bool> {
    console.forget();
    let until = Instant::now() + SILENCE;
    match console.wait_for_regex(r"(?s-u:.)", until - Instant::now()).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::DeadlineExceeded => Ok(false),
        Err(error) => Err(error),
    }
}

async fn expect_state(vm: &Arc<dyn Machine>, phase: Phase) -> Result<()> {
    let state: MachineState = vm.state().await?;
    match state.phase() == phase {
        true => Ok(()),
        false => Err(Error::internal(format!("the machine should be {phase}, and is {state}"))),
    }
}
