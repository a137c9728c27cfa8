//! Dotted paths of drivers, from the root of their device.

/// The path of a child.
pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// A path for people: `the root` for the empty one.
pub(crate) fn shown(path: &str) -> &str {
    if path.is_empty() { "the root" } else { path }
}
