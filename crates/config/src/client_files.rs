//! The client files of a user, and which of them is the current one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use jumpstarter_driver_core::{Error, Result, ResultExt};
use jumpstarter_files::{save_new, save_private};
use serde_json::{Value as Json, json};

use super::client::ClientConfig;
use super::fault::ConfigFaults;
use super::write::to_yaml;
use super::{document, folders};

impl ClientConfig {
    /// The path of the file of the client called `alias`.
    ///
    /// # Errors
    /// `InvalidArgument` for an alias that is not a plain file name, `NotFound` with the searched
    /// place.
    pub fn find(alias: &str) -> Result<PathBuf> {
        ClientFolder::of_user()?.find(alias)
    }

    /// Reads all files of this user's clients, sorted by alias.
    ///
    /// # Errors
    /// The errors of reading their folder. A file with faults is an item.
    pub fn all() -> Result<Vec<std::result::Result<Self, ConfigFaults>>> {
        ClientFolder::of_user()?.all()
    }

    /// The alias of the current client; `None` if there is none, or its file is missing.
    ///
    /// # Errors
    /// The faults of `config.yaml`.
    pub fn current_alias() -> Result<Option<String>> {
        ClientFolder::of_user()?.current()
    }

    /// The current client: the one that `config.yaml` names. `None` if it names none, or one
    /// without a file.
    ///
    /// # Errors
    /// The faults of `config.yaml` or of the client's file.
    pub fn current() -> Result<Option<Self>> {
        let folder = ClientFolder::of_user()?;
        folder.current()?.map(|alias| folder.load(&alias)).transpose()
    }

    /// Makes a client the current one; `None` means that there is no current client.
    ///
    /// # Errors
    /// As [`ClientConfig::find`], the faults of `config.yaml`, and the errors of the file system.
    pub fn set_current(alias: Option<&str>) -> Result<()> {
        ClientFolder::of_user()?.set_current(alias)
    }

    /// Deletes the file of the client called `alias`, and returns its path. If it is the current
    /// client, the first other one becomes current, or none.
    ///
    /// # Errors
    /// As [`ClientConfig::set_current`].
    pub fn delete(alias: &str) -> Result<PathBuf> {
        ClientFolder::of_user()?.delete(alias)
    }

    /// Writes the file, complete or not at all, which only this user can read: at its `path`, or
    /// under its alias in this user's folder. Returns the path.
    ///
    /// # Errors
    /// `InvalidArgument` for an alias that is not a plain file name, and the errors of the file
    /// system.
    pub fn save(&self) -> Result<PathBuf> {
        match &self.path {
            Some(path) => self.write_to(path).map(|()| path.clone()),
            None => {
                let path = ClientFolder::of_user()?.place(&self.alias)?;
                self.write_to(&path).map(|()| path)
            }
        }
    }

    /// Checks that a new client may have this alias.
    ///
    /// # Errors
    /// `InvalidArgument` for an alias that is not a plain file name, `AlreadyExists` for that of a
    /// client.
    pub fn check_new(alias: &str) -> Result<()> {
        let path = ClientFolder::of_user()?.path(alias)?;
        if path.exists() { Err(exists(alias)) } else { Ok(()) }
    }

    /// Writes a new file under its alias in this user's folder, as [`ClientConfig::save`].
    ///
    /// # Errors
    /// `AlreadyExists` if there is a client of that alias, and those of [`ClientConfig::save`].
    pub fn save_new(&self) -> Result<PathBuf> {
        ClientFolder::of_user()?.save_new(self)
    }

    fn write_to(&self, path: &Path) -> Result<()> {
        save_private(path, to_yaml(&self.to_json()).as_bytes())
            .with_context(|| format!("saving {}", path.display()))
    }

    /// The configuration for a command: the file of `alias`, or the file at `path`; else the
    /// [variables](ClientConfig::from_variables); else the current client.
    ///
    /// Where a file names no endpoint or token, the variables do.
    ///
    /// # Errors
    /// `InvalidArgument` if both an alias and a path are given, `FailedPrecondition` if there is
    /// no configuration, and those of the ways.
    pub fn choose(
        alias: Option<&str>,
        path: Option<&Path>,
        variables: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self> {
        let config = match (alias, path) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid_argument(
                    "an alias and a file are given for the client",
                )
                .with_hint("give either `--client ALIAS` or `--client-config FILE`"));
            }
            (Some(alias), None) => ClientFolder::of_user()?.load(alias)?,
            (None, Some(path)) => Self::load(path)?,
            (None, None) => match Self::from_variables(&variables)? {
                Some(config) => return Ok(config),
                None => ClientFolder::of_user()?.chosen()?,
            },
        };
        config.completed_from(&variables)
    }
}

