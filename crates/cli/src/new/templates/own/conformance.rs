//! The driver does what every driver must do.

use jumpstarter::testkit::conformance;

conformance!(acme_lamp::AcmeLampConfig, { "brightness": 50 }, [custom acme_lamp::AcmeLamp]);
