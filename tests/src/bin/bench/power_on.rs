//! Power-on, until QEMU's monitor answers, beside a bare QEMU that is given the very same
//! arguments.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{Machine, QemuConfig, QemuDriver, Vm};
use jumpstarter_driver_testkit::pico;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::time::timeout;

use crate::table::{Row, Target};

pub(crate) const TITLE: &str = "Power-on until QMP is ready";

/// What has to be known to read the table.
pub(crate) const NOTES: &[&str] = &[
    "ours: `vm.start()`, which prepares disks and sockets, starts QEMU and negotiates QMP",
    "bare: posix_spawn of QEMU with the arguments that ours was seen to have, until it answers `qmp_capabilities`, before \
     which QMP takes no other command; the greeting comes earlier, while the machine is still being built; \
     its files and sockets are prepared beforehand (it connects to the sockets, where ours is given them open)",
    "medians; turns alternate; the Python driver (0.9.0) takes 550 ms (a constant, measured elsewhere)",
];

/// How long one start may take.
const START: Duration = Duration::from_secs(60);

/// Measures both.
pub(crate) async fn measure(turns: u32) -> Result<Vec<Row>> {
    let folder = tempfile::Builder::new().prefix("jmp-bench-").tempdir()?;
    let image = folder.path().join("pico.img");
    pico::write_to(&image)?;
    let mut config = QemuConfig::default();
    config.default_partitions.root = Some(image.into());
    let vm = QemuDriver::new().create_vm("bench", config).await?;
    let measured = alternate(&vm, folder.path(), turns).await;
    // Also after an error; dropping would do, too.
    vm.destroy().await?;
    measured
}

async fn alternate(vm: &Vm, folder: &Path, turns: u32) -> Result<Vec<Row>> {
    // The first start of all fills caches, and shows what QEMU is given.
    vm.start().await?;
    let bare = Bare::like(vm, &folder.join("b"))?;
    vm.cut().await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        if turn % 2 == 0 {
            ours.push(start(vm).await?);
            theirs.push(bare.start().await?);
        } else {
            theirs.push(bare.start().await?);
            ours.push(start(vm).await?);
        }
    }
    let (greeted, ready): (Vec<_>, Vec<_>) =
        theirs.into_iter().map(|start| (start.greeted, start.ready)).unzip();
    let row =
        |other, theirs, target| Row::of_times("power on", other, [ours.clone(), theirs], target);
    Ok(vec![
        row("bare QEMU, QMP ready", ready, Target::Within(Duration::from_millis(20))),
        row("bare QEMU, QMP's greeting", greeted, Target::None),
    ])
}

async fn start(vm: &Vm) -> Result<Duration> {
    let started = Instant::now();
    vm.start().await?;
    let time = started.elapsed();
    vm.cut().await?;
    Ok(time)
}

/// QEMU without a driver: the same arguments, on copies of the machine's files.
struct Bare {
    arguments: Vec<OsString>,
    folder: PathBuf,
    /// Where QEMU connects to.
    sockets: Vec<PathBuf>,
}

