//! Paths in exporter files: where relative ones lead, in drivers' configurations and in hooks.

use std::collections::BTreeMap;

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::ConfigProblem;
use jumpstarter_driver_core::prelude::*;

struct Nothing;

impl Driver for Nothing {}

/// Paths in every place of a configuration are looked for from the file's folder, then from the
/// working directory.
#[test]
fn paths() {
    let folder = tempfile::tempdir().unwrap();
    let [file, image] = ["lab.yaml", "image.img"].map(|name| folder.path().join(name));
    std::fs::write(&image, "").unwrap();
    std::fs::write(folder.path().join("hook.sh"), "true").unwrap();
    let text = "export: {a: {type: test-files, config: {one: image.img, map: {x: image.img, y: Cargo.toml}, \
                list: [/dev/null, nowhere], either: {path: image.img}}}}\n\
                hooks:\n  beforeLease: {script: hook.sh, exec: ./image.img}\n  afterLease: {script: ./gone.sh}\n";
    std::fs::write(&file, text).unwrap();
    let config = ExporterConfig::load(&file).unwrap();
    let read = config.export[0].config();
    let read: FilesConfig = serde_json::from_value(read.clone()).unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(read.one.as_path(), image);
    assert_eq!(
        (read.map["x"].as_path(), read.map["y"].as_path()),
        (&*image, &*here.join("Cargo.toml"))
    );
    assert_eq!(
        (read.list[0].as_path(), read.list[1].as_path()),
        ("/dev/null".as_ref(), &*folder.path().join("nowhere"))
    );
    assert!(
        matches!(&read.either, Some(Either::File { path }) if path.as_path() == image),
        "{read:?}"
    );
    let hook = config.settings.hooks.before_lease.as_ref().unwrap();
    assert_eq!(hook.script, folder.path().join("hook.sh").to_str().unwrap());
    assert_eq!(hook.exec.as_deref(), image.to_str());
    let [file, folder, here] =
        [file.as_path(), folder.path(), &here].map(|path| path.display().to_string());
    assert_eq!(
        config.warnings.to_text(&file),
        format!(
            "{file}:1:99: warning: export.a.config.list: there is no `nowhere`; looked for `{folder}/nowhere` and \
             `{here}/nowhere`\n\
             {file}:4:24: warning: hooks.afterLease.script: there is no file `./gone.sh`: it will be run as a command; \
             looked for `{folder}/gone.sh` and `{here}/gone.sh`\n"
        )
    );
}

/// A driver whose configuration has paths in every place.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FilesConfig {
    one: HostPath,
    #[serde(default)]
    map: BTreeMap<String, HostPath>,
    #[serde(default)]
    list: Vec<HostPath>,
    #[serde(default)]
    either: Option<Either>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Either {
    File { path: HostPath },
    Number(#[expect(dead_code, reason = "only read from files")] u8),
}

#[async_trait]
impl DriverConfig for FilesConfig {
    const NAME: &'static str = "test-files";
    type Driver = Nothing;

    fn warnings(&self) -> Vec<ConfigProblem> {
        let missing = self.list.iter().filter_map(|path| path.find().err());
        missing
            .map(|error| {
                ConfigProblem::new("list", error.to_string())
                    .with_hint(error.hint().unwrap_or_default())
            })
            .collect()
    }

    async fn open(self, _: OpenContext) -> Result<Nothing> {
        Ok(Nothing)
    }
}

register_driver!(FilesConfig);
