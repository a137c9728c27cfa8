//! The disk from which cloud-init takes host name and user: NoCloud's, labelled CIDATA, written by
//! this program.
//!
//! Source: cloud-init's documentation of its NoCloud data source. Network configuration is omitted,
//! so the guest uses DHCP.

mod fat;
mod yaml;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jumpstarter_driver_core::prelude::*;

use crate::config::QemuConfig;

/// The data for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seed {
    /// The guest's host name.
    pub(crate) hostname: String,
    /// The name of the user to create.
    pub(crate) username: String,
    /// The password of the created user.
    pub(crate) password: Secret,
}

impl From<&QemuConfig> for Seed {
    fn from(config: &QemuConfig) -> Self {
        Self {
            hostname: config.hostname.clone(),
            username: config.username.clone(),
            password: config.password.clone(),
        }
    }
}

impl Seed {
    /// Writes the disk image to `path`, a raw FAT12 image of 1.4 MiB (sparse: about 20 KiB on the
    /// host), mode 0600, and replaces an existing file. Blocks for a few small writes.
    ///
    /// # Errors
    /// The errors of the file system.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let doing = || format!("write the cloud-init disk {}", path.display());
        let (meta_data, user_data) = (self.meta_data(), self.user_data());
        let files = [("meta-data", meta_data.as_bytes()), ("user-data", user_data.as_bytes())];
        let mut options = File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .with_context(doing)?;
        fat::write(&file, "CIDATA", &files).with_context(doing)
    }

    /// The file `meta-data`. Another host name, user or password is another instance, for which
    /// cloud-init runs again; the same ones are always the same instance.
    fn meta_data(&self) -> String {
        let hostname = yaml::text(&self.hostname);
        format!("instance-id: jumpstarter-{:016x}\nlocal-hostname: {hostname}\n", self.digest())
    }

    /// FNV-1a, 64 bits, over the guest's data: the standard library's hashes change between its
    /// versions. The password itself is on the same disk, so this need not hide it.
    fn digest(&self) -> u64 {
        let fields = [self.hostname.as_str(), &self.username, self.password.expose()];
        let bytes = fields.iter().flat_map(|field| field.bytes().chain([0]));
        bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The file `user-data`.
    fn user_data(&self) -> String {
        let [hostname, username, password] =
            [&self.hostname, &self.username, self.password.expose()]
                .map(|value: &str| yaml::text(value));
        format!(
            "#cloud-config\n\
             hostname: {hostname}\n\
             ssh_pwauth: true\n\
             chpasswd:\n  expire: false\n\
             users:\n  - name: {username}\n    plain_text_passwd: {password}\n    lock_passwd: false\n    \
             sudo: ALL=(ALL) NOPASSWD:ALL\n    shell: /bin/sh\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cloud_init_reads() {
        let seed = Seed {
            hostname: "demo".into(),
            username: "jumpstarter".into(),
            password: "it's: #1".into(),
        };
        let instance = "instance-id: jumpstarter-6136b4f8b7611606\nlocal-hostname: demo\n";
        assert_eq!(seed.meta_data(), instance);
        insta::assert_snapshot!(seed.user_data(), @"
        #cloud-config
        hostname: demo
        ssh_pwauth: true
        chpasswd:
          expire: false
        users:
          - name: jumpstarter
            plain_text_passwd: 'it''s: #1'
            lock_passwd: false
            sudo: ALL=(ALL) NOPASSWD:ALL
            shell: /bin/sh
        ");
        assert!(!format!("{seed:?}").contains("#1"));
    }

    #[test]
    fn what_is_told_makes_the_instance() {
        let seed = Seed::from(&QemuConfig::default());
        let other = |change: fn(&mut Seed)| {
            let mut seed = seed.clone();
            change(&mut seed);
            seed.digest()
        };
        let digests = [
            other(|_| {}),
            other(|seed| seed.hostname.push('x')),
            other(|seed| seed.username.push('x')),
            other(|seed| seed.password = "other".into()),
            // The same letters, divided differently.
            other(|seed| (seed.hostname, seed.username) = ("demoj".into(), "umpstarter".into())),
        ];
        let different: std::collections::HashSet<_> = digests.iter().collect();
        assert_eq!(different.len(), digests.len());
        assert_eq!(other(|_| {}), seed.digest());
    }

    #[test]
    fn the_disk_is_private_small_and_replaced() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        let seed = Seed::from(&QemuConfig::default());
        seed.write(&path).unwrap();
        let first = std::fs::read(&path).unwrap();
        Seed { hostname: "x".repeat(200), ..seed.clone() }.write(&path).unwrap();
        seed.write(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == first, "nothing of the former contents is left");
        let metadata = path.metadata().unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600);
        assert!(metadata.blocks() * 512 < 64 * 1024, "{} blocks", metadata.blocks());
    }
}
