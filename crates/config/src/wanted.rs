//! Checks that a driver's entry has the children that the driver uses, and no others.

use jumpstarter_driver_core::{DriverEntry, Planned, WantedChild, suggest};

use super::fault::{At, Fault, join};
use super::yaml;

/// The missing children of the entry `node` of the driver `entry`; `read` are those that were read.
/// A faulty child was not read, and is reported separately.
pub(super) fn faults(
    entry: &DriverEntry,
    wanted: &[WantedChild],
    node: &yaml::Node,
    read: &[Planned],
    at: &At,
) -> Vec<Fault> {
    let children = node.get("children");
    let written = |name: &str| {
        children.and_then(|children| children.value.entries().iter().find(|one| one.key == name))
    };
    let fault = |wanted: &WantedChild| {
        let at_child = join(&join(&at.path, "children"), &wanted.name);
        let names = suggest::list(wanted.interfaces.iter().map(|interface| interface.name));
        let expected = match wanted.interfaces.as_slice() {
            [] => "a driver".to_owned(),
            _ => format!("a driver with {names}"),
        };
        let Some(child) = written(&wanted.name) else {
            let place = children.map_or(at.owner, |children| children.place);
            let missing = Fault::new(place, at_child, "missing required child");
            return wanted.is_required.then(|| missing.hint(format!("expected {expected}")));
        };
        let found = read.iter().find(|planned| planned.name() == wanted.name)?;
        let found = match (found.entry(), found.target()) {
            (Some(entry), _) => {
                // Only opening shows what a branch from elsewhere can do.
                if (entry.interfaces)().is_empty() && found.own_children().is_none() {
                    return None;
                }
                let has: Vec<&str> = (entry.interfaces)().iter().map(|one| one.name).collect();
                if wanted.interfaces.iter().all(|one| has.contains(&one.name)) {
                    return None;
                }
                let has = suggest::list(has);
                format!("`{}`, whose interfaces are {has}", entry.name)
            }
            (None, Some(_)) if wanted.may_be_reference => return None,
            (None, None) => "a group".to_owned(),
            (None, Some(_)) => "a proxy".to_owned(),
        };
        let message = format!("found {found}; `{}` uses this child as {expected}", entry.name);
        Some(Fault::new(child.place, at_child, message))
    };
    wanted.iter().filter_map(fault).collect()
}

/// Warnings about children that the driver does not use, if it says which ones it uses: a name may
/// be misspelt.
pub(super) fn warnings(
    entry: &DriverEntry,
    wanted: &[WantedChild],
    node: &yaml::Node,
    at: &At,
) -> Vec<Fault> {
    let names = || wanted.iter().map(|one| one.name.as_str());
    let written = node.get("children").map_or(&[][..], |children| children.value.entries());
    let unused = written.iter().filter(|child| names().all(|name| name != child.key));
    let warning = |child: &yaml::Entry| {
        let path = join(&join(&at.path, "children"), &child.key);
        let message = format!("`{}` does not use this child", entry.name);
        Fault::new(child.place, path, message).hint(match suggest::nearest(&child.key, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it uses {}", suggest::list(names())),
        })
    };
    unused.filter(|_| !wanted.is_empty()).map(warning).collect()
}
