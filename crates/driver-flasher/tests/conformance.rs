//! The flashers do what every flasher must do.

use jumpstarter_driver_flasher::{
    FileFlasherConfig, MockFlasherConfig, MockStorageMuxConfig, MockStorageMuxFlasherConfig,
    StorageMuxConfig,
};
use jumpstarter_driver_testkit::{conformance, peer};

conformance!(mod mock, MockFlasherConfig, {}, [flasher(any_target, as_is)], deadline: 60 s);
conformance!(mod file, FileFlasherConfig, { "path": peer::folder().join("disk.img") }, [flasher(size("5M"), medium("path"))], deadline: 60 s);
conformance!(
    mod named, FileFlasherConfig, { "targets": { "root": peer::folder().join("root.img") } },
    [flasher(target("root"))], deadline: 60 s
);
conformance!(mod mock_mux, MockStorageMuxConfig, {}, [storage_mux]);
conformance!(mod mock_mux_flasher, MockStorageMuxFlasherConfig, {}, [storage_mux, flasher(as_is)], deadline: 60 s);
conformance!(
    mod partitions, FileFlasherConfig, { "folder": peer::folder() },
    [flasher(target("root"), any_target)], deadline: 60 s
);
conformance!(
    mod command_mux, StorageMuxConfig,
    { "host": ["true"], "dut": ["true"], "off": ["true"], "path": medium() },
    [storage_mux, flasher(size("5M"))], deadline: 60 s
);

fn medium() -> std::path::PathBuf {
    let medium = peer::folder().join("medium.img");
    std::fs::write(&medium, "").expect("the folder can be written to");
    medium
}
