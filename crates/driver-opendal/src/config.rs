//! What an exporter file says of an `opendal`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::ConfinedFolder;
use jumpstarter_storage::{Backend, HttpFiles, StorageDriver, serving};

/// The scheme of folders.
const FOLDER: &str = "fs";
/// The scheme of HTTP servers.
const HTTP: &str = "http";
/// The scheme of the exporter's memory.
const MEMORY: &str = "memory";
/// The scheme of buckets.
const S3: &str = "s3";
/// The schemes that this program has.
const SCHEMES: &[&str] = &[
    FOLDER,
    HTTP,
    #[cfg(feature = "memory")]
    MEMORY,
    #[cfg(feature = "s3")]
    S3,
];
/// How much is stored in memory by default.
#[cfg(feature = "memory")]
const MEMORY_LIMIT: u64 = 256 << 20;

/// Which settings a scheme has: by their names, with the required one and an example of it.
fn settings(scheme: &str) -> (&'static [&'static str], Option<(&'static str, &'static str)>) {
    match scheme {
        HTTP => (&["endpoint", "root"], Some(("endpoint", "http://files.lab"))),
        MEMORY => (&["root"], None),
        S3 => (
            // Those that users write most often; OpenDAL has others, which are accepted.
            &[
                "bucket",
                "root",
                "endpoint",
                "region",
                "access_key_id",
                "secret_access_key",
                "session_token",
                "profile",
                "skip_signature",
                "enable_virtual_host_style",
            ],
            Some(("bucket", "images")),
        ),
        // The second is OpenDAL's: every write is atomic here.
        _ => (&["root", "atomic_write_dir"], Some(("root", "/srv/files"))),
    }
}

/// Whether a scheme has a setting.
fn has(scheme: &str, name: &str) -> bool {
    #[cfg(feature = "s3")]
    if scheme == S3 {
        return jumpstarter_storage::Services::is_s3_setting(name);
    }
    settings(scheme).0.contains(&name)
}

/// Stores files in a folder of the exporter's host, in its memory, or in a bucket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpendalConfig {
    /// Where files are stored: `fs`, a folder; `memory`, the exporter's memory; `s3`, a bucket; or
    /// `http`, a server that is only read.
    pub(crate) scheme: String,
    /// The settings of the scheme. `fs` has `root`, the folder; it is made if it is missing.
    /// `http` has `endpoint`, the URL of the server, and `root`, a path on it. `s3` has OpenDAL's:
    /// `bucket`, `endpoint`, `region`, `access_key_id`, `secret_access_key` and others.
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

    /// What is wrong with the settings of a bucket.
    #[cfg(feature = "s3")]
    fn bucket_problem(&self) -> Option<ConfigProblem> {
        let settings = self.kwargs.iter().filter_map(|(name, setting)| {
            // Of what is elsewhere only its presence is known.
            let is_needed = ["bucket", "endpoint", "region"].iter().any(|part| name.contains(part));
            match setting.is_elsewhere() {
                true => is_needed.then(|| (name.clone(), "elsewhere".to_owned())),
                false => Some((name.clone(), setting.expose().to_owned())),
            }
        });
        let mut problem = jumpstarter_storage::Services::s3_problem(settings.collect())?;
        let field = format!("kwargs.{}", problem.field);
        field.trim_end_matches('.').clone_into(&mut problem.field);
        Some(problem)
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
        let (settings, required) = settings(&self.scheme);
        for name in self.kwargs.keys().filter(|name| !has(&self.scheme, name)) {
            let name = name.escape_debug();
            let message = format!("`{}` has no setting `{name}`", self.scheme);
            let hint = suggest::hint(&name.to_string(), settings.iter().copied());
            found.push(ConfigProblem::new(format!("kwargs.{name}"), message).with_hint(hint));
        }
        if let Some((required, example)) = required
            && !self.kwargs.get(required).is_some_and(Secret::is_elsewhere)
            && self.setting(required).is_none()
        {
            let problem = ConfigProblem::new("kwargs", format!("`{required}` is missing"));
            found.push(problem.with_hint(format!("write `kwargs: {{{required}: {example}}}`")));
        }
        #[cfg(feature = "s3")]
        if self.scheme == S3 && found.is_empty() {
            found.extend(self.bucket_problem());
        }
        found
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        let root = self.setting("root").filter(|_| self.scheme == FOLDER).map(Path::new);
        root.map_or_else(Vec::new, |root| serving::folder_problems("kwargs", root))
    }

    async fn open(self, _: OpenContext) -> Result<StorageDriver> {
        let resolve = |(name, setting): (String, Secret)| Ok((name, setting.resolve()?));
        let settings = blocking(move || self.kwargs.into_iter().map(resolve).collect());
        let settings: BTreeMap<String, Secret> = settings.await?;
        let setting = |name| settings.get(name).map(Secret::expose).unwrap_or_default();
        let backend: Arc<dyn Backend> = match self.scheme.as_str() {
            HTTP => Arc::new(HttpFiles::new(setting("endpoint"), setting("root"))?),
            #[cfg(feature = "memory")]
            MEMORY => {
                Arc::new(jumpstarter_storage::Services::memory(setting("root"), MEMORY_LIMIT)?)
            }
            #[cfg(feature = "s3")]
            S3 => {
                let settings = settings.iter();
                let settings =
                    settings.map(|(name, setting)| (name.clone(), setting.expose().to_owned()));
                Arc::new(jumpstarter_storage::Services::s3(settings.collect())?)
            }
            _ => {
                let root = setting("root").to_owned();
                let folder = blocking(move || Ok(ConfinedFolder::create(root)?)).await?;
                let folder = Arc::new(folder);
                return Ok(StorageDriver::folder(folder, self.remove_created_on_close));
            }
        };
        Ok(StorageDriver::new(backend, self.remove_created_on_close))
    }
}
register_driver!(OpendalConfig);
