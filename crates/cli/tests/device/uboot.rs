//! Verbs of a board with U-Boot: Debian's u-boot-qemu on a machine of ours.

use std::path::Path;

use insta::assert_snapshot;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_driver_testkit::skip;

use crate::lab::Bench;

const FIRMWARE: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";
const FILE: &str = "
metadata: {name: lab}
export:
  vm: {type: qemu, config: {arch: aarch64, mem: 256M, smp: 1, default_partitions: {bios: /usr/lib/u-boot/qemu_arm64/u-boot.bin}}}
  uboot: {type: uboot, children: {power: {ref: vm.power}, serial: {ref: vm.console}}}
";

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_u_boot() {
    if !Path::new(FIRMWARE).exists() {
        return skip("there is no U-Boot for QEMU: apt-get install u-boot-qemu");
    }
    if !qemu_available(Arch::Aarch64) {
        return;
    }
    let bench = Bench::of(FILE).await;
    let off = bench.j(&["uboot", "run", "version"]).await;
    assert!(off.contains("error: U-Boot does not wait at its prompt"), "{off}");
    assert!(off.contains("j PATH reboot") && off.contains("--- exit code 1"), "{off}");
    assert_eq!(bench.j(&["uboot", "reboot", "--timeout", "3min"]).await, "");
    let version = bench.j_with(&["uboot", "run", "version"], b"").await;
    assert!(version.starts_with("U-Boot 20"), "{version}");
    assert_snapshot!(bench.j_with(&["uboot", "run", "--", "echo it;", "false"], b"").await, @r"
    it
    --- exit code 1
    ");
    assert_eq!(bench.j(&["uboot", "env", "set", "a", "it's $b"]).await, "");
    assert_snapshot!(bench.j(&["uboot", "env", "get", "a"]).await, @"it's $b");
    assert_eq!(bench.j(&["uboot", "env", "set", "a"]).await, "");
    assert_snapshot!(bench.j(&["uboot", "env", "get", "a"]).await, @r"
    --- stderr
    `a` is not set
    --- exit code 1
    ");
    assert_snapshot!(bench.j(&["uboot", "dhcp"]).await, @"10.0.2.15/24 by 10.0.2.2");
    let console = bench.j(&["uboot", "console"]).await;
    assert!(console.contains("a console needs a terminal"), "{console}");
}
