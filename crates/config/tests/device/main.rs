//! The tree and its handle: typed and untyped calls, proxies, errors that list what exists, the
//! order of closing.

#![expect(clippy::unwrap_used, reason = "a test driver fails its test")]

mod reported;

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Framing, Interface, Node, Registry};
use serde_json::json;

static CLOSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A switch for tests.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SwitchConfig {
    /// Fails to open.
    #[serde(default)]
    broken: bool,
}

struct Switch {
    path: String,
    on: Mutex<bool>,
}

/// An interface of a third party: every kind of method and argument.
#[interface(name = "everything", client = "acme.client.EverythingClient")]
pub trait Everything {
    /// Adds. A number may arrive as a double.
    async fn add(&self, first: u8, second: Option<i64>) -> Result<i64>;
    /// Counts to `to`.
    async fn count(&self, to: u32) -> Result<ValueStream<u32>>;
    /// Divides.
    async fn divide(&self, what: f64, by: f64) -> Result<f64>;
    /// The quotient, once.
    async fn quotient(&self, what: f64, by: f64) -> Result<ValueStream<f64>>;
    /// Says what it got back.
    async fn echo(&self) -> Result<Channel>;
    /// Copies an image.
    async fn copy(&self, source: ImageSource, target: ImageSink) -> Result<u64>;
}

#[async_trait]
impl Everything for Switch {
    async fn add(&self, first: u8, second: Option<i64>) -> Result<i64> {
        Ok(i64::from(first) + second.unwrap_or(100))
    }
    async fn count(&self, to: u32) -> Result<ValueStream<u32>> {
        Ok(futures_util::stream::iter(0..to).map(Ok).boxed())
    }
    async fn divide(&self, what: f64, by: f64) -> Result<f64> {
        Ok(what / by)
    }
    async fn quotient(&self, what: f64, by: f64) -> Result<ValueStream<f64>> {
        Ok(futures_util::stream::iter([Ok(what / by)]).boxed())
    }
    async fn echo(&self) -> Result<Channel> {
        let (near, far) = Channel::pair(Framing::Datagrams);
        let (reader, writer) = far.split();
        tokio::spawn(reader.forward(writer));
        Ok(near)
    }
    async fn copy(&self, source: ImageSource, mut target: ImageSink) -> Result<u64> {
        let mut stream = source.open().await?;
        let mut copied = 0;
        while let Some(bytes) = stream.receive().await? {
            copied += bytes.len() as u64;
            target.write(bytes).await?;
        }
        target.finish().await?;
        Ok(copied)
    }
}

#[async_trait]
impl Power for Switch {
    async fn on(&self) -> Result<()> {
        *self.on.lock().unwrap() = true;
        Ok(())
    }
    async fn off(&self) -> Result<()> {
        *self.on.lock().unwrap() = false;
        Ok(())
    }
    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        let voltage = if *self.on.lock().unwrap() { 5.0 } else { 0.0 };
        Ok(futures_util::stream::iter([Ok(PowerReading { voltage, current: 0.5 })]).boxed())
    }
}

#[async_trait]
impl Driver for Switch {
    interfaces!(Power, Everything);
    async fn close(&self) -> Result<()> {
        CLOSED.lock().unwrap().push(self.path.clone());
        Ok(())
    }
}

#[async_trait]
impl DriverConfig for SwitchConfig {
    const NAME: &'static str = "test-switch";
    const PYTHON_NAMES: &'static [&'static str] = &["acme.driver.Switch"];
    type Driver = Switch;
    async fn open(self, context: OpenContext) -> Result<Switch> {
        if self.broken {
            return Err(Error::unavailable("nothing answers on the bus"));
        }
        Ok(Switch { path: context.path, on: Mutex::new(false) })
    }
}
register_driver!(SwitchConfig);

const RACK: &str = "\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: demo}
export:
  first: {ref: rack}
  rack:
    children:
      a: {type: acme.driver.Switch, children: {inner: {type: test-switch}}}
      b: {type: test-switch, description: the second}
  alias: {ref: first.a}
";

async fn open(text: &str) -> Result<Device> {
    let config = ExporterConfig::parse(text, "rack.yaml")
        .map_err(|faults| Error::invalid_argument(faults.to_string()))?;
    config.open().await
}

