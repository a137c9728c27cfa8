//! A real agent, whose outlets are a script of the test.

use std::path::Path;

use jumpstarter_driver_core::serde_json::{Value, json};
use jumpstarter_supervise::{Child, Command};

pub const PROGRAM: &str = "/usr/sbin/snmpd";
/// The column of outlets, that of the driver's default.
pub const OUTLETS: &str = "1.3.6.1.4.1.13742.6.4.1.2.1.2.1";

/// Outlets 1 to 9 with a file each. Outlet 8 switches only when it was asked for its state twice,
/// outlet 9 never, and outlet 7 cannot be written. Objects 101 to 103 are meters.
const OUTLET_SCRIPT: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
while read -r request; do
    case "$request" in '') continue ;; PING) echo PONG; continue ;; esac
    read -r object
    number=${object##*.}
    case "$request" in
    set)
        read -r _ value
        case "$number" in
        7) echo not-writable; continue ;;
        8) later=$value; left=2 ;;
        9) ;;
        *) echo "$value" > "outlet-$number" ;;
        esac
        echo DONE ;;
    get)
        case "$number" in
        101) printf '%s\ninteger\n2305\n' "$object" ;;
        102) printf '%s\nstring\n0.45\n' "$object" ;;
        103) printf '%s\nstring\nbroken\n' "$object" ;;
        [1-9])
            if test "$number" = 8 && test -n "$later"; then
                if test "$left" = 0; then echo "$later" > outlet-8; else left=$((left - 1)); fi
            fi
            state=$(cat "outlet-$number" 2>/dev/null || echo 0)
            printf '%s\ninteger\n%s\n' "$object" "$state" ;;
        *) echo NONE ;;
        esac ;;
    *) echo NONE ;;
    esac
done
"#;

pub struct Snmpd {
    pub folder: tempfile::TempDir,
    pub port: u16,
    _child: Child,
}

impl Snmpd {
    /// `None` where no agent is installed.
    pub async fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            jumpstarter_driver_testkit::skip("snmpd is not installed: run `cargo xtask setup`");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("outlets"), OUTLET_SCRIPT).unwrap();
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path("outlets"), mode).unwrap();
        let port = jumpstarter_driver_testkit::reserve_port();
        let configuration = format!(
            "agentAddress udp:127.0.0.1:{port}\n\
             createUser plain\n\
             createUser md5 MD5 \"authentic md5\"\n\
             createUser sha SHA \"authentic sha\"\n\
             createUser sha256 SHA-256 \"authentic 256\"\n\
             createUser sha512 SHA-512 \"authentic 512\"\n\
             createUser des MD5 \"authentic md5\" DES \"private des\"\n\
             createUser aes SHA \"authentic sha\" AES \"private aes\"\n\
             createUser reader SHA \"authentic sha\"\n\
             rwuser plain noauth\nrwuser md5 auth\nrwuser sha auth\nrwuser sha256 auth\n\
             rwuser sha512 auth\nrwuser des priv\nrwuser aes priv\nrouser reader auth\n\
             rwcommunity hush 127.0.0.1\n\
             pass_persist .{OUTLETS} {}\n",
            path("outlets"),
        );
        std::fs::write(path("snmpd.conf"), configuration).unwrap();
        let child = Command::new(PROGRAM)
            .args(["-f", "-Lo", "-C", "-c", &path("snmpd.conf"), "-I", "-smux"])
            .env("SNMP_PERSISTENT_DIR", path("persistent"))
            .env("MIBS", "");
        let child = child.spawn().await.unwrap();
        let agent = Self { folder, port, _child: child };
        let config = agent.config(json!({"version": "2c", "community": "hush", "plug": 1}));
        let config = super::with(config, "voltage_oid", json!(format!("{OUTLETS}.101")));
        let probe = super::open("snmp", super::with(config, "timeout", json!("1s"))).await.unwrap();
        while super::readings(&*super::power(&probe)).await.is_err() {
            assert!(agent._child.is_running(), "{}", agent._child.stderr_tail());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Some(agent)
    }

    pub fn config(&self, mut config: Value) -> Value {
        config["host"] = json!("127.0.0.1");
        config["port"] = json!(self.port);
        config
    }

    /// The outlet's state.
    pub fn outlet(&self, number: u32) -> String {
        let file = self.folder.path().join(format!("outlet-{number}"));
        std::fs::read_to_string(file).unwrap_or_default().trim().to_owned()
    }
}
