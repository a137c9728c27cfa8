//! The client classes of upstream's drivers by interface. Written by `tests/interop/families.py`.

/// An interface's name and a client class.
pub(crate) const FAMILIES: &[(&str, &str)] = &[
    ("flasher", "jumpstarter_driver_esp32.client.Esp32FlasherClient"),
    ("flasher", "jumpstarter_driver_opendal.client.FlasherClient"),
    ("flasher", "jumpstarter_driver_pi_pico.client.PiPicoClient"),
    ("flasher", "jumpstarter_driver_qemu.client.QemuFlasherClient"),
    ("flasher", "jumpstarter_driver_stlink_msd.client.StlinkMsdFlasherClient"),
    ("network", "jumpstarter_driver_network.client.DbusNetworkClient"),
    ("network", "jumpstarter_driver_network.client.NetworkClient"),
    ("power", "jumpstarter_driver_gpiod.client.DigitalOutputClient"),
    ("power", "jumpstarter_driver_noyito_relay.client.NoyitoPowerClient"),
    ("power", "jumpstarter_driver_power.client.PowerClient"),
    ("power", "jumpstarter_driver_power.client.VirtualPowerClient"),
    ("power", "jumpstarter_driver_ridesx.client.RideSXPowerClient"),
    ("power", "jumpstarter_driver_snmp.client.SNMPServerClient"),
    ("serial", "jumpstarter_driver_pyserial.client.PySerialClient"),
    ("storage", "jumpstarter_driver_opendal.client.OpendalClient"),
    ("storage_mux", "jumpstarter_driver_opendal.client.StorageMuxClient"),
    ("storage_mux", "jumpstarter_driver_opendal.client.StorageMuxFlasherClient"),
    ("video", "jumpstarter_driver_ustreamer.client.UStreamerClient"),
];
