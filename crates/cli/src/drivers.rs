//! `jmp drivers`: lists the drivers in this program, or describes one.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use jumpstarter_config::{ConfigField, fields, of_driver};
use jumpstarter_driver_core::{
    DriverEntry, InterfaceDescriptor, MethodDescriptor, MethodKind, ParameterDescriptor, Planned,
    PlannedChild, Registry, WantedChild,
};
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::fault::{Result, SUCCESS};
use crate::format::Format;
use crate::{outline, print, serving, table, version};

/// List the drivers in this program, show one (its purpose, methods and configuration), or say
/// which entries of an exporter file have a native driver, and which are hosted in Python
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  jmp drivers
  jmp drivers tcp
  jmp drivers lab.yaml
  jmp drivers jumpstarter_driver_network.driver.TcpNetwork --output json")]
pub(crate) struct Arguments {
    /// A driver, by its short name or its Python import path, or an exporter file
    #[arg(value_name = "NAME|FILE")]
    name: Option<String>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
}

/// `jmp driver`, as upstream has it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the drivers: their names and the types that exporter files have
    #[command(alias = "ls")]
    List,
    #[command(aliases = ["ver", "v"])]
    Version(version::Arguments),
}

impl Command {
    /// The format of the command's errors.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::List => Format::Text,
            Self::Version(arguments) => arguments.format(),
        }
    }

    pub(crate) fn run(&self, environment: &Environment) -> Result<u8> {
        let mut out = environment.out();
        match self {
            Self::List => {
                let mut rows = vec![vec!["NAME".to_owned(), "TYPE".to_owned()]];
                rows.extend(Registry::linked().drivers()?.iter().flat_map(|entry| {
                    let types =
                        std::iter::once(entry.name).chain(entry.python_names.iter().copied());
                    types.map(|name| {
                        let class = name.rsplit('.').next().unwrap_or(name);
                        vec![class.to_owned(), name.to_owned()]
                    })
                }));
                out.write_all(table::aligned(&rows, environment.width()).as_bytes())?;
                Ok(SUCCESS)
            }
            Self::Version(arguments) => version::run(arguments, &mut out),
        }
    }
}

pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> Result<u8> {
    let (mut out, width) = (environment.out(), environment.width());
    let file = arguments.name.as_deref().map(Path::new).filter(|name| name.is_file());
    if let Some(file) = file {
        let config = serving::load(file, &mut environment.err())?;
        let text = match arguments.output {
            Format::Text => {
                let mut rows = Vec::new();
                entries(&config.export, "", &mut rows);
                table::aligned(&rows, width)
            }
            Format::Json => pretty(&outline::json(&config.export))?,
        };
        out.write_all(text.as_bytes())?;
        return Ok(SUCCESS);
    }
    let text = match (&arguments.name, arguments.output) {
        (None, Format::Text) => list(Registry::linked().drivers()?, width),
        (None, Format::Json) => {
            pretty(&Registry::linked().drivers()?.iter().map(|entry| as_json(entry)).collect())?
        }
        (Some(name), Format::Text) => page(Registry::linked().find(name)?),
        (Some(name), Format::Json) => pretty(&as_json(Registry::linked().find(name)?))?,
    };
    out.write_all(text.as_bytes())?;
    Ok(SUCCESS)
}

/// Adds a row for each driver of a file: its path, where it runs, and what it is.
fn entries(planned: &[Planned], above: &str, rows: &mut Vec<Vec<String>>) {
    for one in planned {
        let path = format!("{above}{}", one.name());
        if let Some(entry) = one.entry() {
            let (place, name) = match one.hosted() {
                Some(class) => ("Python", class),
                None => ("native", entry.name),
            };
            rows.push(vec![path.clone(), place.to_owned(), name.to_owned()]);
        }
        entries(one.children(), &format!("{path}."), rows);
    }
}

fn pretty(value: &Value) -> Result<String> {
    Ok(format!("{}\n", print::pretty_json(value)?))
}

