//! The drivers of cameras do what every driver must do.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpListener;

use jumpstarter_driver_testkit::{conformance, skip};
use jumpstarter_driver_video::{HttpVideoConfig, UStreamerConfig, Video};

mod http_video {
    use super::*;

    /// A camera without pictures, for as long as the test runs.
    fn camera() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut asked = [0; 1024];
                    if stream.read(&mut asked).is_ok_and(|length| length > 0) {
                        stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").ok();
                    }
                });
            }
        });
        format!("http://{address}/stream")
    }

    conformance!(HttpVideoConfig, { "url": camera() }, [custom Video]);
}

mod ustreamer {
    use super::*;

    fn is_installed() -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|folder| folder.join("ustreamer").exists());
        if !found {
            skip("ustreamer is not installed: apt-get install ustreamer");
        }
        found
    }

    conformance!(
        UStreamerConfig, { "args": { "device": "/dev/none" } }, [custom Video],
        needs: is_installed
    );
}