/// The folder of a user's configuration.
struct ClientFolder(PathBuf);

impl ClientFolder {
    fn of_user() -> Result<Self> {
        folders::user_folder().map(Self)
    }

    fn clients(&self) -> PathBuf {
        self.0.join("clients")
    }

    /// The path of an alias's file, which may not exist.
    fn path(&self, alias: &str) -> Result<PathBuf> {
        Ok(self.clients().join(folders::file_name("client", alias)?))
    }

    /// As [`path`](Self::path); its folder exists afterwards.
    fn place(&self, alias: &str) -> Result<PathBuf> {
        let path = self.path(alias)?;
        folders::make_private(&self.clients())?;
        Ok(path)
    }

    fn find(&self, alias: &str) -> Result<PathBuf> {
        let path = self.path(alias)?;
        if path.is_file() {
            return Ok(path);
        }
        let others: Vec<String> = self.files()?.into_iter().map(|(alias, _)| alias).collect();
        let error = Error::not_found(format!("there is no client `{alias}`"));
        Err(match others.is_empty() {
            true => error.with_hint(format!("looked for {}", path.display())),
            false => error.with_hint(format!("the clients are {}", others.join(", "))),
        })
    }

    fn load(&self, alias: &str) -> Result<ClientConfig> {
        Ok(ClientConfig::load(self.find(alias)?)?)
    }

    fn files(&self) -> Result<Vec<(String, PathBuf)>> {
        let folder = self.clients();
        folders::files_with_alias(&folder).with_context(|| format!("reading {}", folder.display()))
    }

    fn all(&self) -> Result<Vec<std::result::Result<ClientConfig, ConfigFaults>>> {
        Ok(self.files()?.iter().map(|(_, path)| ClientConfig::load(path)).collect())
    }

    fn save_new(&self, config: &ClientConfig) -> Result<PathBuf> {
        let path = self.place(&config.alias)?;
        match save_new(&path, to_yaml(&config.to_json()).as_bytes()) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(exists(&config.alias))
            }
            Err(error) => Err(error).with_context(|| format!("saving {}", path.display())),
        }
    }

    fn delete(&self, alias: &str) -> Result<PathBuf> {
        let path = self.find(alias)?;
        // First, so that the current client always has a file.
        if self.current()?.as_deref() == Some(alias) {
            let others = self.files()?;
            let next = others.iter().find(|(other, _)| other != alias);
            self.set_current(next.map(|(other, _)| other.as_str()))?;
        }
        std::fs::remove_file(&path).with_context(|| format!("deleting {}", path.display()))?;
        Ok(path)
    }

    /// The file with the current client's alias.
    fn user_file(&self) -> PathBuf {
        self.0.join("config.yaml")
    }

    /// The contents of `config.yaml`; `None` if there is no such file.
    fn user_config(&self) -> Result<Option<Json>> {
        let path = self.user_file();
        let origin = path.display().to_string();
        match std::fs::File::open(&path) {
            Ok(file) => Ok(Some(document::read_yaml(&document::text(file, &origin)?, &origin)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(document::unreadable(&origin, &error).into()),
        }
    }

    /// The alias that `config.yaml` names.
    fn named(&self) -> Result<Option<String>> {
        match self.user_config()?.as_ref().map(|it| &it["config"]["current-client"]) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(alias)) => Ok(Some(alias.clone())),
            Some(_) => {
                let file = self.user_file();
                let message = format!("{}: `current-client` is not text", file.display());
                Err(Error::invalid_argument(message).with_hint("run `jmp config client use ALIAS`"))
            }
        }
    }

    fn current(&self) -> Result<Option<String>> {
        Ok(self.named()?.filter(|alias| self.find(alias).is_ok()))
    }

    fn set_current(&self, alias: Option<&str>) -> Result<()> {
        if let Some(alias) = alias {
            self.find(alias)?;
        }
        let mut config = self.user_config()?.filter(Json::is_object).unwrap_or_else(|| {
            json!({"apiVersion": "jumpstarter.dev/v1alpha1", "kind": "UserConfig", "config": {}})
        });
        if !config["config"].is_object() {
            config["config"] = json!({});
        }
        config["config"]["current-client"] = alias.into();
        folders::make_private(&self.0)?;
        let path = self.user_file();
        save_private(&path, to_yaml(&config).as_bytes())
            .with_context(|| format!("saving {}", path.display()))
    }

    /// The current client, for a command that needs one.
    fn chosen(&self) -> Result<ClientConfig> {
        match self.named()? {
            Some(alias) => self.load(&alias).map_err(|error| error.context("the current client")),
            None => Err(Error::failed_precondition("no client is chosen").with_hint(
                "`jmp login` or `jmp config client create ALIAS` makes a client, `jmp config client \
                 use ALIAS` chooses one, `--client ALIAS` names one",
            )),
        }
    }
}

