//! The opendal driver does what every driver, and every storage, must do.

use jumpstarter_driver_opendal::OpendalConfig;
use jumpstarter_driver_testkit::{conformance, peer};

conformance!(
    mod folder, OpendalConfig,
    { "scheme": "fs", "kwargs": { "root": peer::folder() } }, [storage]
);
conformance!(
    mod removing, OpendalConfig,
    {
        "scheme": "fs",
        "kwargs": { "root": peer::folder() },
        "remove_created_on_close": true,
    },
    [storage]
);
#[cfg(feature = "memory")]
conformance!(mod memory, OpendalConfig, { "scheme": "memory" }, [storage]);
