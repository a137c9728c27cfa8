//! The driver does what every power driver must do.

use jumpstarter::testkit::{conformance, peer};

conformance!(acme_lamp::AcmeLampConfig, { "file": peer::folder().join("value") }, [power]);
