//! Reading an exporter file.

use std::io::Read;
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::{Device, Error, Planned, Registry, Result};

use super::check::Checker;
use super::entries::Entries;
use super::fault::{At, ConfigFaults, ConfigWarnings, Fault, Place, join};
use super::hosted::HostedEntry;
use super::hosting::Hosting;
use super::paths::{self, Bases};
use super::settings::Settings;
use super::words::unknown_field;
use super::yaml::{self, Value};
use super::{document, folders, hooks, schema, secrets};

/// An exporter file: the drivers of a device, and how it is served.
///
/// Reading touches no hardware; [`ExporterConfig::open`] does. The format is that of the Python
/// exporter. Unknown fields at the top of the file are warnings, since newer exporters may have
/// them; elsewhere they are faults.
///
/// ```
/// use jumpstarter_config::ExporterConfig;
///
/// let config = ExporterConfig::parse("export: {lab: {children: {}}}", "lab.yaml").unwrap();
/// assert_eq!(config.export[0].name(), "lab");
///
/// let faults = ExporterConfig::parse("export: {lab: {chidren: {}}}", "lab.yaml").unwrap_err();
/// assert_eq!(
///     faults.to_string(),
///     "lab.yaml:1:16: export.lab.chidren: unknown field; did you mean `children`?"
/// );
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExporterConfig {
    /// The file's name in messages: its path.
    pub origin: String,
    /// Everything but the drivers.
    pub settings: Settings,
    /// The drivers of the device, in the order of the file.
    pub export: Vec<Planned>,
    /// Findings that are not faults but may be mistakes.
    pub warnings: ConfigWarnings,
    hosted: Vec<HostedEntry>,
}

impl ExporterConfig {
    /// Reads the text of a file that messages call `origin`, with the [drivers that are
    /// linked](Registry::linked). As [`Reader::parse`].
    ///
    /// # Errors
    /// All faults of the file, at once.
    pub fn parse(text: &str, origin: &str) -> std::result::Result<Self, ConfigFaults> {
        Reader::new(Registry::linked()).parse(text, origin)
    }

    /// Reads a file, with the [drivers that are linked](Registry::linked). As [`Reader::load`].
    ///
    /// # Errors
    /// As [`ExporterConfig::parse`]; a file that cannot be read is one fault without a place.
    pub fn load(path: impl AsRef<Path>) -> std::result::Result<Self, ConfigFaults> {
        Reader::new(Registry::linked()).load(path)
    }

    /// Reads everything from `input`, with the [drivers that are linked](Registry::linked). As
    /// [`Reader::read`].
    ///
    /// # Errors
    /// As [`ExporterConfig::load`].
    pub fn read(input: impl Read, origin: &str) -> std::result::Result<Self, ConfigFaults> {
        Reader::new(Registry::linked()).read(input, origin)
    }

    /// The entries whose drivers this program lacks, or that ask for those in Python: each is
    /// hosted, with all that is below it.
    pub fn hosted(&self) -> &[HostedEntry] {
        &self.hosted
    }

    /// The same file after a look from outside, with what was found to be wrong with it.
    ///
    /// # Errors
    /// The faults, if there are any.
    pub fn with_findings(
        mut self,
        faults: Vec<Fault>,
        warnings: Vec<Fault>,
    ) -> std::result::Result<Self, ConfigFaults> {
        if !faults.is_empty() {
            return Err(ConfigFaults::new(&self.origin, faults));
        }
        let all = self.warnings.iter().cloned().chain(warnings).collect();
        self.warnings = ConfigWarnings::new(all);
        Ok(self)
    }

    /// Opens the drivers of the file.
    ///
    /// # Errors
    /// The error of the first driver that fails; drivers that are already open are closed.
    pub async fn open(&self) -> Result<Device> {
        Device::open(&self.export).await
    }

    /// The device before it is opened, as far as the file shows it: for help.
    ///
    /// As [`Device::unopened`].
    pub fn unopened(&self) -> Option<Device> {
        Device::unopened(&self.export)
    }

    /// The path of the file of the exporter called `alias`: in the first of the
    /// [folders](ExporterConfig::folders) that has it.
    ///
    /// # Errors
    /// `InvalidArgument` for an alias that is not a plain file name, `NotFound` with the searched
    /// places.
    pub fn find(alias: &str) -> Result<PathBuf> {
        let file = Self::file_name(alias)?;
        let files: Vec<PathBuf> = Self::folders().iter().map(|folder| folder.join(&file)).collect();
        files.iter().find(|file| file.is_file()).cloned().ok_or_else(|| {
            let places: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            Error::not_found(format!("there is no exporter `{alias}`"))
                .with_hint(format!("looked for {}", places.join(" and ")))
        })
    }

