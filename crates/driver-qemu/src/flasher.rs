//! The child `flasher`: writes the machine's images and reads them back.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{StreamExt, stream};
use jumpstarter_driver_core::ShellOutput;
use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_core::prelude::*;
use tokio::time::timeout;

use crate::config::QemuConfig;
use crate::interface::OciFlasher;
use crate::storage::Partition;
use crate::vm::Vm;

/// Flashes partitions `root` (the default), `bios`, `OVMF_CODE.fd` and `OVMF_VARS.fd`; refused
/// while the machine runs. `dump` returns the root disk as the guest sees it, in raw bytes.
#[derive(Debug)]
pub(crate) struct QemuFlasher(pub(crate) Vm);

impl Driver for QemuFlasher {
    interfaces!(Flasher, OciFlasher);

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

    async fn targets(&self) -> Result<FlashTargets> {
        Ok(FlashTargets::from_names(Partition::ALL.into_iter().map(Partition::name)))
    }
}

#[async_trait]
impl OciFlasher for QemuFlasher {
    async fn flash_oci(
        &self,
        oci_url: String,
        partition: Option<String>,
        oci_username: Option<String>,
        oci_password: Option<String>,
    ) -> Result<ValueStream<ShellOutput>> {
        Partition::find(partition.as_deref())?;
        if !oci_url.starts_with("oci://") {
            return Err(Error::invalid_argument(format!("`{oci_url}` is no oci:// URL")));
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let request = ImageRequest::new(oci_url)?;
        let request = match (given(oci_username), given(oci_password)) {
            (Some(user), Some(password)) => {
                let basic = BASE64_STANDARD.encode(format!("{user}:{password}"));
                request.with_header("authorization", format!("Basic {basic}"))
            }
            (None, None) => request,
            _ => {
                return Err(Error::invalid_argument(
                    "a registry needs both a user and a password, or neither",
                ));
            }
        };
        let flasher = Self(self.0.clone());
        let begun = ShellOutput { stdout: format!("flashing {request}\n"), ..Default::default() };
        let flashing = async move {
            flasher.flash(ImageSource::request(request), partition).await?;
            let stdout = "flashed\n".to_owned();
            Ok(ShellOutput { stdout, exit_code: Some(0), ..Default::default() })
        };
        Ok(stream::iter([Ok(begun)]).chain(stream::once(flashing)).boxed())
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
