//! The token of an exporter's file. The rest of the file stays as it is written.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use jumpstarter_config::{ExporterConfig, Settings, make_private, read_yaml};
use jumpstarter_driver_core::{Error, ResultExt, Secret};
use jumpstarter_files::{StagedFile, save_new};
use serde_json::Value;

use crate::config::read_text;
use crate::fault::{Fault, Result};

/// An exporter's file, which may not exist yet.
#[derive(Debug)]
pub(super) struct ExporterFile {
    pub(super) path: PathBuf,
    /// What is written there.
    text: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) token: Option<Secret>,
    pub(super) authorities: String,
    pub(super) is_insecure: bool,
    /// Whether the options say something else than the file.
    differs: bool,
}

impl ExporterFile {
    /// The file at `path`.
    pub(super) fn at(path: &Path) -> Result<Self> {
        let mut file = Self {
            path: path.to_owned(),
            text: None,
            namespace: None,
            name: None,
            endpoint: None,
            token: None,
            authorities: String::new(),
            is_insecure: false,
            differs: false,
        };
        if !path.exists() {
            return Ok(file);
        }
        let config = ExporterConfig::load(path).map_err(|it| Fault::File(it.into(), None))?;
        let Settings { metadata, endpoint, token, .. } = config.settings;
        file.text = Some(read_text(&path.display().to_string())?);
        (file.namespace, file.name) = (metadata.namespace, Some(metadata.name));
        file.endpoint = endpoint;
        // One that is not there yet says nothing about its issuer.
        file.token = token.and_then(|token| token.resolve().ok());
        Ok(file)
    }

    /// Sets where the exporter is in the lab.
    pub(super) fn settle(&mut self, namespace: String, name: String, endpoint: String) {
        let new = (Some(namespace), Some(name), Some(endpoint));
        let old = (&self.namespace, &self.name, &self.endpoint);
        self.differs = self.text.is_some() && (&new.0, &new.1, &new.2) != old;
        (self.namespace, self.name, self.endpoint) = new;
    }

    /// Checks that the token can be written.
    pub(super) fn check(&self) -> Result<()> {
        let file = self.path.display();
        if self.differs {
            let message = format!("{file} has no endpoint, or another name, namespace or endpoint");
            let hint =
                "a login only writes the token of an exporter that exists: edit the file first";
            return Err(Fault::usage(message, hint));
        }
        match &self.text {
            Some(text) => self.with_token(text, "").map(drop),
            None => Ok(()),
        }
    }

    /// Writes the token: where the file says that it is, else into the file.
    pub(super) fn save(&self) -> Result<()> {
        let token = self.token.as_ref().map(Secret::expose).unwrap_or_default();
        let Some(text) = &self.text else { return self.create(token) };
        match self.with_token(text, token)? {
            Written::Here(text) => replace(&self.path, text.as_bytes()),
            Written::In(path) => replace(&path, format!("{token}\n").as_bytes()),
        }
    }

    /// A new file, without drivers.
    fn create(&self, token: &str) -> Result<()> {
        let quoted = |text: &Option<String>| Value::from(text.as_deref()).to_string();
        let mut text = format!(
            "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata:\n  namespace: {}\n  name: {}\n\
             endpoint: {}\ntls:\n  ca: {}\n  insecure: {}\n",
            quoted(&self.namespace),
            quoted(&self.name),
            quoted(&self.endpoint),
            Value::from(self.authorities.as_str()),
            self.is_insecure,
        );
        text += &format!("token: {}\nexport: {{}}\n", Value::from(token));
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.exists()) {
            make_private(folder)?;
        }
        let saving = || format!("saving {}", self.path.display());
        Ok(save_new(&self.path, text.as_bytes()).with_context(saving)?)
    }

    /// The file's text with another token, or the other file that has it.
    fn with_token(&self, text: &str, token: &str) -> Result<Written> {
        let origin = self.path.display().to_string();
        let read = |text: &str| read_yaml::<Value>(text, &origin);
        let mut expected = read(text).map_err(|it| Fault::File(it.into(), None))?;
        match &expected["token"] {
            Value::Object(place) => {
                if let Some(Value::String(file)) = place.get("file") {
                    let folder = self.path.parent().unwrap_or(Path::new("."));
                    return Ok(Written::In(folder.join(file)));
                }
                let message = format!("{origin} has its token in an environment variable");
                let hint = "write `token: {file: PATH}`, or `token: ''`, and log in again";
                return Err(Error::failed_precondition(message).with_hint(hint).into());
            }
            _ => expected["token"] = token.into(),
        }
        let line = format!("token: {}\n", Value::from(token));
        let changed = with_line(text, "token:", &line);
        match read(&changed) {
            Ok(found) if found == expected => Ok(Written::Here(changed)),
            _ => {
                let message = format!("the token in {origin} cannot be replaced");
                let hint = "write it on a line at the beginning: `token: ''`";
                Err(Error::failed_precondition(message).with_hint(hint).into())
            }
        }
    }
}

/// Where a token goes.
enum Written {
    Here(String),
    In(PathBuf),
}

/// A text with `line` in place of the one that begins with `key`, and of those that continue it.
fn with_line(text: &str, key: &str, line: &str) -> String {
    let mut changed = String::with_capacity(text.len() + line.len());
    let (mut is_inside, mut is_done) = (false, false);
    for old in text.split_inclusive('\n') {
        is_inside = match old.starts_with(key) {
            true => true,
            false => is_inside && old.starts_with([' ', '\t']),
        };
        match is_inside {
            true if !std::mem::replace(&mut is_done, true) => changed += line,
            true => {}
            false => changed += old,
        }
    }
    if !is_done {
        if !changed.is_empty() && !changed.ends_with('\n') {
            changed.push('\n');
        }
        changed += line;
    }
    changed
}

/// Replaces a file, whose owner and mode stay; a new one is for this user only.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let saving = || format!("saving {}", path.display());
    if !path.exists() {
        return Ok(save_new(path, bytes).with_context(saving)?);
    }
    let staged = StagedFile::create(path).with_context(saving)?;
    staged.file().write_all(bytes).with_context(saving)?;
    Ok(staged.commit().with_context(saving)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.yaml");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let mut file = ExporterFile::at(&path).unwrap();
            file.check()?;
            file.token = Some("new".into());
            file.save()?;
            Ok::<_, Fault>(std::fs::read_to_string(&path).unwrap())
        };
        let kept = "# my board\nmetadata: {name: a}\n";
        for (old, new) in [
            ("", "token: \"new\"\n"),
            ("token: old # comment\nexport: {}\n", "token: \"new\"\nexport: {}\n"),
            ("token:\n  old\n# c\nexport: {}", "token: \"new\"\n# c\nexport: {}"),
            ("export: {}", "export: {}\ntoken: \"new\"\n"),
        ] {
            assert_eq!(write(&format!("{kept}{old}")).unwrap(), format!("{kept}{new}"));
        }
        let elsewhere = format!("{kept}token: {{file: token.txt}}\n");
        assert_eq!(write(&elsewhere).unwrap(), elsewhere);
        assert_eq!(std::fs::read_to_string(folder.path().join("token.txt")).unwrap(), "new\n");
        for refused in ["{metadata: {name: a}, token: old}", "token: {env: HOME}\n"] {
            write(refused).unwrap_err();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), refused);
        }
    }
}
