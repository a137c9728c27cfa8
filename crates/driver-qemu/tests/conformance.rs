//! The machine, its plug, its flasher and its console do what every driver of their kind must do.

use std::sync::Arc;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{Machine, Qemu, QemuConfig, QemuSettings};
use jumpstarter_driver_testkit::conformance;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};

/// Defines a driver that is one child of a machine, so that the suite can run on it.
macro_rules! part {
    ($config:ident, $part:ident, $name:literal, $child:literal, $interface:ident) => {
        #[derive(Deserialize, JsonSchema)]
        struct $config(QemuConfig);

        struct $part {
            qemu: Qemu,
            child: Arc<dyn $interface>,
        }

        #[async_trait]
        impl DriverConfig for $config {
            const NAME: &'static str = $name;
            type Driver = $part;

            async fn open(self, context: OpenContext) -> Result<$part> {
                let qemu = DriverConfig::open(self.0, context).await?;
                let child = qemu.children().into_iter().find(|child| child.name == $child);
                let child =
                    child.ok_or_else(|| Error::internal("the machine lacks a child"))?.driver;
                let child = Device::of_shared_driver(child).get::<dyn $interface>("")?;
                Ok($part { qemu, child })
            }
        }
        register_driver!($config);

        #[async_trait]
        impl Driver for $part {
            interfaces!($interface);
            async fn reset(&self) -> Result<()> {
                Driver::reset(&self.qemu).await
            }
            async fn close(&self) -> Result<()> {
                self.qemu.close().await
            }
        }
    };
}

part!(PowerConfig, PowerPart, "test-qemu-power", "power", Power);
part!(FlasherConfig, FlasherPart, "test-qemu-flasher", "flasher", Flasher);
part!(ConsoleConfig, ConsolePart, "test-qemu-console", "console", Serial);

#[async_trait]
impl Power for PowerPart {
    async fn on(&self) -> Result<()> {
        self.child.on().await
    }
    async fn off(&self) -> Result<()> {
        self.child.off().await
    }
    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        self.child.read().await
    }
}

#[async_trait]
impl Flasher for FlasherPart {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        self.child.flash(source, target).await
    }
    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()> {
        self.child.dump(target, partition).await
    }
    async fn targets(&self) -> Result<FlashTargets> {
        self.child.targets().await
    }
}

#[async_trait]
impl Serial for ConsolePart {
    async fn connect(&self) -> Result<Channel> {
        self.child.connect().await
    }
    async fn set_dtr(&self, level: bool) -> Result<()> {
        self.child.set_dtr(level).await
    }
    async fn set_rts(&self, level: bool) -> Result<()> {
        self.child.set_rts(level).await
    }
    async fn close(&self) -> Result<()> {
        self.child.close().await
    }
}

conformance!(
    mod whole, QemuConfig, { "arch": "x86_64", "accel": "tcg", "mem": "64M", "timeouts": { "shutdown": "1s" } },
    [custom Machine, custom QemuSettings], deadline: 120 s,
    needs: || qemu_available(Arch::X86_64)
);
conformance!(
    mod plug, PowerConfig, { "arch": "x86_64", "accel": "tcg", "mem": "64M", "timeouts": { "shutdown": "1s" } }, [power], deadline: 120 s,
    needs: || qemu_available(Arch::X86_64)
);
conformance!(
    mod images, FlasherConfig, { "arch": "x86_64", "accel": "tcg", "mem": "64M", "timeouts": { "shutdown": "1s" } }, [flasher], deadline: 120 s,
    needs: || qemu_available(Arch::X86_64)
);
conformance!(
    mod console, ConsoleConfig, { "arch": "x86_64", "accel": "tcg", "mem": "64M", "timeouts": { "shutdown": "1s" } }, [serial], deadline: 120 s,
    needs: || qemu_available(Arch::X86_64)
);