fn exists(alias: &str) -> Error {
    Error::already_exists(format!("there is a client `{alias}` already"))
        .with_hint(format!("`jmp config client delete {alias}` removes it"))
}

#[cfg(test)]
mod tests {
    use jumpstarter_driver_core::ErrorKind;

    use super::*;

    fn folder() -> (tempfile::TempDir, ClientFolder) {
        let folder = tempfile::tempdir().unwrap();
        let clients = ClientFolder(folder.path().join("jumpstarter"));
        (folder, clients)
    }

    fn add(clients: &ClientFolder, alias: &str) {
        clients.save_new(&ClientConfig::new(alias, "lab", alias)).unwrap();
    }

    #[test]
    fn a_deleted_client_is_not_current() {
        let (_folder, clients) = folder();
        assert_eq!(clients.current().unwrap(), None);
        assert!(clients.all().unwrap().is_empty());
        assert_eq!(clients.chosen().unwrap_err().kind(), ErrorKind::FailedPrecondition);
        for alias in ["b", "a", "c"] {
            add(&clients, alias);
        }
        let found = clients.all().unwrap();
        let aliases: Vec<_> = found.iter().map(|it| it.as_ref().unwrap().alias.as_str()).collect();
        assert_eq!(aliases, ["a", "b", "c"]);
        clients.set_current(Some("b")).unwrap();
        assert_eq!(clients.chosen().unwrap().metadata.name, "b");
        clients.delete("c").unwrap();
        assert_eq!(clients.current().unwrap().as_deref(), Some("b"));
        clients.delete("b").unwrap();
        assert_eq!(clients.current().unwrap().as_deref(), Some("a"));
        clients.delete("a").unwrap();
        assert_eq!(clients.named().unwrap(), None);
        assert_eq!(clients.delete("a").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_new_client_replaces_none() {
        let (_folder, clients) = folder();
        add(&clients, "a");
        let error = clients.save_new(&ClientConfig::new("a", "x", "x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(clients.load("a").unwrap().metadata.name, "a");
        for alias in ["", "../a", ".a"] {
            let error = clients.find(alias).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{alias}");
        }
    }

    #[test]
    fn the_current_client_is_kept_as_in_python() {
        let (_folder, clients) = folder();
        add(&clients, "a");
        let written = "apiVersion: jumpstarter.dev/v1alpha1\nkind: UserConfig\nconfig:\n  \
                       current-client: null\n  later: 1\n";
        std::fs::write(clients.user_file(), written).unwrap();
        assert_eq!(clients.current().unwrap(), None);
        clients.set_current(Some("a")).unwrap();
        let text = std::fs::read_to_string(clients.user_file()).unwrap();
        assert_eq!(text, written.replace("null", "a"), "what others wrote stays");
        // Python writes an alias without its file's existence in mind.
        std::fs::write(clients.user_file(), written.replace("null", "gone")).unwrap();
        assert_eq!(clients.current().unwrap(), None);
        let error = clients.chosen().unwrap_err();
        assert!(error.report().contains("the current client"), "{}", error.report());
        assert_eq!(clients.set_current(Some("gone")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
