//! The driver does what every flasher must do.

use jumpstarter::testkit::{conformance, peer};

conformance!(acme_lamp::AcmeLampConfig, { "medium": peer::folder().join("medium.img") }, [flasher]);