    /// The folders in which exporter files are looked up: `exporters/` in the user's configuration
    /// (`$JMP_CLIENT_CONFIG_HOME`, else `$XDG_CONFIG_HOME/jumpstarter`, else
    /// `~/.config/jumpstarter`), if there is a user, and last `/etc/jumpstarter/exporters`.
    pub fn folders() -> Vec<PathBuf> {
        folders::user_folder()
            .map(|home| home.join("exporters"))
            .into_iter()
            .chain(["/etc/jumpstarter/exporters".into()])
            .collect()
    }

    /// The name of an alias's file in its folder.
    ///
    /// # Errors
    /// `InvalidArgument` for an alias that is not a plain file name, or starts with a dot.
    pub fn file_name(alias: &str) -> Result<String> {
        folders::file_name("exporter", alias)
    }
}

/// Reads exporter files with the drivers of a registry.
///
/// ```
/// use jumpstarter_config::Reader;
/// use jumpstarter_driver_core::{CompositeConfig, Registry};
///
/// let registry = Registry::new().with::<CompositeConfig>();
/// let text = "export: {rack: {type: composite}}";
/// assert!(Reader::new(&registry).parse(text, "lab.yaml").is_ok());
/// assert!(Reader::new(&Registry::new()).parse(text, "lab.yaml").is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    registry: &'a Registry,
}

impl<'a> Reader<'a> {
    /// Makes a reader for files that name drivers of `registry`.
    pub fn new(registry: &'a Registry) -> Self {
        Self { registry }
    }

    /// Reads the text of a file that messages call `origin`. Relative paths are looked up in the
    /// working directory.
    ///
    /// # Errors
    /// All faults of the file, at once. A syntax error hides everything after it, and the `config`
    /// of an unknown driver is not checked.
    pub fn parse(
        &self,
        text: &str,
        origin: &str,
    ) -> std::result::Result<ExporterConfig, ConfigFaults> {
        self.parse_in(text, origin, None)
    }

    /// As [`parse`](Self::parse), for a file in `folder`.
    fn parse_in(
        &self,
        text: &str,
        origin: &str,
        folder: Option<&Path>,
    ) -> std::result::Result<ExporterConfig, ConfigFaults> {
        let mut root = document::parse(text).map_err(|faults| ConfigFaults::new(origin, faults))?;
        accept_python_names(&mut root);
        shorten_proxies(&mut root);

        let start = At { path: String::new(), owner: Place { line: 1, column: 1 } };
        let (of_settings, definitions) = schema::of_settings();
        let bases = Bases::new(folder);
        let python = root.get("python").and_then(|entry| entry.value.text());
        let python = python.map(|python| bases.program(python));
        let mut hosting = match root.get("export") {
            Some(export) => {
                Hosting::decide(self.registry, &export.value, folder, python.as_deref())
            }
            None => Hosting::default(),
        };
        let hosted = std::mem::take(&mut hosting.entries);
        let impossible = std::mem::take(&mut hosting.faults);
        let mut loader = Entries::new(self.registry, bases.clone(), origin, hosting);
        loader.warnings = unknown_at_the_top(&of_settings, &mut root);
        let checker = Checker::new(definitions);
        checker.check(&of_settings, &root, &start, &mut loader.faults);
        let export = root
            .get("export")
            .map(|entry| loader.export(&entry.value, entry.place))
            .unwrap_or_default();

        let (mut faults, mut warnings) = (loader.faults, loader.warnings);
        faults.extend(impossible);
        let mut settings = Settings::default();
        if faults.is_empty() {
            let mut value = root.value.to_json();
            if let Some(fields) = value.as_object_mut() {
                fields.retain(|key, _| key != "export");
            }
            paths::decide(&checker, &of_settings, &mut value, &bases);
            let place = (&root, &start);
            warnings.extend(secrets::place(&checker, &of_settings, &mut value, place, origin));
            match serde_path_to_error::deserialize(value) {
                Ok(read) => {
                    settings = read;
                    warnings.extend(hooks::decide(&mut settings.hooks, &root, &bases));
                }
                Err(error) => faults.push(document::misfit(&root, &error)),
            }
        }
        match faults.is_empty() {
            true => {
                let warnings = ConfigWarnings::new(warnings);
                let origin = origin.to_owned();
                Ok(ExporterConfig { origin, settings, export, warnings, hosted })
            }
            false => Err(ConfigFaults::new(origin, faults)),
        }
    }

