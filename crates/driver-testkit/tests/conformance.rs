//! Drivers that behave pass, through the same line that drivers' authors write.

mod fakes;

use fakes::camera::{Camera, CameraConfig};
use fakes::flasher::FlasherConfig;
use fakes::mux::MuxConfig;
use fakes::network::NetworkConfig;
use fakes::odd::{Odd, OddConfig};
use fakes::own::{Meter, OwnConfig};
use fakes::peered::{Board, BoardConfig, Screen, ScreenConfig};
use fakes::power::PowerConfig;
use fakes::serial::SerialConfig;
use fakes::shell::ShellConfig;
use fakes::storage::StorageConfig;
use fakes::virtual_power::{Virtual, VirtualConfig};
use jumpstarter_driver_testkit::{conformance, peer};

conformance!(mod power, PowerConfig, { "fault": "none" }, [power]);
conformance!(mod network, NetworkConfig, { "fault": "none" }, [network(echo)], deadline: 60 s);
conformance!(mod serial, SerialConfig, { "fault": "none" }, [serial(loopback)]);
conformance!(mod shell, ShellConfig, { "fault": "none" }, [shell]);
conformance!(mod flasher, FlasherConfig, { "fault": "none" }, [flasher(target("root"), size("2M"))]);
conformance!(
    mod folder, FlasherConfig, { "fault": "none", "medium": peer::folder() },
    [flasher(target("root"), medium("medium"))]
);
conformance!(mod storage, StorageConfig, { "fault": "none" }, [storage]);
conformance!(mod mux, MuxConfig, { "fault": "none" }, [storage_mux]);
conformance!(
    mod virtual_power, VirtualConfig, { "fault": "none" },
    [custom Virtual { off: [true] }, virtual_power]
);
conformance!(mod camera, CameraConfig, { "fault": "none", "peer": peer::camera().await }, [custom Camera, video]);
conformance!(mod screen, ScreenConfig, { "fault": "none", "peer": peer::screen().await }, [custom Screen, vnc]);
conformance!(mod board, BoardConfig, { "fault": "none", "peer": peer::uboot("board# ").await }, [custom Board, uboot]);
conformance!(mod odd, OddConfig, { "fault": "none" }, [custom Odd]);
conformance!(
    mod own, OwnConfig, { "fault": "none" },
    [custom Meter { watch: [3] }, child power: [power], child "power" as again: [power]],
    children: { "lamp": { "type": "fake-power", "config": { "fault": "none" } } }
);
conformance!(
    mod waived, PowerConfig, { "fault": "file until close" }, [power],
    waive: { "GENERIC-3": "to see that a SHOULD can be waived" }
);
