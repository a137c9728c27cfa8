//! The client's half: a conversation with U-Boot over its console.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use jumpstarter_console::{Console, Match, Pattern, SerialExt};
use jumpstarter_driver_core::{
    Device, Error, ErrorKind, Power, Result, ResultExt, Serial, deadline_after,
};
use tokio::time::{Instant, sleep};

use crate::config::{POWER, SERIAL};
use crate::dhcp::DhcpInfo;
use crate::interface::Uboot;
use crate::words::{check_command, check_name, quote};

/// How long the board stays without power.
const OFF_FOR: Duration = Duration::from_secs(2);
/// How often a key is pressed while the board starts: before U-Boot asks, and while it counts.
const KEY_EVERY: Duration = Duration::from_millis(100);
/// The key that stops the autoboot: it is part of no command.
const ESCAPE: &str = "\x1b";
/// Ctrl-C: ends a command, and empties the line.
const INTERRUPT: &str = "\x03";
/// What U-Boot answers to a character that its line has no room for.
const BELL: &str = "\x07";
/// How long an idle prompt may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How often a line is sent that does not come back as it was sent.
const TRIES: usize = 5;
/// How long a variable may take to be read or set.
const ENVIRONMENT: Duration = Duration::from_secs(5);
/// How often DHCP is tried, and the pause between.
const DHCP_TRIES: usize = 3;
const DHCP_PAUSE: Duration = Duration::from_secs(2);

/// How much of a command an error shows.
const SHOWN: usize = 80;

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UbootOutput {
    /// What it printed, with plain line ends.
    pub text: String,
    /// 0 is success.
    pub exit_code: i32,
}

/// U-Boot at its prompt.
///
/// A line is entered only when U-Boot has echoed it as it was sent, so characters that a port
/// loses do not become other commands. U-Boot needs its usual shell (hush).
///
/// Pitfall: a command that leaves U-Boot, such as `boot` or `reset`, has no answer; enter it with
/// [`enter`](Self::enter), and wait for what comes with
/// [`wait_for_pattern`](Self::wait_for_pattern).
pub struct UbootConsole {
    console: Console,
    prompt: String,
    /// Of the last answer.
    number: u32,
}

impl UbootConsole {
    /// Switches the board off and on, and stops its autoboot. `path` is the driver's.
    ///
    /// # Errors
    /// `DeadlineExceeded` if U-Boot does not show its prompt; the errors of the children.
    pub async fn reboot(device: &Device, path: &str, deadline: Duration) -> Result<Self> {
        let until = deadline_after(deadline);
        let power = device.get::<dyn Power>(&child(path, POWER))?;
        let mut uboot = Self::connect(device, path).await?;
        power.off().await.context("switching the board off")?;
        sleep(OFF_FOR).await;
        uboot.drain().await?;
        power.on().await.context("switching the board on")?;
        uboot.stop_autoboot(until, deadline).await?;
        Ok(uboot)
    }

    /// Takes over a U-Boot that waits at its prompt.
    ///
    /// # Errors
    /// `FailedPrecondition` if nothing answers as U-Boot does; the errors of the children.
    pub async fn attach(device: &Device, path: &str) -> Result<Self> {
        let mut uboot = Self::connect(device, path).await?;
        match uboot.synchronise(deadline_after(ANSWER)).await {
            Err(error)
                if matches!(error.kind(), ErrorKind::DeadlineExceeded | ErrorKind::Unavailable) =>
            {
                let message = "U-Boot does not wait at its prompt";
                Err(Error::failed_precondition(message)
                    .with_source(error)
                    .with_hint("restart the board: `j PATH reboot`, or `UbootConsole::reboot`"))
            }
            outcome => outcome.map(|()| uboot),
        }
    }

    async fn connect(device: &Device, path: &str) -> Result<Self> {
        let prompt = device.get::<dyn Uboot>(path)?.get_prompt().await?;
        let serial = device.get::<dyn Serial>(&child(path, SERIAL))?;
        let console = serial.expect().await.context("connecting to the board's console")?;
        Ok(Self::new(console, &prompt))
    }

    /// A U-Boot at the other end of a console; whether it waits at its prompt is not checked.
    pub fn new(console: Console, prompt: &str) -> Self {
        // Before the first prompt there may be no newline.
        let prompt = prompt.trim_start_matches(['\r', '\n']).to_owned();
        Self { console: console.without_ansi(), prompt, number: 0 }
    }

