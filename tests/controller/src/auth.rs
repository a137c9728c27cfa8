//! Who calls: the bearer token and the three keys of the metadata.
use http::HeaderMap;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::state::State;

/// What kind of object a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person or a program that leases exporters.
    Client,
    /// A process that serves drivers.
    Exporter,
}

impl Kind {
    pub(crate) fn lower(self) -> &'static str {
        match self {
            Kind::Client => "client",
            Kind::Exporter => "exporter",
        }
    }

    fn upper(self) -> &'static str {
        match self {
            Kind::Client => "Client",
            Kind::Exporter => "Exporter",
        }
    }
}

/// A caller whose token is good for the object that it names.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

impl Caller {
    /// The caller as a key of the state's maps.
    pub(crate) fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }

    /// Refuses another namespace than the caller's.
    pub(crate) fn must_be_in(&self, namespace: &str) -> Result<(), Status> {
        if self.namespace == namespace {
            Ok(())
        } else {
            Err(Status::permission_denied("namespace mismatch"))
        }
    }
}

/// The token of a call.
pub(crate) fn bearer(metadata: &MetadataMap) -> Result<&str, Status> {
    let mut values = metadata.get_all("authorization").iter();
    let Some(first) = values.next() else {
        return Err(Status::unauthenticated("missing authorization header"));
    };
    if values.next().is_some() {
        return Err(Status::invalid_argument("multiple authorization headers"));
    }
    let token = first.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    token.ok_or_else(|| Status::invalid_argument("malformed authorization header"))
}

/// Checks that the caller is of one of `kinds` and may speak for the object that it names.
pub(crate) fn authenticate(
    state: &State,
    metadata: &MetadataMap,
    kinds: &[Kind],
) -> Result<Caller, Status> {
    let token = bearer(metadata)?;
    let user = state.user_of(token).map_err(Status::unknown)?;
    let kind = one(metadata, "jumpstarter-kind")?;
    let namespace = one(metadata, "jumpstarter-namespace")?.to_owned();
    let name = one(metadata, "jumpstarter-name").unwrap_or_default();
    let is_internal = user.starts_with("internal:");
    let name = match (is_internal, name) {
        (true, "") => {
            let what = "resource name required for pre-existing authentication";
            return Err(Status::invalid_argument(what));
        }
        (true, name) => name.to_owned(),
        (false, name) => {
            let normal = normalized(&user);
            if !name.is_empty() && name != normal {
                return Err(Status::invalid_argument("resource name mismatch with the user's"));
            }
            normal
        }
    };
    let Some(kind) = kinds.iter().copied().find(|each| each.upper() == kind) else {
        return Err(Status::invalid_argument("object kind mismatch"));
    };
    let caller = Caller { namespace, name, kind };
    let Caller { namespace, name, .. } = &caller;
    let identity = match kind {
        Kind::Client => state.clients.get(&caller.key()).map(|c| (&c.uid, &c.username)),
        Kind::Exporter => state.exporters.get(&caller.key()).map(|e| (&e.uid, &e.username)),
    };
    let kind = kind.lower();
    let Some((uid, username)) = identity else {
        return Err(Status::unknown(format!(
            "{kind} {namespace}/{name}: {kind}s.jumpstarter.dev {name:?} not found"
        )));
    };
    let is_own = user == format!("internal:{kind}:{namespace}:{name}:{uid}");
    if !is_own && username.as_ref() != Some(&user) {
        return Err(Status::permission_denied(format!(
            "permission denied for {kind} {namespace}/{name}"
        )));
    }
    Ok(caller)
}

/// The name that a caller gives, for rules that concern one caller.
pub(crate) fn claimed_name(headers: &HeaderMap) -> Option<&str> {
    headers.get("jumpstarter-name")?.to_str().ok()
}

fn one<'a>(metadata: &'a MetadataMap, key: &str) -> Result<&'a str, Status> {
    let mut values = metadata.get_all(key).iter();
    let Some(first) = values.next() else {
        return Err(Status::invalid_argument(format!("missing metadata: {key}")));
    };
    if values.next().is_some() {
        return Err(Status::invalid_argument(format!("multiple metadata: {key}")));
    }
    first.to_str().map_err(|_| Status::invalid_argument(format!("malformed metadata: {key}")))
}

/// The name of the object of a user of another issuer: what follows the first colon, in lower case,
/// with hyphens for all but letters and digits.
fn normalized(user: &str) -> String {
    let name = user.split_once(':').map_or(user, |(_, name)| name).to_lowercase();
    let mut normal = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        if c != '-' || !normal.ends_with('-') {
            normal.push(c);
        }
    }
    normal.truncate(63);
    normal.trim_matches('-').to_owned()
}
