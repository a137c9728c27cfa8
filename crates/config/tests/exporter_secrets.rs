//! Secrets that an exporter file does not hold: `{env: NAME}` and `{file: PATH}`.

#![expect(clippy::unwrap_used, reason = "a test driver fails its test")]

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::ValueStream;
use jumpstarter_driver_core::prelude::*;

/// What a vault holds.
#[config]
#[derive(Debug)]
struct VaultConfig {
    /// What opens it.
    password: Secret,
    /// More of them.
    #[serde(default)]
    doors: Vec<Door>,
}

/// A door.
#[config]
#[derive(Debug)]
struct Door {
    /// What opens it.
    key: Secret,
}

#[derive(Debug)]
struct Vault(VaultConfig);

/// Shows what was read.
#[interface(name = "vault", client = "acme.client.VaultClient")]
trait Reads {
    /// Every secret.
    async fn secrets(&self) -> Result<Vec<String>>;
    /// Streams them.
    async fn read(&self) -> Result<ValueStream<String>>;
}

#[async_trait]
impl Reads for Vault {
    async fn secrets(&self) -> Result<Vec<String>> {
        let doors = self.0.doors.iter().map(|door| &door.key);
        Ok(std::iter::once(&self.0.password).chain(doors).map(|one| one.expose().into()).collect())
    }
    async fn read(&self) -> Result<ValueStream<String>> {
        Err(Error::unimplemented("once is enough"))
    }
}

impl Driver for Vault {
    interfaces!(Reads);
}

#[async_trait]
impl DriverConfig for VaultConfig {
    const NAME: &'static str = "test-vault";
    type Driver = Vault;
    async fn open(self, _: OpenContext) -> Result<Vault> {
        Ok(Vault(self))
    }
}
register_driver!(VaultConfig);

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, config: &str) -> ExporterConfig {
        let text = format!("export:\n  vault: {{type: test-vault, config: {config}}}\n");
        ExporterConfig::load(self.write("lab.yaml", &text)).unwrap()
    }
}

#[tokio::test]
async fn secrets_are_read_when_the_device_is_opened() {
    let lab = Lab::new();
    lab.write("key", "k3y\n");
    let path = std::env::var("PATH").unwrap();
    let config = lab.load("{password: {env: PATH}, doors: [{key: written}, {key: {file: key}}]}");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    for key in ["k3y", "changed"] {
        let device = config.open().await.unwrap();
        let secrets = device.get::<dyn Reads>("vault").unwrap().secrets().await.unwrap();
        assert_eq!(secrets, [path.as_str(), "written", key], "a relative path is in the folder");
        lab.write("key", "changed\n");
    }
    assert!(!format!("{config:?}").contains("written"), "{config:?}");
}

#[tokio::test]
async fn what_is_not_there_is_a_warning_and_an_error_at_opening_with_its_place() {
    let lab = Lab::new();
    let config = lab.load("{password: open, doors: [{key: {file: none}}, {key: {env: NO_SUCH}}]}");
    let warnings = config.warnings.to_text("lab.yaml");
    let (file, env) = warnings.split_once('\n').unwrap();
    let place = "lab.yaml:2:68: warning: export.vault.config.doors[0].key: there is no `none`";
    assert!(file.starts_with(place), "{file}");
    let place = "lab.yaml:2:89: warning: export.vault.config.doors[1].key: the environment variable `NO_SUCH` is not set; set it";
    assert!(env.starts_with(place), "{env}");
    let error = config.open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = format!("{error:#}");
    let place = "lab.yaml:2:68: export.vault.config.doors[0].key: there is no `none`";
    assert!(text.starts_with("opening `vault` (driver test-vault): "), "{text}");
    assert!(text.ends_with(place), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("looked for")), "{error:?}");
}

#[test]
fn other_forms_are_faults_without_the_value() {
    let parse = |password: &str| {
        let text =
            format!("export: {{vault: {{type: test-vault, config: {{password: {password}}}}}}}");
        ExporterConfig::parse(&text, "lab.yaml").unwrap_err().to_string()
    };
    let at = "lab.yaml:1:55: export.vault.config.password: ";
    let expected = "found a number, expected text, `{env: NAME}` or `{file: PATH}`";
    assert_eq!(parse("7353"), format!("{at}{expected}; put it in quotes"));
    assert_eq!(parse("{env: A, file: 7353x}"), format!("{at}name either `env` or `file`"));
    let unknown = parse("{enf: 7353}");
    assert!(unknown.contains("unknown field; did you mean `env`?"), "{unknown}");
    assert_eq!(parse("{}"), format!("{at}name either `env` or `file`"));
}

#[test]
fn the_exporters_own_token_is_found_as_the_secrets_of_drivers() {
    let lab = Lab::new();
    lab.write("token", "t0ken\n");
    let load = |token: &str| {
        let text = format!("endpoint: lab.example:1234\ntoken: {token}\n");
        ExporterConfig::load(lab.write("lab.yaml", &text)).unwrap()
    };
    let config = load("{file: token}");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let token = config.settings.token.unwrap();
    assert!(token.is_elsewhere());
    assert_eq!(token.resolve().unwrap().expose(), "t0ken", "a relative path is in the folder");
    let config = load("{file: none}");
    let place = "lab.yaml:2:8: warning: token: there is no `none`";
    let warnings = config.warnings.to_text("lab.yaml");
    assert!(warnings.starts_with(place), "{warnings}");
    let error = config.settings.token.unwrap().resolve().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