    /// Presses a key until there is a prompt.
    async fn stop_autoboot(&mut self, until: Instant, deadline: Duration) -> Result<()> {
        loop {
            self.console.send(ESCAPE).await?;
            match self.console.wait_for(&self.prompt, KEY_EVERY).await {
                Ok(_) => return self.synchronise(until).await,
                Err(error) if error.kind() != ErrorKind::DeadlineExceeded => return Err(error),
                Err(error) if Instant::now() >= until => {
                    let prompt = self.prompt.escape_debug();
                    let message =
                        format!("U-Boot did not show its prompt `{prompt}` within {deadline:?}");
                    return Err(Error::deadline_exceeded(message).with_source(error));
                }
                Err(_) => {}
            }
        }
    }

    /// Drops what the board has said until now.
    async fn drain(&mut self) -> Result<()> {
        let never = Pattern::regex("[^\\s\\S]")?;
        match self.console.wait_for_any([&never], Duration::ZERO).await {
            Err(error) if error.kind() != ErrorKind::DeadlineExceeded => return Err(error),
            _ => self.console.forget(),
        }
        Ok(())
    }

    /// Makes sure that an empty line is next: keys and answers of before are out of the way.
    async fn synchronise(&mut self, until: Instant) -> Result<()> {
        loop {
            self.number += 1;
            let number = self.number;
            self.console.send(INTERRUPT).await?;
            self.console.send_line(format!("echo @J\"{number}\":@")).await?;
            let left = until.saturating_duration_since(Instant::now());
            let answer = format!("@J{number}:@");
            match self.console.wait_for(&answer, left.min(ANSWER / 2)).await {
                Ok(_) => return self.await_prompt().await,
                Err(error) if error.kind() != ErrorKind::DeadlineExceeded => return Err(error),
                Err(error) if left <= ANSWER / 2 => return Err(error),
                Err(_) => {}
            }
        }
    }

