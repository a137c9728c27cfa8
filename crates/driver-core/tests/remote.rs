//! The handle to a remote device: its tree, unknown drivers, and the interfaces that a client class
//! implies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{
    Arguments, Backend, Caller, InterfaceDescriptor, MethodKind, Node, Reply,
};

#[derive(Debug, Default)]
struct Elsewhere {
    resets: AtomicU8,
    closes: AtomicU8,
}

#[async_trait]
impl Backend for Elsewhere {
    async fn reset(&self) -> Result<()> {
        self.resets.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    async fn close(&self) -> Result<()> {
        self.closes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct Wire;

#[async_trait]
impl Caller for Wire {
    async fn invoke(&self, method: &str, _: MethodKind, _: Arguments) -> Result<Reply> {
        match method {
            "on" | "off" => Reply::value(()),
            other => Err(Error::not_found(format!("there is no method `{other}`"))),
        }
    }
}

fn node(name: &str, parent: Option<usize>, client: &str) -> Node {
    let id = parent.map_or(0, |parent| parent + 1);
    let node = Node::remote(id, name, parent, Arc::new(Wire)).with_client(client);
    match InterfaceDescriptor::of_client(client) {
        known if known.is_empty() => node,
        known => node.with_interfaces(known, Vec::new()),
    }
}

const POWER: &str = "jumpstarter_driver_power.client.PowerClient";

#[tokio::test]
async fn its_tree_is_used_like_a_local_one() {
    let elsewhere = Arc::new(Elsewhere::default());
    let nodes =
        vec![node("", None, "x.Root"), node("qemu", Some(0), "x.Y"), node("power", Some(1), POWER)];
    let device = Device::remote(nodes, elsewhere.clone()).unwrap();
    assert_eq!(device.nodes()[2].path(), "qemu.power");
    device.get::<dyn Power>("qemu.power").unwrap().on().await.unwrap();
    device.call("qemu.power", "off", vec![]).await.unwrap();
    assert_eq!(
        device.get::<dyn Serial>("qemu.power").err().unwrap().kind(),
        ErrorKind::Unimplemented
    );
    device.reset().await.unwrap();
    device.close().await.unwrap();
    device.close().await.unwrap();
    assert_eq!(
        (elsewhere.resets.load(Ordering::SeqCst), elsewhere.closes.load(Ordering::SeqCst)),
        (1, 1)
    );
}

#[tokio::test]
async fn any_interface_may_be_tried_on_a_driver_that_is_not_known() {
    let device =
        Device::remote(vec![node("", None, "acme.client.Board")], Arc::new(Elsewhere::default()))
            .unwrap();
    assert!(!device.nodes()[0].interfaces_known());
    device.get::<dyn Power>("").unwrap().on().await.unwrap();
    let missing = device.get::<dyn Serial>("").unwrap().close().await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn interfaces_that_are_not_known_are_named_beside_those_that_are() {
    let board = node("board", Some(0), POWER);
    let board =
        board.with_interfaces(InterfaceDescriptor::of_client(POWER), vec!["relay".to_owned()]);
    let relay = node("relay", Some(0), "acme.client.Relay");
    let relay = relay.with_interfaces(Vec::new(), vec!["relay".to_owned()]);
    let nodes = vec![node("", None, "x.Root"), board, relay];
    let device = Device::remote(nodes, Arc::new(Elsewhere::default())).unwrap();
    let names = |path| device.node(path).unwrap().interface_names();
    assert_eq!(names(""), None);
    assert_eq!(names("board"), Some(vec!["power", "relay"]));
    assert_eq!(names("relay"), Some(vec!["relay"]));
    assert!(!device.node("board").unwrap().interfaces_known());
    assert!(!device.node("relay").unwrap().interfaces_known());
    device.get::<dyn Power>("board").unwrap().on().await.unwrap();
    let missing = device.get::<dyn Power>("relay").err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::Unimplemented);
    assert_eq!(
        missing.report(),
        "`relay` has no interface `power`\nhint: its interfaces: `relay`; `power` is at `board`"
    );
}

#[test]
fn nodes_that_form_no_tree_are_refused() {
    let shapes = [
        vec![],
        vec![node("", None, POWER), node("", None, POWER)],
        vec![node("", None, POWER), node("a", Some(7), POWER)],
        vec![node("", None, POWER), node("a", Some(0), POWER), node("a", Some(0), POWER)],
    ];
    for shape in shapes {
        let refused = Device::remote(shape, Arc::new(Elsewhere::default())).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::DataLoss, "{}", refused.report());
    }
}

#[test]
fn a_client_class_tells_the_interfaces() {
    let names = |client| {
        InterfaceDescriptor::of_client(client)
            .into_iter()
            .map(|interface| interface.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(POWER), ["power"]);
    assert_eq!(names("jumpstarter_driver_qemu.client.QemuFlasherClient"), ["flasher"]);
    assert!(names("acme.client.Board").is_empty());
}
