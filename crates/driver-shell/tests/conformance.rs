//! The shell driver fulfils the duties of every such driver.

use jumpstarter_driver_shell::ShellConfig;
use jumpstarter_driver_testkit::conformance;

conformance!(ShellConfig, {
    "methods": {
        "count": { "command": "echo 1; sleep 0.2; echo 2; sleep 0.2", "description": "Counts" },
        "hello": "echo hello",
    }
}, [shell]);