    /// Reads a file. Relative paths are looked up in its folder, then in the working directory.
    ///
    /// # Errors
    /// As [`Reader::parse`]; a file that cannot be read is one fault without a place.
    pub fn load(
        &self,
        path: impl AsRef<Path>,
    ) -> std::result::Result<ExporterConfig, ConfigFaults> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        let file =
            std::fs::File::open(path).map_err(|error| document::unreadable(&origin, &error))?;
        self.read_in(file, &origin, Some(path.parent().unwrap_or(Path::new("/"))))
    }

    /// Reads everything from `input`, such as standard input, which messages call `origin`.
    ///
    /// # Errors
    /// As [`Reader::load`].
    pub fn read(
        &self,
        input: impl Read,
        origin: &str,
    ) -> std::result::Result<ExporterConfig, ConfigFaults> {
        self.read_in(input, origin, None)
    }

    fn read_in(
        &self,
        input: impl Read,
        origin: &str,
        folder: Option<&Path>,
    ) -> std::result::Result<ExporterConfig, ConfigFaults> {
        self.parse_in(&document::text(input, origin)?, origin, folder)
    }
}

/// Takes unknown fields out of the top of the file.
fn unknown_at_the_top(schema: &serde_json::Value, root: &mut yaml::Node) -> Vec<Fault> {
    let Value::Map(entries) = &mut root.value else { return Vec::new() };
    let known = schema.get("properties").and_then(serde_json::Value::as_object);
    let known: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let unknown = entries.extract_if(.., |entry| !known.contains(&entry.key.as_str()));
    let warning = |entry: yaml::Entry| {
        let warning = unknown_field(&entry.key, entry.place, &join("", &entry.key), &known, &[]);
        match ["type", "ref"].iter().any(|key| entry.value.get(key).is_some()) {
            true => warning.hint(format!(
                "a driver is written under `export:`, as `export: {{{}: …}}`",
                entry.key
            )),
            false => warning,
        }
    };
    unknown.map(warning).collect()
}

/// Accepts the names that the Python exporter's attributes have for the hooks' fields, as it does.
fn accept_python_names(root: &mut yaml::Node) {
    const FIELDS: [(&str, &str); 4] = [
        ("before_lease", "beforeLease"),
        ("after_lease", "afterLease"),
        ("on_failure", "onFailure"),
        ("exec_", "exec"),
    ];
    fn rename(node: &mut yaml::Node) {
        let Value::Map(entries) = &mut node.value else { return };
        for (python, name) in FIELDS {
            if entries.iter().all(|entry| entry.key != name) {
                entries
                    .iter_mut()
                    .filter(|entry| entry.key == python)
                    .for_each(|entry| entry.key = name.to_owned());
            }
        }
    }
    let Value::Map(entries) = &mut root.value else { return };
    for hooks in entries.iter_mut().filter(|entry| entry.key == "hooks") {
        rename(&mut hooks.value);
        if let Value::Map(hooks) = &mut hooks.value.value {
            hooks.iter_mut().for_each(|hook| rename(&mut hook.value));
        }
    }
}

/// Makes `{ref: TARGET}` of each proxy that is written as a driver of Python:
/// `{type: jumpstarter_driver_composite.driver.Proxy, config: {ref: TARGET}}`.
fn shorten_proxies(root: &mut yaml::Node) {
    const PROXY: &str = "jumpstarter_driver_composite.driver.Proxy";
    fn below(children: &mut yaml::Node) {
        let Value::Map(children) = &mut children.value else { return };
        for entry in children.iter_mut().map(|child| &mut child.value) {
            shorten(entry);
            let Value::Map(fields) = &mut entry.value else { continue };
            fields.iter_mut().filter(|field| field.key == "children").for_each(|field| {
                below(&mut field.value);
            });
        }
    }
    fn shorten(entry: &mut yaml::Node) {
        if entry.get("type").and_then(|kind| kind.value.text()) != Some(PROXY) {
            return;
        }
        let Some([target]) = entry.get("config").map(|config| config.value.entries()) else {
            return;
        };
        if target.key != "ref" {
            return;
        }
        let target = target.clone();
        if let Value::Map(fields) = &mut entry.value {
            fields.retain(|field| !matches!(field.key.as_str(), "type" | "config"));
            fields.push(target);
        }
    }
    let Value::Map(entries) = &mut root.value else { return };
    entries.iter_mut().filter(|entry| entry.key == "export").for_each(|entry| {
        below(&mut entry.value);
    });
}