fn list(drivers: &[&DriverEntry], width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = drivers
        .iter()
        .map(|entry| {
            let about = documentation(entry);
            vec![entry.name.to_owned(), names(&(entry.interfaces)()), first_line(&about)]
        })
        .collect();
    table::aligned(&rows, width)
}

fn page(entry: &DriverEntry) -> String {
    let mut page = format!("{}\n{}\n", entry.name, documentation(entry));
    if !entry.python_names.is_empty() {
        page += &format!("\nAlso as {}\n", entry.python_names.join(", "));
    }
    page += "\nConfiguration\n";
    let fields = fields(entry);
    if fields.is_empty() {
        page += "  none\n";
    }
    let rows: Vec<Vec<String>> = fields.iter().flat_map(rows).collect();
    page += &table::aligned(&rows, None);
    let children = children(entry);
    if !children.is_empty() {
        page += "\nChildren that it makes, without a configuration\n";
        let row =
            |child: &PlannedChild| vec![format!("  {}", child.name), names(&child.interfaces)];
        page += &table::aligned(&children.iter().map(row).collect::<Vec<_>>(), None);
    }
    let wanted = wanted_children(entry);
    if !wanted.is_empty() {
        page += "\nChildren that it uses, under `children:`\n";
        let row = |child: &WantedChild| {
            let state = if child.is_required { "required" } else { "" };
            vec![format!("  {}", child.name), names(&child.interfaces), state.to_owned()]
        };
        page += &table::aligned(&wanted.iter().map(row).collect::<Vec<_>>(), None);
    }
    for interface in (entry.interfaces)() {
        // Writing into a string does not fail.
        writeln!(page, "\nInterface {}: {}", interface.name, first_line(interface.documentation))
            .unwrap_or_default();
        let rows: Vec<Vec<String>> = interface
            .methods
            .iter()
            .map(|method| {
                vec![format!("  {}", signature(method)), first_line(method.documentation)]
            })
            .collect();
        page += &table::aligned(&rows, None);
    }
    page
}

/// A row for a field, and below it a row for each of its values that has a description.
fn rows(field: &ConfigField) -> Vec<Vec<String>> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let values = field.values.iter().map(|(value, about)| {
        vec![format!("    {}", plain(value)), String::new(), String::new(), first_line(about)]
    });
    std::iter::once(row(field)).chain(values).collect()
}

/// The children that a driver makes without a configuration. Empty if the driver needs a
/// configuration to decide.
fn children(entry: &DriverEntry) -> Vec<PlannedChild> {
    (entry.children)(json!({})).unwrap_or_default()
}

/// The children that a driver uses without a configuration. Empty if the driver needs a
/// configuration to decide.
fn wanted_children(entry: &DriverEntry) -> Vec<WantedChild> {
    (entry.wanted_children)(json!({}))
}

fn names(interfaces: &[&InterfaceDescriptor]) -> String {
    interfaces.iter().map(|interface| interface.name).collect::<Vec<_>>().join(", ")
}

fn row(field: &ConfigField) -> Vec<String> {
    let state = match (&field.default, field.required) {
        (_, true) => "required".to_owned(),
        (Some(default), false) => format!("default {default}"),
        (None, false) => String::new(),
    };
    let about = first_line(&field.documentation);
    vec![format!("  {}", field.path), field.expected.clone(), state, about]
}

/// `flash(source: ImageSource, [target: String])`, `read() → PowerReading …`
fn signature(method: &MethodDescriptor) -> String {
    let parameter = |parameter: &ParameterDescriptor| {
        let text = format!("{}: {}", parameter.name, plain_type(parameter.type_name));
        if parameter.optional { format!("[{text}]") } else { text }
    };
    let parameters: Vec<String> = method.parameters.iter().map(parameter).collect();
    let returns = match (method.kind, plain_type(method.returns)) {
        (MethodKind::Unary, "()") => String::new(),
        (MethodKind::Unary, returns) => format!(" → {returns}"),
        (MethodKind::Stream, returns) => format!(" → {returns} …"),
        (_, "Channel") => " → bytes both ways".to_owned(),
        (_, returns) => format!(" → {returns}"),
    };
    format!("{}({}){returns}", method.name, parameters.join(", "))
}

