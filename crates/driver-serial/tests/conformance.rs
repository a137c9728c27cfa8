//! Every kind of serial port does what a serial driver must do.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::{Read, Write};

use jumpstarter_driver_serial::SerialConfig;
use jumpstarter_driver_testkit::{conformance, peer};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

conformance!(mod looped, SerialConfig, { "url": "loop://" }, [serial(loopback)], deadline: 60 s);
conformance!(mod terminal, SerialConfig, { "url": terminal() }, [serial(loopback)], deadline: 60 s);
conformance!(
    mod socket, SerialConfig, { "url": format!("socket://{}", peer::tcp_echo().await) }, [serial(loopback)],
    deadline: 60 s
);
conformance!(
    mod unix, SerialConfig, { "url": format!("unix://{}", peer::unix_echo().display()) }, [serial(loopback)],
    deadline: 60 s
);

/// A real pseudo-terminal whose other end sends back what it gets, until the test's process ends.
fn terminal() -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    // Held open, so that the master sees no end when the driver closes the port; and raw, without
    // an echo.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let device = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
    let mut settings = tcgetattr(&device).unwrap();
    settings.make_raw();
    tcsetattr(&device, OptionalActions::Now, &settings).unwrap();
    std::thread::spawn(move || {
        let _device = device;
        let (mut file, mut buffer) = (File::from(master), [0; 4096]);
        while let Ok(count) = file.read(&mut buffer) {
            if file.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
    path
}