#[tokio::test]
async fn the_tree_lists_parents_first_and_splices_proxies() {
    let device = open(RACK).await.unwrap();
    let paths: Vec<&str> = device.nodes().iter().map(|node| node.path()).collect();
    assert_eq!(
        paths,
        [
            "",
            "first",
            "first.a",
            "first.a.inner",
            "first.b",
            "rack",
            "rack.a",
            "rack.a.inner",
            "rack.b",
            "alias",
            "alias.inner"
        ]
    );
    for (index, node) in device.nodes().iter().enumerate().skip(1) {
        assert!(node.parent().is_some_and(|parent| parent < index), "{node:?}");
    }
    let id = |path| device.node(path).unwrap().id();
    assert_eq!((id("alias"), id("first.a.inner")), (id("rack.a"), id("rack.a.inner")));
    assert_eq!(device.node("alias").unwrap().name(), "alias");
    assert_eq!(device.node("first.b").unwrap().description(), Some("the second"));
    device.get::<dyn Power>("alias").unwrap().on().await.unwrap();
    let mut readings = device.get::<dyn Power>("rack.a").unwrap().read().await.unwrap();
    assert_eq!(
        readings.next().await.unwrap().unwrap(),
        PowerReading { voltage: 5.0, current: 0.5 }
    );
}

#[tokio::test]
async fn nodes_know_their_type() {
    let device = open(RACK).await.unwrap();
    let types: Vec<_> =
        device.nodes().iter().map(|node| (node.path(), node.driver_type())).collect();
    let (group, switch) =
        (Some("jumpstarter_driver_composite.driver.Composite"), Some("acme.driver.Switch"));
    for expected in [
        ("", None),
        ("rack", group),
        ("rack.a", switch),
        ("rack.a.inner", switch),
        ("rack.b", switch),
        ("first", group),
        ("alias.inner", switch),
    ] {
        assert!(types.contains(&expected), "{expected:?}: {types:?}");
    }
}

#[tokio::test]
async fn an_unopened_device_has_the_same_tree() {
    let config =
        ExporterConfig::parse(&RACK.replace("b: {", "b: {config: {broken: true}, "), "rack.yaml")
            .unwrap();
    config.open().await.unwrap_err();
    let unopened = config.unopened().unwrap();
    let tree = |device: &Device| {
        let shown = |node: &Node| {
            let mut interfaces = node.interface_names().unwrap();
            interfaces.sort_unstable();
            format!(
                "{} {interfaces:?} {:?} {:?}",
                node.path(),
                node.description(),
                node.driver_type()
            )
        };
        device.nodes().iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(tree(&unopened), tree(&open(RACK).await.unwrap()));
    let error = unopened.get::<dyn Power>("alias").unwrap().on().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
}

#[tokio::test]
async fn references_that_lead_nowhere() {
    let head = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {name: x}\nexport:\n";
    let dangling =
        open(&format!("{head}  a: {{ref: b.c}}\n  b: {{type: test-switch}}\n")).await.unwrap_err();
    assert!(dangling.report().contains("b.c"), "{dangling:?}");
    let cycle = open(&format!("{head}  a: {{ref: b}}\n  b: {{ref: a}}\n")).await.unwrap_err();
    assert!(cycle.report().contains("circle") || cycle.report().contains("cycle"), "{cycle:?}");
}

#[tokio::test]
async fn a_failed_start_closes_what_was_open() {
    let head = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {name: x}\nexport:\n";
    let text = format!(
        "{head}  started: {{type: test-switch}}\n  bad: {{type: test-switch, config: {{broken: true}}}}\n"
    );
    let error = open(&text).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.report(), "opening `bad` (driver test-switch): nothing answers on the bus");
    assert!(CLOSED.lock().unwrap().contains(&"started".to_owned()));
}

#[tokio::test]
async fn closing_is_idempotent_and_goes_backwards() {
    let device = open(RACK).await.unwrap();
    device.close().await.unwrap();
    device.clone().close().await.unwrap();
    let closed: Vec<String> =
        CLOSED.lock().unwrap().iter().filter(|path| path.contains("rack")).cloned().collect();
    assert_eq!(closed, ["rack.b", "rack.a", "rack.a.inner"]);
}

