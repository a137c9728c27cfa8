//! Names of resources: `namespaces/NS` and `namespaces/NS/KIND/NAME`.
use tonic::Status;

/// The namespace of `namespaces/NS`.
pub(crate) fn parse_namespace(name: &str) -> Result<&str, Status> {
    let parts = segments::<2>(name)?;
    Ok(parts[1])
}

/// The namespace and the bare name of `namespaces/NS/KIND/NAME`; `kind` is a plural.
pub(crate) fn parse<'a>(name: &'a str, kind: &str) -> Result<(&'a str, &'a str), Status> {
    let parts = segments::<4>(name)?;
    if parts[2] != kind {
        let what = format!(
            "invalid third segment in identifier {name:?}, expecting {kind:?}, got {:?}",
            parts[2]
        );
        return Err(Status::invalid_argument(what));
    }
    Ok((parts[1], parts[3]))
}

/// The full name of an object.
pub(crate) fn full(namespace: &str, kind: &str, name: &str) -> String {
    format!("namespaces/{namespace}/{kind}/{name}")
}

fn segments<const N: usize>(name: &str) -> Result<[&str; N], Status> {
    let parts: Vec<&str> = name.split('/').collect();
    let count = parts.len();
    let parts: [&str; N] = parts.try_into().map_err(|_| {
        Status::invalid_argument(format!(
            "invalid number of segments in identifier {name:?}, expecting {N}, got {count}"
        ))
    })?;
    if parts[0] != "namespaces" {
        let what = format!(
            "invalid first segment in identifier {name:?}, expecting \"namespaces\", got {:?}",
            parts[0]
        );
        return Err(Status::invalid_argument(what));
    }
    Ok(parts)
}
