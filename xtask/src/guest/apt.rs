//! Debian packages without root: apt with a separate state, for any architecture, then `dpkg-deb
//! --extract`.
//!
//! The system's sources, keys and proxies are used; its lists, caches and installed packages are
//! not touched.
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::cache::{self, Locked};
use super::{Arch, System};
use crate::process::{self, Run, find_program};
use crate::progress::{Step, note};

/// Lists of packages older than this are fetched anew.
const LISTS_STAY_FRESH: Duration = Duration::from_secs(24 * 3600);
/// A file of apt sources (deb822 format) to use instead of the system's.
const SOURCES_VARIABLE: &str = "JUMPSTARTER_GUEST_APT_SOURCES";

/// Packages that were fetched and verified.
#[derive(Debug)]
pub(crate) struct Packages {
    /// One line a package: file name (with version and architecture) and SHA-256, sorted.
    pub(crate) manifest: String,
    guest: Vec<PathBuf>,
    tools: Vec<PathBuf>,
    /// The files of apt's sources.
    pub(crate) sources: Vec<PathBuf>,
}

/// Folders into which the packages were extracted.
#[derive(Debug)]
pub(crate) struct Roots {
    /// Kernel, busybox, boot loader: the guest's architecture.
    pub(crate) guest: PathBuf,
    /// Programs to run here: the host's architecture.
    pub(crate) tools: PathBuf,
}

/// Fetches the newest packages of the recipe; those that are in the cache are not fetched again.
pub(crate) async fn fetch(cache: &Locked, system: System, arch: Arch) -> Result<Packages> {
    let apt = Apt::prepare(cache, arch).await?;
    if !apt.lists_are_newer_than(LISTS_STAY_FRESH)
        && let Err(error) = apt.update().await
    {
        process::check_interrupt()?;
        if !apt.stamp.exists() {
            return Err(error);
        }
        note("  no new lists of packages can be had; going on with the old ones");
    }
    let step = Step::announce("packages");
    let fetched = match apt.fetch(cache, system, arch).await {
        // A mirror keeps only the newest version: lists of this morning may name a removed file.
        Err(error) if !apt.lists_are_newer_than(Duration::from_secs(600)) => {
            process::check_interrupt()?;
            match apt.update().await {
                Ok(()) => apt.fetch(cache, system, arch).await,
                Err(_) => Err(error),
            }
        }
        outcome => outcome,
    };
    let packages = fetched.with_context(|| {
        format!(
            "fetching the {} guest's packages; they need the sources of Debian 12 or newer and a network \
             (other sources: {SOURCES_VARIABLE}=FILE in deb822 format)",
            arch.name()
        )
    })?;
    step.done(format_args!("{} files", packages.guest.len() + packages.tools.len()));
    Ok(packages)
}

impl Packages {
    /// Unpacks everything into `work`.
    pub(crate) async fn extract(&self, work: &Path) -> Result<Roots> {
        let step = Step::start("extract");
        let roots = Roots { guest: work.join("guest"), tools: work.join("tools") };
        for (root, files) in [(&roots.guest, &self.guest), (&roots.tools, &self.tools)] {
            fs::create_dir(root).with_context(|| format!("creating {}", root.display()))?;
            for file in files {
                Run::new("dpkg-deb").arg("--extract").arg(file).arg(root).output().await?;
            }
        }
        step.done("");
        Ok(roots)
    }
}

/// One package that apt would fetch.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    file: String,
    size: u64,
    sha256: String,
}

/// apt with a private configuration.
#[derive(Debug)]
struct Apt {
    config: PathBuf,
    stamp: PathBuf,
    host: String,
    /// Where apt writes lists that it has not fetched whole; emptied when this is dropped.
    _partial: Partial,
}

/// A folder whose files are of no use to anyone else.
#[derive(Debug)]
struct Partial(PathBuf);

