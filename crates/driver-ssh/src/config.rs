//! What an exporter file says of an `ssh`.

use jumpstarter_driver_core::prelude::*;

use crate::driver::SshDriver;

/// The name of the child that leads to the device's SSH server.
const TCP: &str = "tcp";

/// The command of a lab, whose devices have new keys after each flash.
const COMMAND: &str =
    "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";

/// Logs in to the device whose SSH server the child `tcp` reaches.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshConfig {
    /// The user to log in as, unless a client names one; the client's own where it is empty.
    #[serde(default)]
    pub(crate) default_username: String,
    /// The program that a client runs, and its options, as a shell writes them.
    #[serde(default = "command")]
    pub(crate) ssh_command: String,
    /// The private key to log in with.
    pub(crate) ssh_identity: Option<Secret>,
    /// The file of the private key to log in with. It is read when a client asks for the key.
    pub(crate) ssh_identity_file: Option<HostPath>,
}

fn command() -> String {
    COMMAND.to_owned()
}

#[async_trait]
impl DriverConfig for SshConfig {
    const NAME: &'static str = "ssh";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_ssh.driver.SSHWrapper"];
    const SYNONYMS: &'static [(&'static str, &'static str)] = &[
        ("username", "default_username"),
        ("user", "default_username"),
        ("identity", "ssh_identity"),
        ("identity_file", "ssh_identity_file"),
    ];
    type Driver = SshDriver;

    fn check(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        if self.ssh_identity.is_some() && self.ssh_identity_file.is_some() {
            let message = "and `ssh_identity` exclude each other";
            let problem = ConfigProblem::new("ssh_identity_file", message);
            found.push(problem.with_hint("keep one of them"));
        }
        if self.ssh_command.trim().is_empty() {
            let problem = ConfigProblem::new("ssh_command", "names no program");
            found.push(problem.with_hint("write `ssh` and its options, or leave it out"));
        }
        found
    }

    fn warnings(&self) -> Vec<ConfigProblem> {
        match self.ssh_identity_file.as_ref().map(HostPath::find) {
            Some(Err(error)) => vec![ConfigProblem::from_error("ssh_identity_file", &error)],
            _ => Vec::new(),
        }
    }

    fn wanted_children(&self) -> Vec<WantedChild> {
        vec![WantedChild::required(TCP).with::<dyn Network>().or_reference()]
    }

    async fn open(self, context: OpenContext) -> Result<SshDriver> {
        // It may be a proxy, whose target is not open yet: it is there, and that is enough.
        context.child(TCP).context("the child that leads to the device's SSH server")?;
        Ok(SshDriver::new(self))
    }
}
register_driver!(SshConfig);
