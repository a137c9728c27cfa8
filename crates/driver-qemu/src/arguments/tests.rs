//! Expected command lines, and a check that the real QEMU accepts them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Command, StopPlan};

use super::*;
use crate::config::Accel;
use crate::disk::{DiskFormat, Layer, QemuImage};
use crate::host::{Accelerator, Firmware, Place, QemuVersion, Sandbox, Vsock};
use crate::qmp::Qmp;

const LONG: Duration = Duration::from_secs(120);

fn facts(target: Architecture, kind: AcceleratorKind) -> HostFacts {
    HostFacts {
        host: Some(target),
        target,
        binary: "/usr/bin/qemu".into(),
        version: QemuVersion::new(7, 2, 0),
        accelerator: Accelerator { kind, reason: "for the test".into() },
        vsock: Vsock::Usable,
        sandbox: Sandbox::Usable,
        firmware: None,
        place: Place::Here,
    }
}

fn paths() -> Paths {
    Paths {
        qmp: SocketEnd::Inherited(3),
        console: SocketEnd::Inherited(4),
        vnc: "/run/m/vnc".into(),
        boot: Boot::BuiltIn,
        root: Some(QemuImage::with_format("/d/root", DiskFormat::Qcow2).into()),
        seed: Some(QemuImage::with_format("/run/m/seed", DiskFormat::Raw).into()),
        vsock_cid: None,
    }
}

/// One option a line.
fn shown(line: &[OsString]) -> String {
    let words: Vec<_> = line.iter().map(|word| word.to_str().unwrap()).collect();
    words.join(" ").replace(" -", "\n-")
}