    async fn await_prompt(&mut self) -> Result<()> {
        self.console.wait_for(&self.prompt, ANSWER).await.context("waiting for the prompt")?;
        Ok(())
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// `InvalidArgument` for a command that the shell would not answer (several lines, a comment,
    /// an open quote), or that is too long for U-Boot; `DeadlineExceeded` if it does not end in
    /// time: it is interrupted then; `DataLoss` if U-Boot does not echo the line as it was sent;
    /// `Unavailable` if the console ends.
    pub async fn run(&mut self, command: &str, deadline: Duration) -> Result<UbootOutput> {
        check_command(command)?;
        let command = command.trim().trim_end_matches(';');
        let until = deadline_after(deadline);
        let doing = || format!("running `{command:.SHOWN$}` in U-Boot");
        self.number += 1;
        let number = self.number;
        // The quotes keep the echo of what is typed from looking like the answer.
        let line = format!("{command}; echo @J\"{number}\":$?@");
        self.enter(&line).await.with_context(doing)?;
        let left = until.saturating_duration_since(Instant::now());
        let answer = format!(r"(?-u)@J{number}:(-?\d+|\$\?)@");
        let found = match self.console.wait_for_regex(&answer, left).await {
            Err(error) if error.kind() == ErrorKind::DeadlineExceeded => {
                self.synchronise(deadline_after(ANSWER)).await.ok();
                return Err(error).with_context(doing);
            }
            found => found.with_context(doing)?,
        };
        self.await_prompt().await.with_context(doing)?;
        let code = found.group(1).and_then(|code| code.parse().ok());
        let exit_code = code.ok_or_else(|| {
            Error::unimplemented("this U-Boot has no exit codes: its shell is not hush")
        })?;
        Ok(UbootOutput { text: plain(&found), exit_code })
    }

    /// As [`run`](Self::run), for a command that must succeed. Returns its output.
    ///
    /// # Errors
    /// As [`run`](Self::run), and `FailedPrecondition` with the output if it fails.
    pub async fn run_checked(&mut self, command: &str, deadline: Duration) -> Result<String> {
        let UbootOutput { text, exit_code } = self.run(command, deadline).await?;
        match exit_code {
            0 => Ok(text),
            code => {
                let message = format!("`{command:.SHOWN$}` failed in U-Boot with exit code {code}");
                Err(Error::failed_precondition(message)
                    .with_hint(format!("it says: {}", text.trim())))
            }
        }
    }

    /// Enters a line without waiting for an answer: for `boot`, `reset` and the like.
    ///
    /// # Errors
    /// `DataLoss` if U-Boot does not echo the line, `InvalidArgument` if it is too long: nothing
    /// was entered then.
    pub async fn enter(&mut self, line: &str) -> Result<()> {
        for _ in 0..TRIES {
            self.console.forget();
            self.console.send(line).await?;
            match self.console.wait_for_any([line, BELL], ANSWER).await {
                Ok(found) if found.index == 0 => return self.console.send_line("").await,
                Ok(_) => {
                    self.synchronise(deadline_after(4 * ANSWER)).await?;
                    let message =
                        format!("a line of {} characters is too long for U-Boot", line.len());
                    return Err(Error::invalid_argument(message)
                        .with_hint("set parts of it as variables, and use those"));
                }
                Err(error) if error.kind() != ErrorKind::DeadlineExceeded => return Err(error),
                Err(_) => self.synchronise(deadline_after(2 * ANSWER)).await?,
            }
        }
        let message =
            format!("U-Boot does not echo a line of {} characters as it was sent", line.len());
        Err(Error::data_loss(message)
            .with_hint("check the console's speed, and that nobody else types"))
    }

    /// Waits for a regular expression in what the board says, such as the login of the system that
    /// it boots.
    ///
    /// # Errors
    /// Those of [`Console::wait_for_regex`].
    pub async fn wait_for_pattern(
        &mut self,
        expression: &str,
        deadline: Duration,
    ) -> Result<Match> {
        self.console.wait_for_regex(expression, deadline).await
    }

    /// Returns the value of a variable of the environment; `None` if it is not set.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no name; those of [`run`](Self::run).
    pub async fn env(&mut self, name: &str) -> Result<Option<String>> {
        check_name(name)?;
        let UbootOutput { text, exit_code } =
            self.run(&format!("printenv {name}"), ENVIRONMENT).await?;
        if exit_code != 0 {
            return Ok(None);
        }
        let value = text.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
        let value =
            value.ok_or_else(|| Error::data_loss(format!("U-Boot shows `{name}` as {text:?}")))?;
        Ok(Some(value.strip_suffix('\n').unwrap_or(value).to_owned()))
    }

    /// Sets a variable of the environment, or removes it. It lasts until the board is restarted;
    /// `saveenv` keeps it, where there is a place for it.
    ///
    /// # Errors
    /// `InvalidArgument` for a name or a value that a line cannot have; `FailedPrecondition` if
    /// U-Boot refuses it, as with read-only variables; those of [`run`](Self::run).
    pub async fn set_env(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        check_name(name)?;
        let command = match value {
            Some(value) => format!("setenv {name} {}", quote(value)?),
            None => format!("setenv {name}"),
        };
        self.run_checked(&command, ENVIRONMENT).await.map(drop)
    }

    /// Sets several variables, in order.
    ///
    /// # Errors
    /// As [`set_env`](Self::set_env); those before the failure are set.
    pub async fn set_env_all<'a>(
        &mut self,
        variables: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<()> {
        for (name, value) in variables {
            self.set_env(name, value).await?;
        }
        Ok(())
    }

    /// Gets an address by DHCP, without booting from the network. `deadline` is for each of three
    /// tries.
    ///
    /// # Errors
    /// `FailedPrecondition` if there is no network card or no answer; those of [`run`](Self::run).
    pub async fn set_up_dhcp(&mut self, deadline: Duration) -> Result<DhcpInfo> {
        let before = self.env("autoload").await?;
        self.set_env("autoload", Some("no")).await?;
        let got = self.dhcp(deadline).await;
        self.set_env("autoload", before.as_deref()).await?;
        got.context("getting an address by DHCP")?;
        let ip_address = self.address("ipaddr").await?;
        let gateway = self.address("gatewayip").await?;
        let netmask = self.address("netmask").await?;
        let missing =
            |what: &str| Error::failed_precondition(format!("the DHCP server names no {what}"));
        Ok(DhcpInfo {
            ip_address: ip_address.ok_or_else(|| missing("address"))?,
            gateway: gateway.ok_or_else(|| missing("gateway"))?,
            netmask: netmask.unwrap_or(Ipv4Addr::new(255, 255, 255, 0)),
        })
    }

    async fn dhcp(&mut self, deadline: Duration) -> Result<()> {
        let mut tries = 1;
        loop {
            match self.run_checked("dhcp", deadline).await {
                Err(error)
                    if error.kind() == ErrorKind::FailedPrecondition && tries < DHCP_TRIES =>
                {
                    tries += 1;
                    sleep(DHCP_PAUSE).await;
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    async fn address(&mut self, name: &str) -> Result<Option<Ipv4Addr>> {
        Ok(self.env(name).await?.and_then(|value| value.trim().parse().ok()))
    }

    /// The console, for what is not U-Boot's: the system that it booted.
    pub fn into_console(self) -> Console {
        self.console
    }
}

impl fmt::Debug for UbootConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { console, prompt, .. } = self;
        f.debug_struct("UbootConsole").field("prompt", prompt).field("console", console).finish()
    }
}

/// What was printed before the answer: without the end of the line that was entered.
fn plain(found: &Match) -> String {
    let text = found.before_text().replace("\r\n", "\n");
    text.split_once('\n').map_or(text.clone(), |(_, output)| output.to_owned())
}

fn child(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}
