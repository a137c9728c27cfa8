//! `j` logs in to a real SSH server, through the exporter.

use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use jumpstarter_driver_testkit::{eventually_some, reserve_port, skip};
use jumpstarter_supervise::{Child, Command, run_blocking};

use crate::lab::Bench;
use crate::terminal::DEADLINE;

/// An SSH server for this user alone, on a port of the loopback.
struct Server {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

const PROGRAM: &str = "/usr/sbin/sshd";

fn output(command: Command) -> String {
    run_blocking(command, DEADLINE).unwrap().stdout_text().trim().to_owned()
}

impl Server {
    async fn start() -> Option<Self> {
        let has_client = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|place| place.join("ssh").exists())
        });
        if !Path::new(PROGRAM).exists() || !has_client {
            skip("sshd or ssh is not installed: apt-get install openssh-server openssh-client");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        for key in ["host", "user"] {
            let key = folder.path().join(key);
            let keygen = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]);
            output(keygen.arg(key));
        }
        if output(Command::new("id").arg("-u")) == "0" {
            // Where it confines itself when root starts it; distributions make it at boot.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = reserve_port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let configuration = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\n",
            path("host"),
            path("user.pub"),
        );
        std::fs::write(folder.path().join("sshd_config"), configuration).unwrap();
        let sshd = Command::new(PROGRAM).args(["-D", "-e", "-f", &path("sshd_config")]);
        let child = sshd.spawn().await.unwrap();
        eventually_some("sshd listens", async || {
            assert!(child.is_running(), "{}", child.stderr_tail());
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        })
        .await;
        Some(Self { folder, port, child })
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("user")
    }

    fn file(&self, config: &str) -> String {
        let (port, me) = (self.port, output(Command::new("id").arg("-un")));
        format!(
            "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: lab}}
export:
  ssh:
    type: jumpstarter_driver_ssh.driver.SSHWrapper
    config: {{default_username: {me}, {config}}}
    children:
      tcp: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {port}}}}}
  rack: {{children: {{login: {{ref: ssh}}}}}}
  referring: {{type: ssh, config: {{default_username: {me}, {config}}}, children: {{tcp: {{ref: ssh.tcp}}}}}}
  nobody:
    type: ssh
    children: {{tcp: {{type: tcp, config: {{host: 127.0.0.1, port: 1}}}}}}
"
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_on_the_device() {
    let Some(server) = Server::start().await else { return };
    let key = format!("ssh_identity_file: {}", server.key().display());
    let bench = Bench::of(&server.file(&key)).await;
    let run = async |words: &[&str]| bench.j_with(words, b"input").await;
    assert_snapshot!(run(&["ssh", "echo", "-n", "it runs; echo $((1 + 1))"]).await, @"it runs2");
    assert_snapshot!(run(&["referring", "echo", "-n", "it runs"]).await, @"it runs");
    assert_snapshot!(run(&["ssh", "ssh", "--", "cat; echo; exit 3"]).await, @r"
    input
    --- exit code 3
    ");
    assert_snapshot!(run(&["rack", "login", "-T", "-oConnectTimeout=30", "echo", "-v"]).await, @"-v");
    assert_snapshot!(run(&["ssh", "ssh", "--direct", "echo", "direct"]).await, @"direct");
    // Without a command it is a login, whose shell reads the input.
    let login = bench.j_with(&["ssh"], b"echo logged in; exit 4\n").await;
    assert!(login.contains("logged in\n") && login.ends_with("--- exit code 4\n"), "{login}");
    let nobody = run(&["nobody", "true"]).await;
    assert!(nobody.contains("`nobody.tcp`: ") && nobody.contains("refused"), "{nobody}");
    assert!(nobody.ends_with("--- exit code 255\n"), "{nobody}");
    assert_snapshot!(run(&["ssh", "tcp", "address", "--host"]).await, @"127.0.0.1");
    assert!(server.child.is_running(), "{}", server.child.stderr_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_exporter_file_is_used_and_removed() {
    let Some(server) = Server::start().await else { return };
    let key = std::fs::read_to_string(server.key()).unwrap();
    // As YAML folds it: without the last line's end.
    let key = serde_json::to_string(key.trim_end()).unwrap();
    let bench = Bench::of(&server.file(&format!("ssh_identity: {key}"))).await;
    let private = tempfile::tempdir().unwrap();
    let command = bench.command(&["ssh", "echo", "in"]).env("TMPDIR", private.path());
    assert_snapshot!(bench.run(command).await, @"in");
    assert_eq!(std::fs::read_dir(private.path()).unwrap().count(), 0, "the key is removed");
    let wrong = bench.command(&["ssh", "-l", "nobody-of-that-name", "true"]);
    let refused = bench.run(wrong).await;
    assert!(refused.contains("Permission denied"), "{refused}");
}
