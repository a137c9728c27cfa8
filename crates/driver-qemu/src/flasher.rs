//! The child `flasher`: writes the machine's images and reads them back.

use jumpstarter_driver_core::prelude::*;
use tokio::time::timeout;

use crate::storage::Partition;
use crate::vm::Vm;

/// Flashes partitions `root` (the default), `bios`, `OVMF_CODE.fd` and `OVMF_VARS.fd`; refused while the machine
/// runs. `dump` gives the root disk as the guest sees it, in raw bytes.
#[derive(Debug)]
pub(crate) struct QemuFlasher(pub(crate) Vm);

impl Driver for QemuFlasher {
    fn interfaces(&self) -> Interfaces<'_> {
        Interfaces::new().flasher(self)
    }

    fn client(&self) -> Option<&str> {
        Some("jumpstarter_driver_qemu.client.QemuFlasherClient")
    }
}

#[async_trait]
impl Flasher for QemuFlasher {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        let vm = &self.0;
        let partition = Partition::find(target.as_deref())?;
        let _turn = vm.0.turn.lock().await;
        vm.refuse_while_running("flashing")?;
        let within = vm.config().flash_timeout;
        let name = source.name();
        match timeout(within.as_duration(), vm.0.storage.flash(source, partition)).await {
            Ok(flashed) => flashed.with_context(|| format!("flashing {name} to machine `{}`", vm.name())),
            Err(_) => Err(Error::deadline_exceeded(format!("flashing {name} took longer than {within}"))
                .with_hint("raise `flash_timeout`")),
        }
    }

    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()> {
        let vm = &self.0;
        let partition = Partition::find(partition.as_deref())?;
        let _turn = vm.0.turn.lock().await;
        vm.refuse_while_running("dumping")?;
        let config = vm.config();
        let within = config.flash_timeout;
        match timeout(within.as_duration(), vm.0.storage.dump(target, partition, &config)).await {
            Ok(dumped) => dumped.with_context(|| format!("dumping from machine `{}`", vm.name())),
            Err(_) => Err(Error::deadline_exceeded(format!("dumping took longer than {within}"))
                .with_hint("raise `flash_timeout`")),
        }
    }
}
