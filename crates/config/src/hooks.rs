//! The files that hooks name, resolved like all paths of an exporter file.

use jumpstarter_driver_core::HostPath;

use super::fault::Fault;
use super::paths::Bases;
use super::settings::{Hook, Hooks};
use super::yaml::Node;

/// Resolves a script that is a file's name, and an interpreter that is a relative path. Warns about
/// scripts that look like a file's name and are not.
pub(super) fn decide(hooks: &mut Hooks, root: &Node, bases: &Bases) -> Vec<Fault> {
    let named = [("beforeLease", &mut hooks.before_lease), ("afterLease", &mut hooks.after_lease)];
    let mut warnings = Vec::new();
    for (name, hook) in named {
        let Some(hook) = hook else { continue };
        if let Some((message, hint)) = decide_one(hook, bases) {
            let path = format!("hooks.{name}.script");
            warnings.push(Fault::new(root.locate(&path), path, message).hint(hint));
        }
    }
    warnings
}

fn decide_one(hook: &mut Hook, bases: &Bases) -> Option<(String, String)> {
    if let Some(exec) = hook.exec.as_ref().filter(|exec| exec.contains('/'))
        && let Some(place) = bases.path(exec).ok().as_ref().and_then(text)
    {
        hook.exec = Some(place.to_owned());
    }
    let script = hook.script.trim();
    if script.contains('\n') {
        return None;
    }
    let path = bases.path(script).ok()?;
    if path.is_file() {
        if let Some(place) = text(&path) {
            hook.script = place.to_owned();
        }
        return None;
    }
    looks_like_a_file(script).then(|| {
        let message = format!("there is no file `{script}`: it will be run as a command");
        (message, path.looked_for())
    })
}

/// The program that runs a hook takes text.
fn text(path: &HostPath) -> Option<&str> {
    path.as_path().to_str()
}

/// Whether it is one word that is a path, or ends like a script.
fn looks_like_a_file(script: &str) -> bool {
    let is_word = !script.contains(|c: char| c.is_whitespace() || "$;|&<>()'\"`*".contains(c));
    let is_script = [".sh", ".py", ".bash"].iter().any(|end| script.ends_with(end));
    is_word && (script.contains('/') || is_script)
}
