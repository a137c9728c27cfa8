//! Logging in to a device: the system's `ssh`, through a forward.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::Args;
use jumpstarter_client::Address;
use jumpstarter_driver_core::{Error, ErrorKind, Network, ResultExt, blocking};
use jumpstarter_driver_network::PortForward;
use jumpstarter_driver_ssh::Ssh;
use jumpstarter_files::{RuntimeDir, save_new};
use jumpstarter_supervise::{Command, Input, Signal, Sink, StopPlan};

use crate::fault::{Fault, Result, exit_code};
use crate::j::context::Context;
use crate::j::verb::{Say, Verb};
use crate::terminal::Settings;

pub(super) static VERBS: &[Verb] = &[Verb::of::<Login>()];

/// The options of ssh(1) that take a value.
const WITH_VALUE: &[u8] = b"BbcDEeFIiJLlmOoPpQRSWw";
/// How long ssh has to end after an interrupt.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Logs in to the device, or runs a command there, with this machine's ssh
#[derive(Debug, Args)]
#[command(after_help = "\
The connection goes through the exporter; the key and the user are those of the exporter file. The exit code is that of
ssh: the command's, or 255 if the connection fails. `j PATH` without a verb logs in, too.

Examples:
  {path}
  {path} uname -a
  {path} -l root -v -L 8080:localhost:80
  {path} -- tcp")]
