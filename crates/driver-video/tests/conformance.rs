//! The drivers of cameras do what every driver must do.

use jumpstarter_driver_testkit::{conformance, peer, skip};
use jumpstarter_driver_video::{HttpVideoConfig, UStreamerConfig, Video};

mod http_video {
    use super::*;

    conformance!(
        HttpVideoConfig, { "url": format!("http://{}/stream", peer::camera().await) },
        [custom Video, video]
    );
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
        UStreamerConfig, { "args": { "device": "/dev/none" } }, [custom Video, video],
        needs: is_installed
    );
}