impl Partial {
    /// An empty folder.
    fn create(path: PathBuf) -> Result<Partial> {
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("emptying {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Partial(path))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next build.
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Apt {
    async fn prepare(cache: &Locked, arch: Arch) -> Result<Apt> {
        for program in ["apt-get", "apt-cache", "apt-config", "dpkg", "dpkg-deb"] {
            if find_program(program).is_none() {
                bail!(
                    "guests are made of Debian packages, and `{program}` is not installed here; \
                     build the image on a Debian system or container (`cargo xtask guest --arch {} --output FILE`) \
                     and name the file in {}",
                    arch.name(),
                    arch.variable()
                );
            }
        }
        let host = Run::new("dpkg").arg("--print-architecture").output().await?.trim().to_owned();
        let folder = cache.subfolder(&format!("apt-{host}-{}", arch.debian()))?;
        let state = folder.join("state");
        let sources = folder.join("sources");
        let partial = Partial::create(state.join("lists/partial"))?;
        for needed in [folder.join("cache/archives/partial"), sources.clone()] {
            fs::create_dir_all(&needed)
                .with_context(|| format!("creating {}", needed.display()))?;
        }
        fs::write(state.join("status"), "")?;
        write_sources(&sources)?;
        let config = folder.join("apt.conf");
        let settings = [
            ("Dir::State", state.as_path()),
            ("Dir::State::status", &state.join("status")),
            ("Dir::Cache", &folder.join("cache")),
            ("Dir::Etc::SourceList", Path::new("/dev/null")),
            ("Dir::Etc::SourceParts", &sources),
            ("Dir::Etc::Main", Path::new("/dev/null")),
            ("Dir::Etc::Parts", Path::new("/dev/null")),
            ("APT::Architecture", Path::new(&host)),
            // As root, apt would fetch as another user, who cannot write here.
            ("APT::Sandbox::User", Path::new("root")),
            ("Acquire::Languages", Path::new("none")),
            ("Acquire::GzipIndexes", Path::new("true")),
            ("Acquire::Retries", Path::new("3")),
        ];
        let mut text = system_network_settings().await?;
        for (name, value) in settings {
            text += &format!("{name} \"{}\";\n", value.display());
        }
        text += &format!("APT::Architectures {{ \"{host}\"; \"{}\"; }};\n", arch.debian());
        fs::write(&config, text)?;
        Ok(Apt { config, stamp: folder.join("updated"), host, _partial: partial })
    }

    fn run(&self, program: &str) -> Run {
        Run::new(program).env("APT_CONFIG", &self.config).env("LC_ALL", "C").arg("-q")
    }

    fn lists_are_newer_than(&self, age: Duration) -> bool {
        let modified = self.stamp.metadata().and_then(|meta| meta.modified());
        modified.is_ok_and(|modified| {
            SystemTime::now().duration_since(modified).is_ok_and(|since| since < age)
        })
    }

    async fn update(&self) -> Result<()> {
        let step = Step::announce("package lists");
        let said = self.run("apt-get").args(["--error-on=any", "update"]).output().await.context(
            "fetching the lists of packages; is there a network, and are apt's sources right?",
        )?;
        fs::write(&self.stamp, "")?;
        step.done(said.lines().find(|line| line.starts_with("Fetched")).unwrap_or_default());
        Ok(())
    }

    async fn fetch(&self, cache: &Locked, system: System, arch: Arch) -> Result<Packages> {
        let kernel = self.kernel_package(arch).await?;
        let guest = std::iter::once(kernel.as_str()).chain(arch.guest_packages().iter().copied());
        let guest: Vec<_> = guest.map(|package| format!("{package}:{}", arch.debian())).collect();
        let of = |for_all| if for_all { "all" } else { self.host.as_str() };
        let tools = arch
            .tool_packages()
            .iter()
            .chain(system.tool_packages())
            .map(|(package, for_all)| format!("{package}:{}", of(*for_all)));
        let tools: Vec<_> = tools.collect();
        let archives = cache.subfolder(&match system {
            System::Tiny => format!("packages-{}", arch.name()),
            System::Debian => format!("packages-debian-{}", arch.name()),
        })?;
        let (guest_lines, guest) = self.download(cache, &archives, &guest).await?;
        let (tool_lines, tools) = self.download(cache, &archives, &tools).await?;
        let mut lines = [guest_lines, tool_lines].concat();
        lines.sort();
        for entry in fs::read_dir(&archives)?.flatten() {
            if !guest.contains(&entry.path()) && !tools.contains(&entry.path()) {
                fs::remove_file(entry.path()).context("removing a package of an older image")?;
            }
        }
        let mut sources = Vec::new();
        for entry in fs::read_dir(self.config.with_file_name("sources"))?.flatten() {
            if entry.metadata()?.len() > 0 {
                sources.push(entry.path());
            }
        }
        Ok(Packages { manifest: lines.join("\n"), guest, tools, sources })
    }

    /// The newest kernel's package.
    async fn kernel_package(&self, arch: Arch) -> Result<String> {
        let metapackage = format!("{}:{}", arch.kernel_metapackage(), arch.debian());
        let shown = self
            .run("apt-cache")
            .args(["--no-all-versions", "show", &metapackage])
            .output()
            .await?;
        first_dependency(&shown)
            .with_context(|| format!("{metapackage} depends on no kernel:\n{shown}"))
    }

    /// Makes sure that the packages are in `archives`; returns their manifest lines and their
    /// files.
    async fn download(
        &self,
        cache: &Locked,
        archives: &Path,
        packages: &[String],
    ) -> Result<(Vec<String>, Vec<PathBuf>)> {
        let uris =
            self.run("apt-get").args(["--print-uris", "download"]).args(packages).output().await?;
        let offers = offers(&uris)?;
        let missing: Vec<_> = packages
            .iter()
            .zip(&offers)
            .filter(|(_, offer)| !is_there(&archives.join(&offer.file), offer))
            .map(|(package, _)| package)
            .collect();
        if !missing.is_empty() {
            let work = cache.work_folder()?;
            self.run("apt-get").arg("download").args(&missing).folder(work.path()).output().await?;
            for offer in &offers {
                let fresh = work.path().join(&offer.file);
                if fresh.exists() {
                    fs::rename(&fresh, archives.join(&offer.file))?;
                }
            }
        }
        let mut files = Vec::new();
        for offer in &offers {
            let file = archives.join(&offer.file);
            if !is_there(&file, offer) {
                bail!("{} is not what the list of packages says (size or SHA-256)", file.display());
            }
            files.push(file);
        }
        let lines = offers.iter().map(|offer| format!("{} {}", offer.file, offer.sha256)).collect();
        Ok((lines, files))
    }
}

fn is_there(file: &Path, offer: &Offer) -> bool {
    file.metadata().is_ok_and(|meta| meta.len() == offer.size)
        && cache::sha256(file).is_ok_and(|sum| sum == offer.sha256)
}

/// Reads `apt-get --print-uris download`: `'URI' FILE SIZE SHA256:HEX`.
fn offers(text: &str) -> Result<Vec<Offer>> {
    let parse = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let file = words.next()?.to_owned();
        let size = words.next()?.parse().ok()?;
        let sha256 = words.next()?.strip_prefix("SHA256:")?.to_owned();
        Some(Offer { file, size, sha256 })
    };
    text.lines()
        .filter(|line| line.starts_with('\''))
        .map(|line| parse(line).with_context(|| format!("not understood in apt's answer: {line}")))
        .collect()
}

/// The first package of the field `Depends`, without version and architecture.
fn first_dependency(shown: &str) -> Option<String> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends:"))?;
    let first = depends.split([',', '|']).next()?.split_whitespace().next()?;
    Some(first.split(':').next()?.to_owned()).filter(|name| name.starts_with("linux-image-"))
}

/// The system's settings of proxies and transports, in the format of apt's configuration.
pub(crate) async fn system_network_settings() -> Result<String> {
    let dump = Run::new("apt-config").arg("dump").output().await?;
    let wanted = |line: &&str| {
        let name = line.to_ascii_lowercase();
        ["acquire::http", "acquire::https", "acquire::ftp", "acquire::proxy"]
            .iter()
            .any(|p| name.starts_with(p))
    };
    Ok(dump.lines().filter(wanted).map(|line| format!("{line}\n")).collect())
}

/// Writes the Debian part of the system's sources to a private folder.
fn write_sources(folder: &Path) -> Result<()> {
    let (mut lists, mut stanzas) = (String::new(), String::new());
    if let Some(file) = std::env::var_os(SOURCES_VARIABLE) {
        stanzas = fs::read_to_string(&file).with_context(|| {
            format!("reading {SOURCES_VARIABLE}={}", Path::new(&file).display())
        })?;
    } else {
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            match file.extension().map(OsString::from) {
                Some(extension) if extension == "list" => lists += &debian_lines(&text),
                Some(extension) if extension == "sources" => stanzas += &debian_stanzas(&text),
                _ => {}
            }
        }
        if lists.is_empty() && stanzas.is_empty() {
            bail!(
                "apt has no Debian source here (/etc/apt/sources.list and sources.list.d); \
                 name a file of sources in deb822 format by {SOURCES_VARIABLE}"
            );
        }
    }
    fs::write(folder.join("system.list"), lists)?;
    fs::write(folder.join("system.sources"), stanzas)?;
    Ok(())
}