/// The type without its `Option`, which the brackets already show.
fn plain_type(name: &str) -> &str {
    name.strip_prefix("Option<").and_then(|name| name.strip_suffix('>')).unwrap_or(name)
}

fn documentation(entry: &DriverEntry) -> String {
    let (schema, _) = of_driver(entry);
    schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The first paragraph on one line, without its full stop.
fn first_line(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    line.strip_suffix('.').map_or(line.clone(), str::to_owned)
}

fn as_json(entry: &DriverEntry) -> Value {
    let fields: Vec<Value> = fields(entry)
        .iter()
        .map(|field| {
            let values: Vec<Value> = field
                .values
                .iter()
                .map(|(value, about)| json!({"value": value, "documentation": about}))
                .collect();
            json!({
                "path": field.path, "expected": field.expected, "required": field.required,
                "default": field.default, "documentation": field.documentation, "values": values,
            })
        })
        .collect();
    let children: Vec<Value> = children(entry)
        .iter()
        .map(|child| {
            let interfaces: Vec<&str> =
                child.interfaces.iter().map(|interface| interface.name).collect();
            json!({"name": child.name, "interfaces": interfaces})
        })
        .collect();
    let wanted: Vec<Value> = wanted_children(entry)
        .iter()
        .map(|child| {
            let interfaces: Vec<&str> =
                child.interfaces.iter().map(|interface| interface.name).collect();
            json!({"name": child.name, "interfaces": interfaces, "required": child.is_required})
        })
        .collect();
    let interfaces: Vec<Value> =
        (entry.interfaces)().iter().map(|interface| interface_as_json(interface)).collect();
    json!({
        "name": entry.name,
        "python_names": entry.python_names,
        "package": entry.package,
        "documentation": documentation(entry),
        "configuration": fields,
        "children": children,
        "wanted_children": wanted,
        "interfaces": interfaces,
    })
}

fn interface_as_json(interface: &InterfaceDescriptor) -> Value {
    let methods: Vec<Value> = interface
        .methods
        .iter()
        .map(|method| {
            let kind = match method.kind {
                MethodKind::Unary => "unary",
                MethodKind::Stream => "stream",
                MethodKind::Channel => "channel",
                _ => "other",
            };
            let parameters: Vec<Value> = method
                .parameters
                .iter()
                .map(|parameter| {
                    json!({"name": parameter.name, "type": parameter.type_name, "optional": parameter.optional})
                })
                .collect();
            json!({
                "name": method.name, "kind": kind, "returns": method.returns, "parameters": parameters,
                "documentation": method.documentation,
            })
        })
        .collect();
    json!({
        "name": interface.name, "client": interface.client, "documentation": interface.documentation,
        "methods": methods,
    })
}

#[cfg(test)]
mod tests {
    use jumpstarter_driver_core::Power;
    use jumpstarter_driver_core::prelude::*;

    use super::{Registry, as_json, json, page};

    /// Switches the mains of a rack.
    #[config]
    #[derive(Debug)]
    struct RackConfig {}

    #[derive(Debug)]
    struct Rack;

    impl Driver for Rack {
        interfaces!();
    }

    #[async_trait]
    impl DriverConfig for RackConfig {
        const NAME: &'static str = "test-rack";
        type Driver = Rack;
        async fn open(self, _: OpenContext) -> Result<Rack> {
            Ok(Rack)
        }
        fn wanted_children(&self) -> Vec<WantedChild> {
            vec![WantedChild::required("mains").with::<dyn Power>(), WantedChild::optional("fan")]
        }
    }

    #[test]
    fn a_page_names_the_children_that_a_driver_uses() {
        let registry = Registry::new().with::<RackConfig>();
        let entry = registry.find("test-rack").unwrap();
        let page = page(entry);
        let wanted = "Children that it uses, under `children:`\n  mains  power  required\n  fan";
        assert!(page.contains(wanted), "{page}");
        assert_eq!(
            as_json(entry)["wanted_children"],
            json!([
                {"name": "mains", "interfaces": ["power"], "required": true},
                {"name": "fan", "interfaces": [], "required": false},
            ])
        );
    }
}
