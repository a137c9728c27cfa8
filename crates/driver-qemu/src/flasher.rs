//! The child `flasher`: writes the machine's images and reads them back.

use jumpstarter_driver_core::prelude::*;
use tokio::time::timeout;

use crate::config::QemuConfig;
use crate::storage::Partition;
use crate::vm::Vm;

/// Flashes partitions `root` (the default), `bios`, `OVMF_CODE.fd` and `OVMF_VARS.fd`; refused
/// while the machine runs. `dump` returns the root disk as the guest sees it, in raw bytes.
#[derive(Debug)]
pub(crate) struct QemuFlasher(pub(crate) Vm);

impl Driver for QemuFlasher {
    interfaces!(Flasher);

    fn client(&self) -> Option<&str> {
        Some("jumpstarter_driver_qemu.client.QemuFlasherClient")
    }
}

#[async_trait]
impl Flasher for QemuFlasher {
    async fn flash(&self, source: ImageSource, target: Option<String>) -> Result<()> {
        let vm = &self.0;
        let partition = Partition::find(target.as_deref())?;
        let doing = format!("flashing {} to machine `{}`", source.name(), vm.name());
        alone(vm, &doing, async |config| {
            vm.0.storage.flash(source, partition, &config, vm.0.facts.target).await
        })
        .await
    }

    async fn dump(&self, target: ImageSink, partition: Option<String>) -> Result<()> {
        let vm = &self.0;
        let partition = Partition::find(partition.as_deref())?;
        let doing = format!("dumping from machine `{}`", vm.name());
        alone(vm, &doing, async |config| vm.0.storage.dump(target, partition, &config).await).await
    }
}

/// Does work that needs a machine that is off, within `flash_timeout`. It ends when the machine is
/// destroyed.
async fn alone(
    vm: &Vm,
    doing: &str,
    act: impl AsyncFnOnce(QemuConfig) -> Result<()>,
) -> Result<()> {
    let alone = async {
        let _exclusive = vm.0.exclusive.lock().await;
        vm.refuse_while_running(doing)?;
        vm.0.folders.ensure().await.with_context(|| doing)?;
        let config = vm.config();
        let within = config.flash_timeout;
        match timeout(within.as_duration(), act(config)).await {
            Ok(done) => done.with_context(|| doing),
            Err(_) => Err(Error::deadline_exceeded(format!("{doing} took longer than {within}"))
                .with_hint("raise `flash_timeout`")),
        }
    };
    tokio::select! {
        biased;
        () = vm.0.destroyed.cancelled() => Err(vm.destroyed().context(doing)),
        done = alone => done,
    }
}
