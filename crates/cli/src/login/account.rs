//! What gets the token: the file of a client or of an exporter.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_config::{ClientConfig, ExporterConfig, TokenClaims};
use jumpstarter_driver_core::{Error, ErrorKind, Result as CoreResult, Secret};
use jumpstarter_login::{ProviderOptions, Tokens, renew};

use super::Whose;
use super::exporter_file::ExporterFile;
use crate::config::file_of_user;
use crate::fault::{Fault, Result};

/// The alias of a client that gets none.
const DEFAULT: &str = "default";

/// A client, or an exporter, whose file may not exist yet.
#[derive(Debug)]
pub(super) enum Account {
    Client { config: Box<ClientConfig>, is_new: bool },
    Exporter(Box<ExporterFile>),
}

impl Account {
    /// Finds the file: of the options, else of the client called `name`, else of the current
    /// client.
    pub(super) fn find(whose: &Whose, name: Option<&str>) -> Result<Self> {
        match (&whose.client, &whose.client_config, &whose.exporter, &whose.exporter_config) {
            (_, Some(path), ..) => Self::client_at(path),
            (.., Some(path)) => Ok(Self::Exporter(Box::new(ExporterFile::at(path)?))),
            (_, _, Some(alias), _) => {
                let path = found(ExporterConfig::find(alias))?;
                let path = path.map_or_else(|| file_of_user(alias), Ok)?;
                Ok(Self::Exporter(Box::new(ExporterFile::at(&path)?)))
            }
            (Some(alias), ..) => Self::client(alias),
            _ => match (name, ClientConfig::current()?) {
                (Some(name), _) => Self::client(name),
                (None, Some(config)) => {
                    Ok(Self::Client { config: Box::new(config), is_new: false })
                }
                (None, None) => Self::client(DEFAULT),
            },
        }
    }

    fn client(alias: &str) -> Result<Self> {
        match found(ClientConfig::find(alias))? {
            Some(path) => Self::client_at(&path),
            None => {
                let config = Box::new(ClientConfig::new(alias, "", ""));
                Ok(Self::Client { config, is_new: true })
            }
        }
    }

    fn client_at(path: &Path) -> Result<Self> {
        if path.exists() {
            let config = ClientConfig::load(path).map_err(|it| Fault::File(it.into(), None))?;
            return Ok(Self::Client { config: Box::new(config), is_new: false });
        }
        let alias = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut config = ClientConfig::new(alias, "", "");
        config.path = Some(path.to_owned());
        Ok(Self::Client { config: Box::new(config), is_new: true })
    }

    pub(super) fn is_exporter(&self) -> bool {
        matches!(self, Self::Exporter(_))
    }

    /// What messages call it.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Client { config, .. } => format!("the client {}", config.alias),
            Self::Exporter(file) => format!("the exporter in {}", file.path.display()),
        }
    }

    /// Where the file is, or will be.
    pub(super) fn path(&self) -> CoreResult<PathBuf> {
        match self {
            Self::Client { config, .. } => match &config.path {
                Some(path) => Ok(path.clone()),
                None => ClientConfig::find(&config.alias),
            },
            Self::Exporter(file) => Ok(file.path.clone()),
        }
    }

    pub(super) fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Client { config, .. } => config.endpoint.as_deref(),
            Self::Exporter(file) => file.endpoint.as_deref(),
        }
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        match self {
            Self::Client { is_new: true, .. } => None,
            Self::Client { config, .. } => config.metadata.namespace.as_deref(),
            Self::Exporter(file) => file.namespace.as_deref(),
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Client { is_new: true, .. } => None,
            Self::Client { config, .. } => Some(&config.metadata.name),
            Self::Exporter(file) => file.name.as_deref(),
        }
    }

    /// The token that it has.
    pub(super) fn token(&self) -> Option<&Secret> {
        match self {
            Self::Client { config, .. } => config.token.as_ref(),
            Self::Exporter(file) => file.token.as_ref(),
        }
    }

    /// Sets where it is in the lab.
    pub(super) fn settle(&mut self, namespace: String, name: String, endpoint: String) {
        match self {
            Self::Client { config, .. } => {
                config.metadata.namespace = Some(namespace);
                config.metadata.name = name;
                config.endpoint = Some(endpoint);
            }
            Self::Exporter(file) => file.settle(namespace, name, endpoint),
        }
    }

    /// Sets the authorities of the controller's certificate.
    pub(super) fn set_authorities(&mut self, authorities: &str) {
        match self {
            Self::Client { config, .. } => authorities.clone_into(&mut config.tls.ca),
            Self::Exporter(file) => authorities.clone_into(&mut file.authorities),
        }
    }

    /// Accepts any certificate of the controller from now on.
    pub(super) fn set_insecure(&mut self) {
        match self {
            Self::Client { config, .. } => config.tls.insecure = true,
            Self::Exporter(file) => file.is_insecure = true,
        }
    }

    /// Lets Python programs load the client classes of these packages, too, or of all.
    pub(super) fn allow(&mut self, packages: Vec<String>, all: bool) {
        if let Self::Client { config, .. } = self {
            if !packages.is_empty() {
                config.drivers.allow = packages;
            }
            config.drivers.allow_all |= all;
        }
    }

    /// Checks that the file can be written.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Client { config, is_new: true } if config.path.is_none() => {
                Ok(ClientConfig::check_new(&config.alias)?)
            }
            Self::Client { .. } => Ok(()),
            Self::Exporter(file) => file.check(),
        }
    }

    /// Whether a stored refresh token is of this provider.
    pub(super) fn can_renew(&self, options: &ProviderOptions) -> bool {
        let Self::Client { config, .. } = self else { return false };
        let claims = config.token.as_ref().and_then(TokenClaims::read);
        config.refresh_token.is_some() && claims.is_some_and(|claims| options.issued(&claims))
    }

    /// Gets a new token for the stored refresh token.
    pub(super) async fn renew(&mut self) -> CoreResult<()> {
        match self {
            Self::Client { config, .. } => renew(config, Duration::MAX).await.map(drop),
            Self::Exporter(_) => Err(Error::unimplemented("exporters have no refresh token")),
        }
    }

    /// Takes new tokens.
    pub(super) fn set(&mut self, tokens: Tokens) {
        match self {
            Self::Client { config, .. } => {
                config.token = Some(tokens.access);
                // That of another login may be of another user.
                config.refresh_token = tokens.refresh;
            }
            Self::Exporter(file) => file.token = Some(tokens.access),
        }
    }

    /// Writes the file, complete or not at all.
    pub(super) fn save(&mut self) -> Result<()> {
        match self {
            Self::Client { config, .. } => {
                let path = config.save()?;
                config.path = Some(path);
                Ok(())
            }
            Self::Exporter(file) => file.save(),
        }
    }

    /// Makes a client of this user's folder the current one, and returns its alias.
    pub(super) fn make_current(&self) -> Result<Option<&str>> {
        let Self::Client { config, .. } = self else { return Ok(None) };
        let is_of_folder = found(ClientConfig::find(&config.alias))?.is_some_and(|path| {
            let same = |path: &Path| path.canonicalize().ok();
            same(&path) == config.path.as_deref().and_then(same)
        });
        if !is_of_folder {
            return Ok(None);
        }
        ClientConfig::set_current(Some(&config.alias))?;
        Ok(Some(&config.alias))
    }
}

/// What was found; `None` for what is not there.
fn found<T>(outcome: CoreResult<T>) -> CoreResult<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
