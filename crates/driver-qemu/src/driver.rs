//! The driver `qemu`: a composite of the machine and the children that reach its parts.

use std::sync::Arc;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ConfigProblem, Gauge, PROTOCOL_LABEL};
use jumpstarter_driver_network::{TcpNetwork, UdpNetwork, UnixNetwork, VsockNetwork};

use crate::config::{MemorySize, Protocol, QemuConfig};
use crate::flasher::QemuFlasher;
use crate::interface::{Machine, OciFlasher, QemuSettings};
use crate::lock::lock;
use crate::ports::ForwardedPort;
use crate::power::QemuPower;
use crate::serial::QemuConsole;
use crate::state::{MachineEvent, MachineState, Phase, StopOutcome};
use crate::storage::compressed_defaults;
use crate::vm::Vm;

/// The port of the guest's SSH server over vsock.
const SSH_PORT: u32 = 22;
/// QEMU listened before it answered: another program has removed its socket since.
const SCREEN_REMEDY: &str =
    "power the machine off and on: that makes its socket again, if somebody removed it";

/// The label with the guest's port, on networks that lead to one: their address has the host's.
pub const GUEST_PORT: &str = "guest-port";

/// A QEMU machine as a driver, with its children.
#[derive(Debug)]
pub struct Qemu {
    vm: Vm,
    children: Vec<Child>,
}

impl Qemu {
    /// Makes the driver of a machine. The driver's `close` is [`Vm::close`].
    pub fn new(vm: Vm) -> Self {
        let mut children = vec![
            Child::new("power", Arc::new(QemuPower::new(vm.clone())))
                .describe("the machine's plug"),
            Child::new("flasher", Arc::new(QemuFlasher(vm.clone())))
                .describe("the machine's images"),
            Child::new("console", Arc::new(QemuConsole(vm.clone())))
                .describe("the machine's serial console"),
            Child::new("vnc", Arc::new(Endpoint::screen(&vm)))
                .describe("the machine's screen, VNC over a Unix socket"),
        ];
        let forwards_ssh = vm.forwards().iter().any(|forward| forward.name == QemuConfig::SSH);
        if let (Some(cid), false) = (vm.0.vsock_cid, forwards_ssh) {
            children.push(
                Child::new(
                    QemuConfig::SSH,
                    Arc::new(Endpoint::new(&vm, VsockNetwork::new(cid, SSH_PORT))),
                )
                .describe("SSH over vsock"),
            );
        }
        for forward in vm.forwards() {
            let ForwardedPort { name, protocol, address, guest_port, .. } = forward;
            let description = match protocol {
                Protocol::Tcp => format!("{address} to the guest's port {guest_port}"),
                Protocol::Udp => format!("{address} to the guest's UDP port {guest_port}"),
            };
            let network: Arc<dyn Driver> = match protocol {
                Protocol::Tcp => {
                    let network = TcpNetwork::from_address(*address);
                    Arc::new(Endpoint::to_port(&vm, network, *guest_port))
                }
                Protocol::Udp => {
                    let network = UdpNetwork::from_address(*address);
                    Arc::new(Endpoint::to_port(&vm, network, *guest_port))
                }
            };
            children.push(Child::new(name, network).describe(description));
        }
        Self { vm, children }
    }

    /// The machine that it drives, for uses beyond the interfaces.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }
}

#[async_trait]
impl DriverConfig for QemuConfig {
    const NAME: &'static str = QemuConfig::NAME;
    const PYTHON_NAMES: &'static [&'static str] = QemuConfig::PYTHON_NAMES;
    const SYNONYMS: &'static [(&'static str, &'static str)] = QemuConfig::SYNONYMS;
    type Driver = Qemu;

    fn check(&self) -> Vec<ConfigProblem> {
        self.problems().into_iter().chain(compressed_defaults(self)).collect()
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        QemuConfig::warnings(self)
    }

    fn children(&self) -> Option<Vec<PlannedChild>> {
        let over_vsock = self.hostfwd.iter().all(|(name, _)| name != QemuConfig::SSH);
        let ssh = over_vsock.then_some(&QemuConfig::SSH);
        let own = QemuConfig::OWN_CHILDREN.iter().chain(ssh).map(|name| match *name {
            "power" => PlannedChild::new("power").with::<dyn Power>(),
            "flasher" => {
                PlannedChild::new("flasher").with::<dyn Flasher>().with::<dyn OciFlasher>()
            }
            "console" => PlannedChild::new("console").with::<dyn Serial>(),
            endpoint => PlannedChild::new(endpoint).with::<dyn Network>(),
        });
        let forwards =
            self.hostfwd.iter().map(|(name, _)| PlannedChild::new(name).with::<dyn Network>());
        Some(own.chain(forwards).collect())
    }

    async fn open(self, context: OpenContext) -> Result<Qemu> {
        Vm::create(context.path, self).await.map(Qemu::new)
    }
}

