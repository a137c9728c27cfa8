//! The power drivers do what every power driver must do.

use jumpstarter_driver_power::{
    CommandPowerConfig, CommandVirtualPowerConfig, MockPowerConfig, PowerCycle, VirtualPower,
};
use jumpstarter_driver_testkit::conformance;

conformance!(MockPowerConfig, {}, [power]);
conformance!(
    mod command, CommandPowerConfig,
    { "on": ["true"], "off": ["true"], "read": ["echo", "{\"voltage\": 5}"], "close": "off" },
    [power, custom PowerCycle { cycle: [0.01] }]
);

conformance!(
    mod command_virtual, CommandVirtualPowerConfig,
    { "on": ["true"], "off": ["true"], "destroy": ["true"], "read": ["echo", "{\"voltage\": 5}"] },
    [custom VirtualPower { off: [true] }, virtual_power]
);

#[cfg(feature = "snmp")]
mod support;

#[cfg(feature = "snmp")]
mod outlet {
    use jumpstarter_driver_power::SnmpPowerConfig;
    use jumpstarter_driver_testkit::conformance;

    use super::support::snmpd::{OUTLETS, PROGRAM, Snmpd};

    /// The port of an agent that lives until the process ends.
    async fn agent() -> u16 {
        let agent = Snmpd::start().await.expect("it is installed");
        Box::leak(Box::new(agent)).port
    }

    conformance!(
        SnmpPowerConfig,
        {
            "host": "127.0.0.1", "port": agent().await, "user": "sha", "plug": 2,
            "auth_protocol": "SHA", "auth_key": "authentic sha",
            "voltage_oid": format!("{OUTLETS}.101"),
        },
        [power],
        needs: || std::path::Path::new(PROGRAM).exists()
    );
}

#[cfg(feature = "http")]
mod web {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use jumpstarter_driver_power::{EnergenieConfig, HttpPowerConfig};
    use jumpstarter_driver_testkit::conformance;

    /// The address of a server that answers every request with the same reading.
    fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    // The head, and in the same packet or the next the body.
                    let mut read = stream.read(&mut request).unwrap_or(0);
                    while read > 0 && !request[..read].windows(4).any(|end| end == b"\r\n\r\n") {
                        read += stream.read(&mut request[read..]).unwrap_or(0);
                    }
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\nConnection: close\r\n\r\n{\"voltage\": 5}";
                    stream.write_all(answer.as_bytes()).ok();
                });
            }
        });
        address.to_string()
    }

    conformance!(
        mod http, HttpPowerConfig,
        {
            "power_on": { "url": format!("http://{}/on", server()) },
            "power_off": { "url": format!("http://{}/off", server()) },
            "power_read": { "url": format!("http://{}/read", server()) },
        },
        [power]
    );
    conformance!(mod energenie, EnergenieConfig, { "host": server() }, [power]);
}
