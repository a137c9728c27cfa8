//! What an exporter file says of an `opendal`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::ConfinedFolder;
use jumpstarter_storage::{HttpFiles, StorageDriver, serving};

/// The scheme of folders.
const FOLDER: &str = "fs";
/// The scheme of HTTP servers.
const HTTP: &str = "http";
/// The schemes that this program has.
const SCHEMES: &[&str] = &[FOLDER, HTTP];
/// The settings of [`FOLDER`]. The second is OpenDAL's: every write is atomic here.
const FOLDER_SETTINGS: &[&str] = &["root", "atomic_write_dir"];
/// The settings of [`HTTP`].
const HTTP_SETTINGS: &[&str] = &["endpoint", "root"];

/// Stores files in a folder of the exporter's host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpendalConfig {
    /// Where files are stored: `fs`, a folder, or `http`, a server that is only read.
    pub(crate) scheme: String,
    /// The settings of the scheme. `fs` has `root`, the folder; it is made if it is missing.
    /// `http` has `endpoint`, the URL of the server, and `root`, a path on it.
    #[serde(default)]
    pub(crate) kwargs: BTreeMap<String, Secret>,
    /// Removes what was made through the driver when it is closed.
    #[serde(default)]
    pub(crate) remove_created_on_close: bool,
}

impl OpendalConfig {
    fn setting(&self, name: &str) -> Option<&str> {
        self.kwargs.get(name).map(Secret::expose).filter(|setting| !setting.is_empty())
    }
}

#[async_trait]
impl DriverConfig for OpendalConfig {
    const NAME: &'static str = "opendal";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_opendal.driver.Opendal"];
    const SYNONYMS: &'static [(&'static str, &'static str)] =
        &[("service", "scheme"), ("settings", "kwargs"), ("options", "kwargs")];
    type Driver = StorageDriver;

    fn check(&self) -> Vec<ConfigProblem> {
        if !SCHEMES.contains(&self.scheme.as_str()) {
            let scheme = self.scheme.escape_debug();
            let problem = ConfigProblem::new("scheme", format!("`{scheme}` is not available here"));
            let schemes = suggest::list(SCHEMES.iter().copied());
            return vec![problem.with_hint(format!(
                "this program has {schemes}; `python: true` beside `type` opens the driver in \
                 Python, which has others"
            ))];
        }
        let mut found = Vec::new();
        let (settings, required, example) = match self.scheme.as_str() {
            HTTP => (HTTP_SETTINGS, "endpoint", "http://files.lab"),
            _ => (FOLDER_SETTINGS, "root", "/srv/files"),
        };
        for name in self.kwargs.keys().filter(|name| !settings.contains(&name.as_str())) {
            let name = name.escape_debug();
            let message = format!("`{}` has no setting `{name}`", self.scheme);
            let hint = suggest::hint(&name.to_string(), settings.iter().copied());
            found.push(ConfigProblem::new("kwargs", message).with_hint(hint));
        }
        if self.setting(required).is_none() {
            let problem = ConfigProblem::new("kwargs", format!("`{required}` is missing"));
            found.push(problem.with_hint(format!("write `kwargs: {{{required}: {example}}}`")));
        }
        found
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        let root = self.setting("root").filter(|_| self.scheme == FOLDER).map(Path::new);
        root.map_or_else(Vec::new, |root| serving::folder_problems("kwargs", root))
    }

    async fn open(self, _: OpenContext) -> Result<StorageDriver> {
        if self.scheme == HTTP {
            let setting = |name| self.kwargs.get(name).cloned().map(Secret::resolve).transpose();
            let endpoint = setting("endpoint")?;
            let endpoint =
                endpoint.ok_or_else(|| Error::invalid_argument("`endpoint` is missing"))?;
            let root = setting("root")?;
            let files = HttpFiles::new(endpoint.expose(), root.as_ref().map_or("", Secret::expose));
            return Ok(StorageDriver::new(Arc::new(files?), self.remove_created_on_close));
        }
        let root = self.kwargs.get("root").cloned();
        let root = root.ok_or_else(|| Error::invalid_argument("`root` is missing"))?.resolve()?;
        let folder = blocking(move || Ok(ConfinedFolder::create(root.expose())?)).await?;
        Ok(StorageDriver::folder(Arc::new(folder), self.remove_created_on_close))
    }
}
register_driver!(OpendalConfig);