impl Bare {
    /// Copies what runs.
    fn like(vm: &Vm, folder: &Path) -> Result<Self> {
        let pid = vm.pid().ok_or_else(|| Error::internal("the machine does not run"))?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).context("reading QEMU's arguments")?;
        let theirs = vm.vnc_path();
        let theirs = theirs.parent().ok_or_else(|| Error::internal("the machine has no folder"))?;
        fs::create_dir(folder)?;
        let mut sockets = Vec::new();
        copy_folder(theirs, folder)?;
        let mut words = Vec::new();
        let mut disks = Vec::new();
        for word in line.split(|byte| *byte == 0).filter(|word| !word.is_empty()) {
            match inherited_disk(word) {
                // With the option before it.
                Some((number, path)) => {
                    words.pop();
                    let copy = folder.join(format!("{number}.img"));
                    fs::copy(path, &copy).context("copying a disk")?;
                    disks.push((format!("/dev/fdset/{number}"), copy));
                }
                None => words.push(word.to_vec()),
            }
        }
        disks.push((theirs.to_string_lossy().into_owned(), folder.to_owned()));
        let arguments: Vec<OsString> = words
            .into_iter()
            .map(|word| {
                let word = disks.iter().fold(word, |word, (from, to)| {
                    replaced(&word, from.as_bytes(), to.as_os_str().as_bytes()).into_vec()
                });
                OsString::from_vec(word)
            })
            .map(|word| match inherited_socket(&word.to_string_lossy()) {
                None => word,
                Some(id) => {
                    let path = folder.join(format!("{id}.sock"));
                    let connect = format!("socket,id={id},path={},server=off", path.display());
                    sockets.push(path);
                    connect.into()
                }
            })
            .collect();
        if sockets.is_empty() {
            return Err(Error::internal(format!("QEMU was given no sockets: {arguments:?}")));
        }
        Ok(Self { arguments, folder: folder.to_owned(), sockets })
    }

    /// From spawning to the greeting, and to the answer; kills it then.
    #[expect(
        clippy::disallowed_methods,
        reason = "the yardstick is a spawn without anything around it"
    )]
    async fn start(&self) -> Result<BareStart> {
        let mut listeners = Vec::new();
        for path in &self.sockets {
            if path.exists() {
                fs::remove_file(path)?;
            }
            listeners.push((path, UnixListener::bind(path)?));
        }
        let [program, arguments @ ..] = self.arguments.as_slice() else {
            return Err(Error::internal("QEMU has no arguments"));
        };
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).current_dir(&self.folder).kill_on_drop(true);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        let started = Instant::now();
        let mut child = command.spawn().context("spawning QEMU")?;
        let talk = async {
            let mut held = Vec::new();
            let mut qmp = None;
            for (path, listener) in &listeners {
                let (stream, _) = listener.accept().await?;
                match path.ends_with("qmp.sock") {
                    true => qmp = Some(BufReader::new(stream)),
                    false => held.push(stream),
                }
            }
            let mut qmp = qmp.ok_or_else(|| Error::internal("QEMU was given no socket `qmp`"))?;
            let mut line = String::new();
            qmp.read_line(&mut line).await?;
            let greeted = started.elapsed();
            qmp.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").await?;
            while !line.contains("\"return\"") {
                line.clear();
                if qmp.read_line(&mut line).await? == 0 {
                    return Err(Error::unavailable("QEMU hung up"));
                }
            }
            Ok(BareStart { greeted, ready: started.elapsed() })
        };
        let outcome = timeout(START, talk).await;
        child.kill().await.context("killing QEMU")?;
        outcome.unwrap_or_else(|_| Err(Error::deadline_exceeded("QEMU's monitor does not answer")))
    }
}

/// When a bare QEMU was how far, from its spawning.
struct BareStart {
    greeted: Duration,
    ready: Duration,
}

/// The name of a socket that QEMU was given open.
fn inherited_socket(argument: &str) -> Option<&str> {
    let (id, number) = argument.strip_prefix("socket,id=")?.split_once(",fd=")?;
    number.parse::<u32>().is_ok().then_some(id)
}

/// The number and the path of a disk that QEMU was given open.
fn inherited_disk(argument: &[u8]) -> Option<(u32, &Path)> {
    let rest = argument.strip_prefix(b"fd=")?;
    let at = rest.windows(SET.len()).position(|window| window == SET)?;
    let (number, rest) = (std::str::from_utf8(&rest[..at]).ok()?.parse().ok()?, &rest[at..]);
    let path = rest.windows(OPAQUE.len()).position(|window| window == OPAQUE)? + OPAQUE.len();
    Some((number, Path::new(OsStr::from_bytes(&rest[path..]))))
}

const SET: &[u8] = b",set=";
const OPAQUE: &[u8] = b",opaque=";

/// Copies the files of a folder, and its folders; sockets are left out.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// `word` with every `from` replaced by `to`.
fn replaced(word: &[u8], from: &[u8], to: &[u8]) -> OsString {
    let mut result = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    OsString::from_vec(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_understood() {
        assert_eq!(inherited_socket("socket,id=qmp,fd=7"), Some("qmp"));
        assert_eq!(inherited_socket("socket,id=qmp,path=/t/qmp.sock,server=on,wait=off"), None);
        assert_eq!(inherited_socket("file=/t/disk,if=none"), None);
        let disk = inherited_disk(b"fd=11,set=11,opaque=/t/disk");
        assert_eq!(disk, Some((11, Path::new("/t/disk"))));
        assert_eq!(inherited_disk(b"driver=raw,file.filename=/dev/fdset/11"), None);
        assert_eq!(replaced(b"file=/a/x,b=/a", b"/a", b"/bb"), "file=/bb/x,b=/bb");
    }
}
