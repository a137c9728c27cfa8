//! Hosted drivers whose client class only their packages know: its base classes say what they are.

mod support;

use futures_util::StreamExt;
use jumpstarter_driver_core::image::ImageSource;
use jumpstarter_driver_core::prelude::*;
use support::lab::{Lab, python};
use support::{Served, client, in_time};

const MODULE: &str = include_str!("family.py");
const BASES: &str = "jumpstarter.dev/client-bases";
const ENTRIES: &str = "
  power: {type: family.OwnPower}
  network: {type: family.OwnNetwork}
  flasher: {type: family.OwnFlasher}
  serial: {type: family.OwnSerial, config: {url: 'loop://'}}
  mux: {type: family.OwnMux}
  other: {type: family.WithoutMethods}
  known: {type: jumpstarter_driver_power.driver.MockPower, python: true}
";

#[tokio::test]
async fn python_hosts_families_by_the_bases_of_their_clients() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, ENTRIES);
    lab.write("family.py", MODULE);
    let (far, near) = (lab.folder.path().join("far"), lab.folder.path().join("near"));
    let served = Served::device(lab.open().await, &far).await;
    let text = format!("export:\n  lab: {{type: remote, config: {{address: {}}}}}", far.display());
    let remote = Served::file(&text, &near).await;
    for (socket, above) in [(&far, ""), (&near, "lab.")] {
        let exporter = client(socket).await;
        let device = exporter.device();
        let path = |name: &str| format!("{above}{name}");
        let names = |name: &str| device.node(&path(name)).unwrap().interface_names();
        assert_eq!(names("power"), Some(vec!["power"]));
        assert_eq!(names("network"), Some(vec!["network"]));
        assert_eq!(names("flasher"), Some(vec!["flasher"]));
        assert_eq!(names("serial"), Some(vec!["serial"]));
        assert_eq!(names("mux"), Some(vec!["flasher", "storage_mux"]));
        // Its driver has none of the methods.
        assert_eq!(names("other"), None);
        let label = |name: &str| {
            let labels = device.node(&path(name)).unwrap().labels().iter();
            labels.filter(|(key, _)| key == BASES).map(|(_, bases)| bases.clone()).next()
        };
        let bases = "family.OwnBase,jumpstarter_driver_power.client.PowerClient";
        assert_eq!(label("power").as_deref(), Some(bases));
        assert_eq!(label("known"), None);

        let power = device.get::<dyn Power>(&path("power")).unwrap();
        in_time(power.on()).await.unwrap();
        let reading = in_time(power.read()).await.unwrap().next().await;
        reading.unwrap().unwrap();
        for flasher in ["flasher", "mux"] {
            let flasher = device.get::<dyn Flasher>(&path(flasher)).unwrap();
            in_time(flasher.flash(ImageSource::bytes(b"image".to_vec()), None)).await.unwrap();
        }
        let mut echo = in_time(device.connect(&path("network"), "connect")).await.unwrap();
        in_time(echo.send("hello")).await.unwrap();
        assert_eq!(in_time(echo.receive()).await.unwrap().unwrap(), "hello");
    }
    remote.shut_down().await;
    served.shut_down().await;
}