register_driver!(QemuConfig);

#[async_trait]
impl Driver for Qemu {
    interfaces!(Machine, QemuSettings);

    fn children(&self) -> Vec<Child> {
        self.children.clone()
    }

    fn gauges(&self) -> Vec<Gauge> {
        let now = self.vm.0.status.get().phase();
        let one = |phase: Phase| {
            let value = if phase == now { 1.0 } else { 0.0 };
            Gauge::new(
                "machine_state",
                "What a machine is doing: 1 for its state, 0 for the others.",
                value,
            )
            .label("state", phase.to_string())
        };
        Phase::ALL.map(one).to_vec()
    }

    fn reaches_host(&self) -> bool {
        !self.vm.config().restrict
    }

    async fn reset(&self) -> Result<()> {
        self.vm.cut().await?;
        // The output of the last user's guest is not shown to the next user.
        self.vm.0.console.settle().await;
        self.vm.0.console.forget();
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.vm.close().await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Machine for Qemu {
    async fn state(&self) -> Result<MachineState> {
        self.vm.state().await
    }
    async fn start(&self) -> Result<()> {
        self.vm.start().await
    }
    async fn stop(&self) -> Result<StopOutcome> {
        self.vm.stop().await
    }
    async fn pause(&self) -> Result<()> {
        self.vm.pause().await
    }
    async fn resume(&self) -> Result<()> {
        self.vm.resume().await
    }
    async fn reset(&self) -> Result<()> {
        self.vm.reset().await
    }
    async fn power_button(&self) -> Result<()> {
        self.vm.power_button().await
    }
    async fn destroy(&self) -> Result<()> {
        self.vm.destroy().await
    }
    async fn wait_for(&self, state: Phase, timeout: Option<Span>) -> Result<MachineState> {
        self.vm.wait_for(state, timeout).await
    }
    async fn events(&self) -> Result<ValueStream<MachineEvent>> {
        self.vm.events().await
    }
}

#[async_trait]
impl QemuSettings for Qemu {
    async fn get_hostname(&self) -> Result<String> {
        Ok(self.vm.config().hostname)
    }
    async fn get_username(&self) -> Result<String> {
        Ok(self.vm.config().username)
    }
    async fn get_password(&self) -> Result<String> {
        Ok(self.vm.config().password.expose().to_owned())
    }
    async fn set_disk_size(&self, size: ByteSize) -> Result<()> {
        self.change(|config| config.disk_size = Some(size))
    }
    async fn set_memory_size(&self, size: MemorySize) -> Result<()> {
        self.change(|config| config.mem = size.0)
    }
}

impl Qemu {
    /// Changes the configuration for the next power-on, if the result is valid.
    fn change(&self, change: impl FnOnce(&mut QemuConfig)) -> Result<()> {
        let mut config = lock(&self.vm.0.config);
        let mut changed = config.clone();
        change(&mut changed);
        match changed.problems().into_iter().next() {
            Some(problem) => {
                Err(Error::invalid_argument(format!("{}: {}", problem.field, problem.message)))
            }
            None => {
                *config = changed;
                Ok(())
            }
        }
    }
}

/// A network endpoint that exists only while the machine runs.
#[derive(Debug)]
struct Endpoint<N> {
    vm: Vm,
    network: N,
    /// The hint if it is missing although the machine runs.
    remedy: Option<&'static str>,
    label: Option<(&'static str, String)>,
}

impl<N> Endpoint<N> {
    fn new(vm: &Vm, network: N) -> Self {
        Self { vm: vm.clone(), network, remedy: None, label: None }
    }

    /// An endpoint that leads to a port of the guest.
    fn to_port(vm: &Vm, network: N, port: u16) -> Self {
        Self { label: Some((GUEST_PORT, port.to_string())), ..Self::new(vm, network) }
    }
}

impl Endpoint<UnixNetwork> {
    fn screen(vm: &Vm) -> Self {
        let label = Some((PROTOCOL_LABEL, "vnc".to_owned()));
        Self {
            remedy: Some(SCREEN_REMEDY),
            label,
            ..Self::new(vm, UnixNetwork::new(vm.vnc_path()))
        }
    }
}

impl<N: Network + 'static> Driver for Endpoint<N> {
    interfaces!(Network);

    fn labels(&self) -> Vec<(String, String)> {
        let label = self.label.iter();
        label.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }
}

#[async_trait]
impl<N: Network + 'static> Network for Endpoint<N> {
    async fn connect(&self) -> Result<Channel> {
        self.vm.require_up("connect to")?;
        self.network.connect().await.map_err(|error| match (error.kind(), self.remedy) {
            (kind @ ErrorKind::Unavailable, Some(remedy)) => {
                Error::new(kind, format!("{error:#}")).with_hint(remedy)
            }
            _ => error,
        })
    }
    async fn address(&self) -> Result<String> {
        self.network.address().await
    }
}
