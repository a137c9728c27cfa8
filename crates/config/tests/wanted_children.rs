//! Drivers that use other ones: `children:` of an exporter file, checked before it is opened and
//! used when it is.

#![expect(clippy::unwrap_used, reason = "a test driver fails its test")]

use std::sync::Arc;

use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::prelude::*;

/// A rack whose outlets switch it.
#[config]
#[derive(Debug)]
struct RackConfig {
    /// Whether its second outlet is used.
    #[serde(default)]
    both: bool,
}

struct Rack(Vec<Arc<dyn Power>>);

impl Driver for Rack {
    interfaces!(Power);
}

#[async_trait]
impl Power for Rack {
    async fn on(&self) -> Result<()> {
        for outlet in &self.0 {
            outlet.on().await?;
        }
        Ok(())
    }
    async fn off(&self) -> Result<()> {
        Err(Error::unimplemented("it stays on"))
    }
}

#[async_trait]
impl DriverConfig for RackConfig {
    const NAME: &'static str = "test-rack";
    type Driver = Rack;
    fn wanted_children(&self) -> Vec<WantedChild> {
        let second = if self.both {
            WantedChild::required("second")
        } else {
            WantedChild::optional("second")
        };
        let first = WantedChild::required("first");
        [first, second].map(|outlet| outlet.with::<dyn Power>()).into()
    }
    async fn open(self, context: OpenContext) -> Result<Rack> {
        let mut outlets = vec![context.child("first")?.get::<dyn Power>()?];
        if context.has_child("second") {
            outlets.push(context.child("second")?.get()?);
        }
        assert_eq!(context.child("third").unwrap_err().kind(), ErrorKind::NotFound);
        let serial = context.child("first")?.get::<dyn Serial>().err().unwrap();
        assert_eq!(serial.kind(), ErrorKind::Unimplemented);
        assert_eq!(serial.to_string(), "the child `first` has no interface `serial`");
        Ok(Rack(outlets))
    }
}
register_driver!(RackConfig);

/// An outlet.
#[config]
#[derive(Debug)]
struct OutletConfig {}

/// Whether it is on.
#[derive(Default)]
struct Outlet(std::sync::atomic::AtomicBool);

impl Driver for Outlet {
    interfaces!(Power);
}

#[async_trait]
impl Power for Outlet {
    async fn on(&self) -> Result<()> {
        match self.0.swap(true, std::sync::atomic::Ordering::SeqCst) {
            true => Err(Error::aborted("it is on")),
            false => Ok(()),
        }
    }
    async fn off(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl DriverConfig for OutletConfig {
    const NAME: &'static str = "test-outlet";
    type Driver = Outlet;
    async fn open(self, _: OpenContext) -> Result<Outlet> {
        Ok(Outlet::default())
    }
}
register_driver!(OutletConfig);

#[tokio::test]
async fn a_driver_uses_its_children() {
    let text = "
export:
  rack:
    type: test-rack
    children: {first: {type: test-outlet}, second: {type: test-outlet}, more: {children: {}}}
";
    let device = ExporterConfig::parse(text, "lab.yaml").unwrap().open().await.unwrap();
    device.get::<dyn Power>("rack").unwrap().on().await.unwrap();
    for outlet in ["rack.first", "rack.second"] {
        let again = device.get::<dyn Power>(outlet).unwrap().on().await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Aborted, "{outlet} was switched");
    }
}

#[track_caller]
fn faults(entry: &str) -> String {
    let text = format!("export:\n  outlet: {{type: test-outlet}}\n  rack: {entry}\n");
    ExporterConfig::parse(&text, "lab.yaml").unwrap_err().to_string()
}

#[test]
fn children_that_are_missing_are_faults() {
    assert_eq!(
        faults("{type: test-rack}"),
        "lab.yaml:3:3: export.rack.children.first: missing required child; expected a driver with `power`"
    );
    assert_eq!(
        faults("{type: test-rack, config: {both: true}, children: {first: {type: test-outlet}}}"),
        "lab.yaml:3:49: export.rack.children.second: missing required child; expected a driver with `power`"
    );
}

#[test]
fn children_that_the_driver_does_not_use_are_warnings() {
    let text = "
export:
  rack:
    type: test-rack
    children: {first: {type: test-outlet}, secnd: {type: test-outlet}, lamp: {type: test-outlet}}
";
    let file = ExporterConfig::parse(text, "lab.yaml").unwrap();
    let rack = "warning: export.rack.children";
    let unused = "`test-rack` does not use this child";
    assert_eq!(
        file.warnings.to_text("lab.yaml"),
        format!(
            "lab.yaml:5:44: {rack}.secnd: {unused}; did you mean `second`?\n\
             lab.yaml:5:72: {rack}.lamp: {unused}; it uses `first` and `second`\n"
        )
    );
}

#[test]
fn children_of_another_kind_are_faults() {
    let at = "lab.yaml:3:38: export.rack.children.first: found";
    let uses = "`test-rack` uses this child as a driver with `power`";
    for (child, found) in [
        ("{type: composite}", "`composite`, whose interfaces are none"),
        ("{children: {}}", "a group"),
        ("{ref: outlet}", "a proxy"),
    ] {
        let text = faults(&format!("{{type: test-rack, children: {{first: {child}}}}}"));
        assert_eq!(text, format!("{at} {found}; {uses}"));
    }
}