#[test]
fn x86_64_by_bios() {
    let line = command_line(
        &QemuConfig::default(),
        &facts(Architecture::X86_64, AcceleratorKind::Tcg),
        &paths(),
        &[],
    );
    insta::assert_snapshot!(shown(&line), @"
    -nodefaults
    -no-user-config
    -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
    -name guest=demo,debug-threads=on
    -machine q35
    -accel tcg
    -cpu max
    -smp 2
    -m 512M
    -chardev socket,id=qmp,fd=3
    -mon chardev=qmp,mode=control
    -chardev socket,id=console,fd=4
    -serial chardev:console
    -display none
    -vnc vnc=unix:/run/m/vnc
    -device virtio-vga
    -blockdev driver=qcow2,node-name=root,discard=unmap,file.discard=unmap,file.driver=file,file.filename=/d/root
    -device virtio-blk-pci,drive=root,bootindex=1
    -blockdev driver=raw,node-name=seed,read-only=on,file.driver=file,file.filename=/run/m/seed
    -device virtio-blk-pci,drive=seed
    -netdev user,id=net
    -device virtio-net-pci,netdev=net,romfile=
    -device virtio-rng-pci
    -device pvpanic
    ");
}

#[test]
fn aarch64_by_uefi_with_everything() {
    let config = QemuConfig {
        smp: 4,
        mem: ByteSize::bytes((1 << 30) + 1),
        hostname: "a,b".into(),
        extra_args: vec!["-S".into()],
        ..QemuConfig::default()
    };
    let image = |path: &str, format| Disk::from(QemuImage::with_format(path, format));
    let device = QemuImage::with_format("/disks/b", DiskFormat::Raw).on_block_device();
    let paths = Paths {
        vnc: "/run/a,b/vnc".into(),
        boot: Boot::Uefi {
            code: image("/f/code", DiskFormat::Raw),
            vars: Some(image("/f/vars", DiskFormat::Qcow2)),
        },
        root: Some(device.into()),
        vsock_cid: Some(7),
        ..paths()
    };
    let forwards = [
        Forward { protocol: Protocol::Udp, host: "127.0.0.1:8080".parse().unwrap(), guestport: 80 },
        Forward { protocol: Protocol::Tcp, host: "0.0.0.0:2222".parse().unwrap(), guestport: 22 },
    ];
    let line = command_line(
        &config,
        &facts(Architecture::Aarch64, AcceleratorKind::Kvm),
        &paths,
        &forwards,
    );
    insta::assert_snapshot!(shown(&line), @"
    -nodefaults
    -no-user-config
    -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
    -name guest=a,,b,debug-threads=on
    -blockdev driver=raw,node-name=firmware-code,read-only=on,file.driver=file,file.filename=/f/code
    -blockdev driver=qcow2,node-name=firmware-vars,discard=unmap,file.discard=unmap,file.driver=file,file.filename=/f/vars
    -machine virt,gic-version=host,pflash0=firmware-code,pflash1=firmware-vars
    -accel kvm
    -cpu host
    -smp 4
    -m 1048577K
    -chardev socket,id=qmp,fd=3
    -mon chardev=qmp,mode=control
    -chardev socket,id=console,fd=4
    -serial chardev:console
    -display none
    -vnc vnc=unix:/run/a,,b/vnc
    -device virtio-gpu-pci
    -device virtio-keyboard-pci
    -device virtio-tablet-pci
    -blockdev driver=raw,node-name=root,discard=unmap,file.discard=unmap,file.driver=host_device,file.filename=/disks/b
    -device virtio-blk-pci,drive=root,bootindex=1
    -blockdev driver=raw,node-name=seed,read-only=on,file.driver=file,file.filename=/run/m/seed
    -device virtio-blk-pci,drive=seed
    -netdev user,id=net,hostfwd=udp:127.0.0.1:8080-:80,hostfwd=tcp:0.0.0.0:2222-:22
    -device virtio-net-pci,netdev=net,romfile=
    -device vhost-vsock-pci,guest-cid=7
    -device virtio-rng-pci
    -device pvpanic-pci
    -S
    ");
}

#[test]
fn what_depends_on_the_host_and_the_configuration() {
    let check =
        |config: &QemuConfig, facts: &HostFacts, paths: &Paths, there: &str, absent: &str| {
            let line = shown(&command_line(config, facts, paths, &[]));
            assert!(line.contains(there) && !line.contains(absent), "{there} {absent}\n{line}");
        };
    let plain = QemuConfig::default();
    let named = QemuConfig { cpu: Some("qemu64,+ssse3".into()), ..QemuConfig::default() };
    let x86 = facts(Architecture::X86_64, AcceleratorKind::Kvm);
    check(&plain, &x86, &paths(), "-cpu host", "gic-version");
    check(&named, &x86, &paths(), "-cpu qemu64,+ssse3", "-cpu host");
    check(
        &plain,
        &facts(Architecture::Aarch64, AcceleratorKind::Tcg),
        &paths(),
        "-cpu cortex-a57",
        "gic-version",
    );
    let no_vsock = HostFacts { vsock: Vsock::Unusable("no".into()), ..x86.clone() };
    let with_cid = Paths { vsock_cid: Some(3), ..paths() };
    check(&plain, &x86, &with_cid, "guest-cid=3", "pflash");
    check(&plain, &no_vsock, &with_cid, "-cpu host", "vsock");
    let no_sandbox = HostFacts { sandbox: Sandbox::Unusable("no".into()), ..x86.clone() };
    check(&plain, &no_sandbox, &paths(), "-no-user-config", "-sandbox");
    let chosen =
        QemuConfig { extra_args: vec!["-sandbox".into(), "off".into()], ..QemuConfig::default() };
    check(&chosen, &x86, &paths(), "-sandbox off", "-sandbox on");
    let restricted = QemuConfig { restrict: true, ..QemuConfig::default() };
    check(&restricted, &x86, &paths(), "-netdev user,id=net,restrict=on", "hostfwd");
    check(&plain, &x86, &paths(), "-netdev user,id=net", "restrict");
    let bare = Paths { root: None, seed: None, boot: Boot::Bios("/a,b".into()), ..paths() };
    check(&plain, &x86, &bare, "-bios /a,b", "virtio-blk");
    let layer = |path: &str, format, fd| Layer { image: QemuImage::with_format(path, format), fd };
    let chain =
        vec![layer("/o", DiskFormat::Qcow2, Some(9)), layer("/b,b", DiskFormat::Raw, Some(12))];
    let chain = Paths { root: Some(Disk { layers: chain }), ..paths() };
    check(
        &plain,
        &x86,
        &chain,
        "-add-fd fd=12,set=12,opaque=/b,,b\n-blockdev driver=raw,node-name=root-1,read-only=on,file.driver=file,file.filename=/dev/fdset/12\n-add-fd fd=9,set=9,opaque=/o\n-blockdev driver=qcow2,node-name=root,backing=root-1,discard=unmap,file.discard=unmap,file.driver=file,file.filename=/dev/fdset/9\n",
        "filename=/b",
    );
    let in_memory = QemuImage::with_format("/dev/shm/root", DiskFormat::Raw);
    let in_memory = Paths { root: Some(in_memory.into()), ..paths() };
    check(&plain, &x86, &in_memory, "file.driver=file,file.filename=/dev/shm/root", "host_device");
}

/// Starts the real QEMU, without letting the guest run, and asks it for its state.
async fn check_started(arch: Architecture, firmware: Option<Firmware>, folder: &Path) {
    let config = QemuConfig {
        arch: Some(arch),
        accel: Accel::Tcg,
        mem: ByteSize::mebibytes(128),
        extra_args: vec!["-S".into()],
        ..QemuConfig::default()
    };
    let facts = match HostFacts::probe(&config).await {
        Ok(facts) => facts,
        Err(error) => return skip(&error.report()),
    };
    let base =
        QemuImage::create(folder.join(format!("base-{}", arch.name())), DiskFormat::Raw, 1 << 20)
            .await
            .unwrap();
    let root =
        base.overlay(folder.join(format!("root,{}", arch.name())), Some(1 << 30)).await.unwrap();
    let seed = folder.join("seed");
    crate::seed::Seed::from(&config).write(&seed).unwrap();
    let (ours, qmp) = UnixStream::pair().unwrap();
    let (_console, qemus_console) = UnixStream::pair().unwrap();
    let mut files = vec![OwnedFd::from(qmp), OwnedFd::from(qemus_console)];
    let (monitor, console) = (files[0].as_raw_fd(), files[1].as_raw_fd());
    let mut opened = |images: &[QemuImage], access| {
        let (disk, opened) = Disk::open(images, access).unwrap();
        files.extend(opened);
        disk
    };
    let raw = |path: &Path| QemuImage::with_format(path, DiskFormat::Raw);
    let boot = match firmware {
        None => Boot::BuiltIn,
        Some(Firmware { code, vars }) => {
            let template = raw(&vars.unwrap());
            let vars = template.overlay(folder.join("vars"), None).await.unwrap();
            let vars = Some(opened(&[vars, template], Access::Write));
            Boot::Uefi { code: opened(&[raw(&code)], Access::Read), vars }
        }
    };
    let paths = Paths {
        qmp: SocketEnd::Inherited(monitor),
        console: SocketEnd::Inherited(console),
        vnc: folder.join("vnc"),
        boot,
        root: Some(opened(&[root, base], Access::Write)),
        seed: Some(opened(&[raw(&seed)], Access::Read)),
        vsock_cid: None,
    };
    let forward =
        |protocol| Forward { protocol, host: "127.0.0.1:0".parse().unwrap(), guestport: 80 };
    let forwards = [Protocol::Tcp, Protocol::Udp].map(forward);
    let arguments = command_line(&config, &facts, &paths, &forwards);
    let command = Command::new(&facts.binary).args(arguments);
    let qemu = files.into_iter().fold(command, Command::keep_fd).spawn().await.unwrap();
    ours.set_nonblocking(true).unwrap();
    let qmp = match Qmp::start(tokio::net::UnixStream::from_std(ours).unwrap(), LONG).await {
        Ok(qmp) => qmp,
        Err(error) => {
            tokio::time::timeout(LONG, qemu.wait()).await.unwrap();
            panic!("{error:?}: {}", qemu.stderr_tail());
        }
    };
    let status = qmp.execute(qapi::qmp::query_status {}, LONG).await.unwrap();
    assert!(!status.running);
    let blocks =
        qmp.execute_value("query-named-block-nodes", serde_json::json!({}), LONG).await.unwrap();
    let size = |name: &str| {
        let node =
            blocks.as_array().unwrap().iter().find(|node| node["node-name"] == name).unwrap();
        node["image"]["virtual-size"].as_u64().unwrap()
    };
    assert_eq!((size("root"), size("root-1"), size("seed")), (1 << 30, 1 << 20, 1_474_560));
    let names: Vec<&str> =
        blocks.as_array().unwrap().iter().filter_map(|node| node["file"].as_str()).collect();
    assert!(
        names.iter().all(|name| name.contains("/dev/fdset/")),
        "something is opened by path: {names:?}"
    );
    assert!(paths.vnc.exists());
    assert_eq!(qemu.stderr_tail(), "", "QEMU has nothing to complain about");
    qemu.stop(StopPlan::new()).await.unwrap();
}

#[tokio::test]
async fn qemu_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    check_started(Architecture::X86_64, None, folder.path()).await;
    for arch in [Architecture::X86_64, Architecture::Aarch64] {
        let Some(firmware) = Firmware::find(arch) else {
            skip(&format!("there is no UEFI firmware for {}", arch.name()));
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        check_started(arch, Some(firmware), folder.path()).await;
    }
}
