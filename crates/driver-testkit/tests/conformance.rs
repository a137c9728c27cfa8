//! Drivers that behave pass, through the same line that drivers' authors write.

mod fakes;

use fakes::flasher::FlasherConfig;
use fakes::mux::MuxConfig;
use fakes::network::NetworkConfig;
use fakes::odd::{Odd, OddConfig};
use fakes::own::{Meter, OwnConfig};
use fakes::power::PowerConfig;
use fakes::serial::SerialConfig;
use fakes::shell::ShellConfig;
use fakes::storage::StorageConfig;
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