#[tokio::test]
async fn every_kind_of_method_over_the_proxy_and_directly() {
    let switch = Arc::new(Switch { path: String::new(), on: Mutex::new(false) });
    let device = Device::of_shared_driver(switch.clone());
    let proxy = device.get::<dyn Everything>("").unwrap();
    for everything in [&*switch as &dyn Everything, &*proxy] {
        assert_eq!(everything.add(1, None).await.unwrap(), 101);
        let counted: Vec<u32> =
            everything.count(3).await.unwrap().map(Result::unwrap).collect().await;
        assert_eq!(counted, [0, 1, 2]);
        let mut channel = everything.echo().await.unwrap();
        channel.send(vec![1, 2]).await.unwrap();
        channel.send(vec![3]).await.unwrap();
        assert_eq!(&channel.receive().await.unwrap().unwrap()[..], [1, 2]);
        assert_eq!(&channel.receive().await.unwrap().unwrap()[..], [3]);
        let copied = everything
            .copy(ImageSource::bytes(vec![7; 9]), ImageSink::writer(tokio::io::sink()))
            .await;
        assert_eq!(copied.unwrap(), 9);
    }
}

#[tokio::test]
async fn numbers_that_are_not_finite_are_refused_on_both_ways() {
    let device = Device::of_driver(Switch { path: String::new(), on: Mutex::new(false) });
    let proxy = device.get::<dyn Everything>("").unwrap();
    assert_eq!(proxy.divide(1.0, 4.0).await.unwrap(), 0.25);
    let argument = proxy.divide(f64::NAN, 1.0).await.unwrap_err();
    assert_eq!(argument.kind(), ErrorKind::InvalidArgument);
    assert!(argument.report().contains("it is NaN, and only finite numbers"), "{argument:?}");
    let mut stream = proxy.quotient(1.0, 0.0).await.unwrap();
    for result in
        [proxy.divide(1.0, 0.0).await.unwrap_err(), stream.next().await.unwrap().unwrap_err()]
    {
        assert_eq!(result.kind(), ErrorKind::Internal);
        assert!(result.report().contains("it is inf, and only finite numbers"), "{result:?}");
    }
}

#[test]
fn descriptors_have_the_types_of_arguments_and_results() {
    let method = |name: &str| <dyn Everything>::DESCRIPTOR.method(name).unwrap();
    let typed = |name: &str, value| method(name).result.unwrap().typed(value).to_string();
    assert_eq!(typed("divide", json!(1)), "1.0");
    assert_eq!(typed("quotient", json!(1)), "1.0", "that of the items");
    assert_eq!(typed("count", json!(1)), "1");
    assert!(method("echo").result.is_none(), "a channel");
    let [first, second] = [0, 1].map(|at| method("add").parameters[at].value.unwrap().schema());
    assert_eq!(first.get("maximum"), Some(&json!(255)));
    assert_eq!(second.get("type"), Some(&json!("integer")), "where one is given");
    assert!(method("copy").parameters.iter().all(|image| image.value.is_none()));
}

#[tokio::test]
async fn untyped_calls_convert_and_refuse() {
    let device = Device::of_driver(Switch { path: String::new(), on: Mutex::new(false) });
    assert_eq!(device.call("", "add", vec![json!(1.0), json!(2.0)]).await.unwrap(), json!(3));
    assert_eq!(device.call("", "on", vec![]).await.unwrap(), json!(null));
    let refused = |error: Error, kind, text: &str| {
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.report().contains(text), "{error:?}");
    };
    use ErrorKind::{InvalidArgument, NotFound, Unimplemented};
    refused(
        device.call("", "add", vec![json!(300)]).await.unwrap_err(),
        InvalidArgument,
        "argument 1 (`first`)",
    );
    refused(
        device.call("", "add", vec![]).await.unwrap_err(),
        InvalidArgument,
        "add(first, second?)",
    );
    refused(
        device.call("", "add", vec![json!(1), json!(2), json!(3)]).await.unwrap_err(),
        InvalidArgument,
        "2 argument",
    );
    refused(device.call("", "onn", vec![]).await.unwrap_err(), NotFound, "did you mean `on`?");
    refused(
        device.call("", "copy", vec![json!("x")]).await.unwrap_err(),
        InvalidArgument,
        "image to read",
    );
    refused(device.call("", "read", vec![]).await.unwrap_err(), Unimplemented, "stream");
    refused(device.call("pwoer", "on", vec![]).await.unwrap_err(), NotFound, "no `pwoer`");
    refused(
        device.get::<dyn Serial>("").map(drop).unwrap_err(),
        Unimplemented,
        "`power` and `everything`",
    );
}

