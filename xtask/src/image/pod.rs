//! The containers of a pod, as bundles for an OCI runtime: OCI's runtime specification 1.0.
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process::Run;
use crate::workspace;

/// What the client does with its lease; a file in `/signals` says how far it is.
const CLIENT: &str = "
j qemu flasher flash /images/pico.vmdk
j qemu power on
echo \"the machine is $(j qemu state)\"
j qemu console script /images/login.yaml
touch /signals/on
until test -e /signals/seen; do sleep 0.1; done
j qemu power off
echo 'the machine is off'";

/// The first words of the guest's conversation.
const LOGIN: &str = "
- expect: 'login: '
- line: root
- expect: 'Password: '
- line: x
- expect: 'pico# '
- line: disk
- expect: {regex: 'disk (?<sectors>\\d+) sectors'}
";

/// What a container engine lets root do in a container.
const OF_ROOT: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// One of the pod, with further mounts than every one has.
struct Container<'a> {
    root: &'a Path,
    user: u32,
    env: Value,
    words: &'a str,
    mounts: Vec<Value>,
}

/// Unpacks the image below `work` by tools that are not ours, and writes the bundles `init`,
/// `runtime`, `exporter` and `client`.
pub(super) async fn prepare(archive: &Path, work: &Path) -> Result<()> {
    let layout = work.join("layout");
    let [from, to] = [("oci-archive", archive), ("oci", &layout)]
        .map(|(kind, path)| format!("{kind}:{}", path.display()));
    // It compares the digests.
    Run::new("skopeo").args(["copy", "--quiet", &from, &to]).output().await?;
    let manifest = read(&layout.join("index.json"))?["manifests"][0].take();
    let manifest = read(&blob(&layout, &manifest)?)?;
    let config = read(&blob(&layout, &manifest["config"])?)?["config"].take();
    let root = work.join("root");
    for folder in ["root", "volume", "config", "lab", "images", "signals", "runtime/root"] {
        let folder = work.join(folder);
        std::fs::create_dir_all(&folder).with_context(|| doing("creating", &folder))?;
    }
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let layer = blob(&layout, layer)?;
        Run::new("tar").arg("-C").arg(&root).arg("-xzf").arg(layer).output().await?;
    }

    let pico = workspace::root().join("crates/driver-testkit/pico/pico.img");
    let convert = Run::new("qemu-img").args(["convert", "-f", "raw", "-O", "vmdk"]);
    convert.arg(pico).arg(work.join("images/pico.vmdk")).output().await?;
    write(&work.join("images/login.yaml"), LOGIN)?;
    write(&work.join("images/client.sh"), CLIENT)?;

    let bind = |from: &str, to: &str, how: &str| {
        json!({"destination": to, "type": "bind", "source": work.join(from),
               "options": ["bind", how]})
    };
    let shared = || bind("volume", "/shared", "rw");
    let user = config["User"].as_str().and_then(|user| user.split(':').next()?.parse().ok());
    let user = user.context("the image names no user by its number")?;
    let of_image = |words, mounts: Vec<Value>, further: &[&str]| {
        let mut env = config["Env"].clone();
        let all = env.as_array_mut().into_iter();
        all.for_each(|env| env.extend(further.iter().map(|variable| json!(variable))));
        // A node gives these to every container.
        let of_node = ["/etc/hosts", "/etc/resolv.conf"].map(|file| {
            json!({"destination": file, "type": "bind", "source": file, "options": ["bind", "ro"]})
        });
        Container { root: &root, user, env, words, mounts: [mounts, of_node.into()].concat() }
    };
    let copy = "cp /jumpstarter/bin/jumpstarter-exec /shared/jumpstarter-exec";
    bundle(work, "init", &of_image(copy, vec![shared()], &[]))?;
    // A runtime sets HOME, and a pod's need not.
    let run = "env -u HOME jmp run --exporter-config /etc/jumpstarter/exporters/config.yaml";
    let mounts = vec![shared(), bind("config", "/etc/jumpstarter/exporters", "ro")];
    let socket = &["JUMPSTARTER_LAUNCHER_SOCKET=/shared/launcher.sock"];
    bundle(work, "exporter", &of_image(run, mounts, socket))?;
    let lease = "env -u HOME jmp shell --client-config /lab/client-me.yaml -l board=vm -- \
                 sh -e /images/client.sh";
    let mounts = vec![
        bind("lab", "/lab", "ro"),
        bind("images", "/images", "ro"),
        bind("signals", "/signals", "rw"),
    ];
    bundle(work, "client", &of_image(lease, mounts, &[]))?;

    // The sidecar's image has the programs of this host.
    let runtime = work.join("runtime/root");
    let mut mounts = vec![shared()];
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc"] {
        let folder = Path::new("/").join(name);
        if let Ok(target) = std::fs::read_link(&folder) {
            symlink(target, runtime.join(name)).with_context(|| doing("linking", &folder))?;
        } else if folder.is_dir() {
            mounts.push(json!({"destination": folder, "type": "bind", "source": folder,
                               "options": ["rbind", "ro"]}));
        }
    }
    let serve = "/shared/jumpstarter-exec serve --socket /shared/launcher.sock";
    let env = json!(["PATH=/usr/bin:/bin", "JUMPSTARTER_EXEC_LOG_FIELDS=exporter=vm"]);
    let runtime = Container { root: &runtime, user: 0, env, words: serve, mounts };
    bundle(work, "runtime", &runtime)
}

/// Writes a container's `config.json`. All containers of a pod have one network; these have that of
/// this host.
fn bundle(work: &Path, name: &str, container: &Container<'_>) -> Result<()> {
    let Container { root, user, env, words, mounts } = container;
    let words: Vec<&str> = words.split_whitespace().collect();
    let mount = |at: &str, kind: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    let plain = ["nosuid", "noexec", "nodev"];
    let mut all = vec![
        mount("/proc", "proc", &plain),
        mount("/dev", "tmpfs", &["nosuid", "mode=755"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
    ];
    all.extend(mounts.iter().cloned());
    let may: &[&str] = if *user == 0 { &OF_ROOT } else { &[] };
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": user, "gid": user}, "args": words, "env": env,
            "cwd": "/", "noNewPrivileges": true,
            "capabilities": {"bounding": may, "effective": may, "permitted": may},
        },
        "root": {"path": root, "readonly": *user != 0},
        "mounts": all,
        "linux": {"namespaces": namespaces},
    });
    let folder = work.join(name);
    std::fs::create_dir_all(&folder).with_context(|| doing("creating", &folder))?;
    write(&folder.join("config.json"), &config.to_string())
}

/// The file of a descriptor's blob.
fn blob(layout: &Path, descriptor: &Value) -> Result<std::path::PathBuf> {
    let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    Ok(layout.join("blobs/sha256").join(digest.context("a descriptor without a digest")?))
}

fn read(file: &Path) -> Result<Value> {
    let text = std::fs::read(file).with_context(|| doing("reading", file))?;
    serde_json::from_slice(&text).with_context(|| doing("reading", file))
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| doing("writing", file))
}

fn doing(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}
