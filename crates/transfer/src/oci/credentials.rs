//! Credentials for a registry: from the environment, or from the files that `docker login` and
//! `podman login` write.

use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::reference::Reference;

/// The largest file of credentials that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// The value of an `Authorization` header for this registry, if there are credentials. Blocks.
pub(crate) fn find(
    reference: &Reference,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    if let (Some(user), Some(password)) = (given("OCI_USERNAME"), given("OCI_PASSWORD")) {
        // Clients of an exporter choose the registry: another one must not see these.
        let registry = given("OCI_REGISTRY");
        if registry.as_deref() != Some(reference.registry.as_str()) {
            tracing::warn!(
                "OCI_USERNAME and OCI_PASSWORD are for the registry in OCI_REGISTRY, and {} is another one",
                reference.registry
            );
            return in_files(reference, variable);
        }
        return Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))));
    }
    in_files(reference, variable)
}

fn in_files(reference: &Reference, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    files(&variable).iter().find_map(|path| in_file(path, reference))
}

fn files(variable: &impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let folder = |name: &str| variable(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = folder("HOME");
    let docker = folder("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    [
        folder("REGISTRY_AUTH_FILE"),
        folder("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        home.map(|home| home.join(".config/containers/auth.json")),
        docker.map(|folder| folder.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The entry of this registry, that of the longest part of the repository first.
fn in_file(path: &Path, reference: &Reference) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(LIMIT).read_to_end(&mut text).ok()?;
    let file: Value = match serde_json::from_slice(&text) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "a file of credentials is not readable");
            return None;
        }
    };
    let auths = file.get("auths")?;
    let whole = format!("{}/{}", reference.registry, reference.repository);
    let mut keys = vec![whole.as_str()];
    while let Some((shorter, _)) = keys.last().and_then(|key| key.rsplit_once('/')) {
        keys.push(shorter);
    }
    let registry = &reference.registry;
    let mut others = vec![format!("https://{registry}"), format!("https://{registry}/v1/")];
    if registry == "docker.io" {
        others.push("https://index.docker.io/v1/".to_owned());
    }
    let keys = keys.into_iter().chain(others.iter().map(String::as_str));
    let entry = keys.filter_map(|key| auths.get(key)).next()?;
    match entry.get("auth").and_then(Value::as_str).filter(|auth| !auth.is_empty()) {
        Some(auth) => Some(format!("Basic {auth}")),
        None => {
            tracing::warn!(
                path = %path.display(),
                "the credentials of {registry} are in a helper's store, which is not read; set OCI_REGISTRY, OCI_USERNAME and OCI_PASSWORD"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_credentials_of_this_registry_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth.json");
        let auths = serde_json::json!({ "auths": {
            "quay.io": { "auth": "cXVheQ==" }, "quay.io/team": { "auth": "dGVhbQ==" },
            "https://index.docker.io/v1/": { "auth": "aHVi" }, "other.example": {},
        }});
        std::fs::write(&file, auths.to_string()).unwrap();
        let in_files = |url: &str| {
            let variable = |name: &str| {
                (name == "REGISTRY_AUTH_FILE").then(|| file.to_str().unwrap().to_owned())
            };
            find(&Reference::parse(url).unwrap(), variable)
        };
        assert_eq!(in_files("oci://quay.io/a/b").as_deref(), Some("Basic cXVheQ=="));
        assert_eq!(in_files("oci://quay.io/team/b").as_deref(), Some("Basic dGVhbQ=="));
        assert_eq!(in_files("oci://docker.io/a").as_deref(), Some("Basic aHVi"));
        for other in ["evil.example", "quay.io.evil.example", "quay.io:444", "other.example"] {
            assert_eq!(in_files(&format!("oci://{other}/a/b")), None);
        }
        let variable = |name: &str| match name {
            "OCI_USERNAME" => Some("user".to_owned()),
            "OCI_PASSWORD" => Some("secret".to_owned()),
            "OCI_REGISTRY" => Some("quay.io".to_owned()),
            _ => None,
        };
        let found = find(&Reference::parse("oci://quay.io/a").unwrap(), variable);
        assert_eq!(found.as_deref(), Some("Basic dXNlcjpzZWNyZXQ="));
        assert_eq!(find(&Reference::parse("oci://evil.example/a").unwrap(), variable), None);
    }
}