#[test]
fn the_registry_tells_interfaces_without_an_instance() {
    let entry = Registry::linked().find("acme.driver.Switch").unwrap();
    let names: Vec<&str> = (entry.interfaces)().iter().map(|interface| interface.name).collect();
    assert_eq!(names, ["power", "everything"]);
    assert!(
        Registry::linked()
            .find("test-swich")
            .unwrap_err()
            .report()
            .contains("did you mean `test-switch`?")
    );
    let add = <dyn Everything>::DESCRIPTOR.method("add").unwrap();
    assert_eq!(
        (add.signature().as_str(), add.documentation),
        ("add(first, second?)", "Adds. A number may arrive as a double.")
    );
}

fn many(count: usize, of: impl Fn(usize) -> String) -> String {
    let head = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {name: x}\nexport:\n";
    (0..count).fold(head.to_owned(), |text, index| text + &of(index))
}

#[tokio::test]
async fn proxies_of_proxies_and_below_proxies() {
    let text = many(1, |_| {
        "  a: {ref: b.inner}\n  b: {ref: c, description: of b}\n  c:\n    description: of c\n    children:\n      \
         inner: {type: test-switch}\n      up: {ref: d}\n  d: {type: test-switch, description: of d}\n"
            .to_owned()
    });
    let device = open(&text).await.unwrap();
    let tree: Vec<_> = device
        .nodes()
        .iter()
        .map(|node| {
            (
                node.path(),
                device.nodes()[node.parent().unwrap_or(0)].path(),
                node.description().unwrap_or("-"),
            )
        })
        .collect();
    assert_eq!(
        tree,
        [
            ("", "", "-"),
            ("a", "", "-"),
            ("b", "", "of b"),
            ("b.inner", "b", "-"),
            ("b.up", "b", "of d"),
            ("c", "", "of c"),
            ("c.inner", "c", "-"),
            ("c.up", "c", "of d"),
            ("d", "", "of d")
        ]
    );
    let id = |path: &str| device.node(path).unwrap().id();
    assert!(
        id("a") == id("c.inner")
            && id("b.up") == id("d")
            && id("b.inner") == id("a")
            && id("a") != id("d")
    );
}

#[tokio::test]
async fn a_file_of_thousands_of_drivers_and_proxies_opens_at_once() {
    let begin = std::time::Instant::now();
    let text = many(4_900, |index| {
        format!("  d{index}: {{type: test-switch}}\n  p{index}: {{ref: d{index}}}\n")
    });
    let device = open(&text).await.unwrap();
    assert_eq!(device.nodes().len(), 9_801);
    device.close().await.unwrap();
    // Opening each of them took minutes when every proxy cost a walk over all pairs.
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_device_that_is_too_large_is_refused_with_its_bound() {
    let too_many = many(10_000, |index| format!("  d{index}: {{type: test-switch}}\n"));
    let error = open(&too_many).await.unwrap_err();
    assert!(
        error.report().ends_with("export: the device has more than 10000 drivers"),
        "{error:?}"
    );
    let long = many(1, |_| format!("  {}: {{type: test-switch}}\n", "n".repeat(256)));
    let error = open(&long).await.unwrap_err().report();
    assert!(error.contains("has 256 bytes; 255 are the most"), "{error}");
    // Each doubles the next: a small file, and 2^40 drivers.
    let doubling = many(40, |level| {
        let below = level + 1;
        format!("  g{level}: {{children: {{x: {{ref: g{below}}}, y: {{ref: g{below}}}}}}}\n")
    }) + "  g40: {type: test-switch}\n";
    let error = open(&doubling).await.unwrap_err().report();
    assert!(error.contains("larger than 10000 drivers"), "{error}");
    let deep =
        many(200, |level| format!("  g{level}: {{children: {{x: {{ref: g{}}}}}}}\n", level + 1))
            + "  g200: {type: test-switch}\n";
    let error = open(&deep).await.unwrap_err().report();
    assert!(error.contains("too deep"), "{error}");
}

#[test]
fn a_fault_stays_on_its_line() {
    let text = many(1, |_| "  \"a\\nlab.yaml:1:1: forged\\e[2J\": {type: \"b\\rc\"}\n".to_owned());
    let faults = ExporterConfig::parse(&text, "lab.yaml").unwrap_err();
    let shown = faults.to_string();
    assert_eq!(shown.lines().count(), faults.iter().count(), "{shown}");
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
}
