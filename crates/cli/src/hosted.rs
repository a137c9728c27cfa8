//! What Python says of the entries that are hosted: faults and warnings of `jmp check`.

use jumpstarter_config::{ConfigFaults, ExporterConfig, Fault, HostedEntry};
use jumpstarter_driver_core::{Error, Registry, suggest};
use jumpstarter_driver_python::{Looked, look};

/// The file, with what Python says of its hosted entries. It may take some seconds, once.
pub(crate) fn check(config: ExporterConfig) -> Result<ExporterConfig, ConfigFaults> {
    let entries = config.hosted();
    let Some(first) = entries.first() else { return Ok(config) };
    let mut classes: Vec<String> = entries.iter().map(|entry| entry.class.clone()).collect();
    classes.sort_unstable();
    classes.dedup();
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    match look(first.python.as_deref(), first.folder.as_deref(), &classes) {
        Err(error) => faults.push(no_python(first, &error)),
        Ok(looked) => {
            for entry in entries {
                let found = classes.iter().position(|class| *class == entry.class);
                if let Some(looked) = found.and_then(|index| looked.get(index)) {
                    add(entry, looked, &mut faults, &mut warnings);
                }
            }
        }
    }
    config.with_findings(faults, warnings)
}

fn no_python(entry: &HostedEntry, error: &Error) -> Fault {
    let message =
        format!("`{}` is a driver in Python, which cannot be asked: {error:#}", entry.class);
    entry.fault(None, &message, error.hint().map(str::to_owned))
}

fn add(entry: &HostedEntry, looked: &Looked, faults: &mut Vec<Fault>, warnings: &mut Vec<Fault>) {
    if let Looked::Missing { message, hint } = looked {
        let native = Registry::linked().drivers().unwrap_or_default().iter();
        let names = native.flat_map(|driver| driver.names());
        let near = suggest::nearest(&entry.class, names).filter(|near| *near != entry.class);
        let hint = match (near, hint) {
            (Some(near), Some(hint)) if !hint.starts_with("did you mean") => {
                Some(format!("did you mean `{near}`? Else: {hint}"))
            }
            (Some(near), _) => Some(format!("did you mean `{near}`?")),
            (None, hint) => hint.clone(),
        };
        faults.push(entry.fault(None, message, hint));
        return;
    }
    for field in looked.missing_fields(&entry.keys) {
        let message = "missing required field";
        faults.push(entry.fault(Some(&field), message, None));
    }
    for (field, hint) in looked.unknown_fields(&entry.keys) {
        let message = format!("`{}` has no such field, and passes it over", entry.class);
        warnings.push(entry.fault(Some(field), &message, hint));
    }
}