/// Whether the words of a source are those of Debian itself: third parties' sources have other
/// components.
fn is_debian(words: &str) -> bool {
    let has = |word: &str| words.split_whitespace().any(|other| other == word);
    has("main") && words.contains("debian") && !words.contains("ubuntu")
}

/// The Debian lines of a `.list` file, for every architecture.
fn debian_lines(text: &str) -> String {
    let lines =
        text.lines().filter(|line| line.trim_start().starts_with("deb ") && is_debian(line));
    lines
        .map(|line| {
            let words = line.split_whitespace().map(|word| {
                // `[arch=amd64 signed-by=X]` loses its first half.
                let bare = word.trim_start_matches('[').trim_end_matches(']');
                if !bare.starts_with("arch=") {
                    return word.to_owned();
                }
                let kept = word.replace(bare, "");
                if kept == "[]" { String::new() } else { kept }
            });
            words.collect::<Vec<_>>().join(" ") + "\n"
        })
        .collect()
}

/// The Debian stanzas of a `.sources` file, for every architecture.
fn debian_stanzas(text: &str) -> String {
    let uncommented: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    uncommented
        .split("\n\n")
        .filter(|stanza| is_debian(stanza) && !stanza.to_ascii_lowercase().contains("enabled: no"))
        .map(|stanza| {
            let lines = stanza
                .lines()
                .filter(|line| !line.to_ascii_lowercase().starts_with("architectures:"));
            lines
                .filter(|line| !line.is_empty())
                .map(|line| format!("{line}\n"))
                .collect::<String>()
                + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_sources_are_kept_for_every_architecture() {
        let stanzas = "# note\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n\
                       Architectures: amd64\n\nTypes: deb\nURIs: https://other.example/apt\nSuites: x\nComponents: main\n";
        let kept = debian_stanzas(stanzas);
        assert!(
            kept.contains("mirror.example") && !kept.contains("Arch") && !kept.contains("other"),
            "{kept}"
        );

        let lines = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main\n\
                     deb [arch=amd64] http://mirror.example/debian sid main\n\
                     deb https://other.example/linux/debian bookworm stable\n";
        assert_eq!(
            debian_lines(lines),
            "deb [ signed-by=/k.gpg] http://mirror.example/debian bookworm main\n\
             deb  http://mirror.example/debian sid main\n"
        );
    }

    #[test]
    fn answers_of_apt_are_understood() {
        let text = "'http://mirror.example/b.deb' b_1%3a2_amd64.deb 12 SHA256:ab\n";
        let offer = Offer { file: "b_1%3a2_amd64.deb".into(), size: 12, sha256: "ab".into() };
        assert_eq!(offers(text).unwrap(), [offer]);
        assert!(offers("'http://mirror.example/b.deb' b\n").is_err());
        let shown = "Package: m\nDepends: linux-image-6.1.0-cloud-amd64 (= 6.1), other\n";
        assert_eq!(first_dependency(shown).unwrap(), "linux-image-6.1.0-cloud-amd64");
        assert_eq!(first_dependency("Package: m\n"), None);
    }
}