struct Login {
    /// Connects to the address that the exporter reports, without the exporter between
    #[arg(long)]
    direct: bool,
    /// Options of ssh, then the command
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Say for Login {
    const NAME: &'static str = "ssh";

    async fn run(self, context: &Context) -> Result<u8> {
        let ssh = context.get::<dyn Ssh>()?;
        let command = split(&ssh.get_ssh_command().await?)?;
        let user = ssh.get_default_username().await?;
        let key = match ssh.get_ssh_identity().await? {
            Some(key) if !key.is_empty() => Some(Key::store(key).await?),
            _ => None,
        };
        let place = context.child("tcp");
        let network = context.device().get::<dyn Network>(&place)?;
        let direct = match self.direct {
            true => address(context, &*network).await?,
            false => None,
        };
        let (host, port, forward) = match direct {
            Some((host, port)) => (host, port, None),
            None => {
                let forward = PortForward::tcp(network).await?;
                let address = forward.tcp_address();
                let address = address.ok_or_else(|| Error::internal("the forward has no port"))?;
                (address.ip().to_string(), address.port(), Some(forward))
            }
        };
        let (options, words) = self.arguments.split_at(options(&self.arguments));
        let words = words.strip_prefix(&[OsString::from("--")]).unwrap_or(words);
        let [program, first @ ..] = &command[..] else {
            let message = "the exporter names no program in `ssh_command`";
            return Err(Error::failed_precondition(message).into());
        };
        let mut ssh = Command::new(program).args(first).arg("-p").arg(port.to_string());
        if let Some(key) = &key {
            ssh = ssh.arg("-i").arg(key.0.file(KEY));
        }
        if !user.is_empty() && !options.iter().any(names_user) {
            ssh = ssh.args(["-l", &user]);
        }
        let code = attend(context, ssh.args(options).arg(host).args(words)).await?;
        if let Some(error) = forward.and_then(|forward| forward.stats().last_error) {
            context.output.note_lines(&format!("`{place}`: {error}"));
        }
        if let Some(Key(folder)) = key {
            blocking(|| Ok(folder.close()?)).await.context("removing the key")?;
        }
        Ok(code)
    }
}

/// Runs ssh with this terminal, to its end.
async fn attend(context: &Context, command: Command) -> Result<u8> {
    let before = Settings::save();
    let command = command.install_hint("apt-get install openssh-client").in_our_group();
    let command = command.stdin(Input::Inherit).stdout(Sink::Inherit).stderr(Sink::Inherit);
    let child = command.spawn().await.map_err(Error::from)?;
    let status = tokio::select! {
        status = child.wait() => status,
        () = context.interrupted() => {
            let plan = StopPlan::new().signal(Signal::TERM, END_WITHIN);
            child.stop(plan).await.map_err(Error::from)?.status
        }
    };
    drop(before);
    Ok(exit_code(status))
}

/// The device's own address, if the exporter reports one that ssh can be given.
async fn address(context: &Context, network: &dyn Network) -> Result<Option<(String, u16)>> {
    let address = match network.address().await {
        Ok(address) => address,
        Err(error)
            if matches!(error.kind(), ErrorKind::Unimplemented | ErrorKind::InvalidArgument) =>
        {
            context.output.note(format_args!("{error}; the connection goes through the exporter"));
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    match address.parse() {
        Ok(Address::Tcp { host, port }) => Ok(Some((host, port))),
        _ => Err(Fault::usage(format!("{address} is no address for ssh"), "leave out --direct")),
    }
}

/// A private folder with a key, removed at the end.
struct Key(RuntimeDir);

const KEY: &str = "key";

impl Key {
    async fn store(mut key: String) -> Result<Self> {
        // Without it ssh takes the key for damaged.
        if !key.ends_with('\n') {
            key.push('\n');
        }
        let stored = blocking(move || {
            let folder = RuntimeDir::create("ssh")?;
            save_new(&folder.file(KEY), key.as_bytes())?;
            Ok(Self(folder))
        });
        Ok(stored.await.context("storing the key for ssh")?)
    }
}

/// How many of the arguments are options of ssh and their values.
fn options(arguments: &[OsString]) -> usize {
    let mut count = 0;
    while let Some([b'-', letters @ ..]) = arguments.get(count).map(|word| word.as_bytes()) {
        if letters.is_empty() || letters == b"-" {
            break;
        }
        // -v, -vvl root, -lroot
        let valued = letters.iter().position(|letter| WITH_VALUE.contains(letter));
        count += if valued.is_some_and(|place| place + 1 == letters.len()) { 2 } else { 1 };
    }
    count.min(arguments.len())
}

/// Whether it is the option -l, also among others.
fn names_user(option: &OsString) -> bool {
    let Some(letters) = option.as_bytes().strip_prefix(b"-") else { return false };
    letters.iter().find(|letter| WITH_VALUE.contains(letter)) == Some(&b'l')
}

/// The words of a command as a shell writes them: quotes and backslashes, nothing else.
fn split(text: &str) -> Result<Vec<String>> {
    let unusable = || {
        let message = "`ssh_command` of the exporter has a quote that is not closed";
        Fault::from(Error::failed_precondition(message))
    };
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            ('\\', None | Some('"')) => {
                word.get_or_insert_default().push(letters.next().ok_or_else(unusable)?);
            }
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(unusable());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_a_shell_splits_them() {
        let check =
            |text: &str, expected: &[&str]| assert_eq!(split(text).unwrap(), expected, "{text}");
        check("ssh -o  A=b\t-v", &["ssh", "-o", "A=b", "-v"]);
        check("'my ssh' \"a \\\"b\" c\\ d '' x\"y\"z", &["my ssh", "a \"b", "c d", "", "xyz"]);
        check("", &[]);
        assert!(split("ssh 'x").is_err() && split("ssh \\").is_err());
    }

    #[test]
    fn options_come_before_the_command() {
        let check = |line: &str, expected: usize, user: bool| {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(options(&words), expected, "{line}");
            assert_eq!(words[..expected].iter().any(names_user), user, "{line}");
        };
        check("", 0, false);
        check("uname -a", 0, false);
        check("-l root uname -l", 2, true);
        check("-vvlroot -p 22 ls", 3, true);
        check("-tt -o LogLevel=ERROR -L8:x:9 -- -x", 4, false);
        check("-i l", 2, false);
        check("-p", 1, false);
        check("- x", 0, false);
    }
}
