//! What an exporter file says of an `opendal`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::ConfinedFolder;
use jumpstarter_storage::{StorageDriver, serving};

/// The scheme of folders.
const FOLDER: &str = "fs";
/// The schemes that this program has.
const SCHEMES: &[&str] = &[FOLDER];
/// The settings of [`FOLDER`]. The second is OpenDAL's: every write is atomic here.
const FOLDER_SETTINGS: &[&str] = &["root", "atomic_write_dir"];

/// Stores files in a folder of the exporter's host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpendalConfig {
    /// Where files are stored: `fs`, a folder.
    pub(crate) scheme: String,
    /// The settings of the scheme. `fs` has `root`, the folder; it is made if it is missing.
    #[serde(default)]
    pub(crate) kwargs: BTreeMap<String, Secret>,
    /// Removes what was made through the driver when it is closed.
    #[serde(default)]
    pub(crate) remove_created_on_close: bool,
}

impl OpendalConfig {
    fn root(&self) -> Option<&str> {
        self.kwargs.get("root").map(Secret::expose).filter(|root| !root.is_empty())
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
        for name in self.kwargs.keys().filter(|name| !FOLDER_SETTINGS.contains(&name.as_str())) {
            let name = name.escape_debug();
            let message = format!("`{}` has no setting `{name}`", self.scheme);
            let hint = suggest::hint(&name.to_string(), FOLDER_SETTINGS.iter().copied());
            found.push(ConfigProblem::new("kwargs", message).with_hint(hint));
        }
        if self.root().is_none() {
            let problem = ConfigProblem::new("kwargs", "`root` is missing: the folder");
            found.push(problem.with_hint("write `kwargs: {root: /srv/files}`"));
        }
        found
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        let root = self.root().map(Path::new);
        root.map_or_else(Vec::new, |root| serving::folder_problems("kwargs", root))
    }

    async fn open(self, _: OpenContext) -> Result<StorageDriver> {
        let root = self.kwargs.get("root").cloned();
        let root = root.ok_or_else(|| Error::invalid_argument("`root` is missing"))?.resolve()?;
        let folder = blocking(move || Ok(ConfinedFolder::create(root.expose())?)).await?;
        Ok(StorageDriver::folder(Arc::new(folder), self.remove_created_on_close))
    }
}
register_driver!(OpendalConfig);
