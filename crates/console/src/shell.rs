//! A command shell over a console: commands with output and exit code, and files, where a device
//! has neither network nor agent.

mod transfer;
mod words;

use std::time::Duration;

use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt, Secret, deadline_after};
use tokio::time::Instant;

use crate::expect::Console;
use crate::pattern::{Match, Pattern};
use words::{fits_in_a_line, quote, sha256};

/// How long a console must be silent before a key is pressed: a boot that is under way must not be
/// stopped.
const SILENCE: Duration = Duration::from_secs(3);
/// How long an answer is waited for before the question is repeated; doubled each time.
const FIRST_REPEAT: Duration = Duration::from_secs(3);
/// The longest such time.
const LONGEST_REPEAT: Duration = Duration::from_secs(60);
/// How often a damaged line is sent again.
const TRIES: usize = 5;
/// A login prompt that nothing follows yet.
const LOGIN: &str = r"(?i-u)(?:^|[\r\n])(?:\S+ )?login: $";
/// The beginning of the names of this shell's files, in a variable of the device's shell.
const FILES: &str = "$__jd";
/// How often a login is tried.
const LOGINS: usize = 2;

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOutput {
    /// What it wrote to standard output and standard error.
    pub output: Vec<u8>,
    /// 0 is success; 127 is a command that does not exist.
    pub exit_code: u8,
}

impl CommandOutput {
    /// The output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

/// How a [`ConsoleShell`] logs in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password, if it is asked for.
    pub password: Option<Secret>,
}

/// A POSIX shell at the end of a console.
///
/// A command's output is kept in a file of the device and fetched in blocks with checksums, and
/// each answer is asked for again if it does not come: messages of the kernel in between, and
/// characters that a slow port loses, disturb nothing. The device needs `base64`, `dd`,
/// `sha256sum` and `wc`, as coreutils and busybox have them, and a folder to write to (`/tmp`,
/// `/run`, `/dev/shm` or the user's own).
///
/// ```no_run
/// # use std::time::Duration;
/// # use jumpstarter_driver_core::{Result, Secret};
/// # use jumpstarter_console::{Console, ConsoleShell, Credentials};
/// # async fn example(console: Console) -> Result<()> {
/// let root = Credentials { user: "root".into(), password: Some(Secret::new("linux")) };
/// let mut shell = ConsoleShell::open(console, Some(root), Duration::from_secs(120)).await?;
/// let done = shell.run("cat /proc/version", Duration::from_secs(30)).await?;
/// assert_eq!(done.exit_code, 0);
/// # Ok(()) }
/// ```
///
/// Pitfall: a command has no standard input, and its output comes when it has ended.
#[derive(Debug)]
pub struct ConsoleShell {
    console: Console,
    credentials: Option<Credentials>,
    /// The number of the last command.
    number: u32,
    login: Pattern,
}

impl ConsoleShell {
    /// Waits for a shell on `console`, and logs in if it is asked to. A device that boots is waited
    /// for: no key is pressed while it writes.
    ///
    /// # Errors
    /// `Unauthenticated` if the login is refused, or asked for without credentials;
    /// `DeadlineExceeded` if there is no shell in time; `Unavailable` if the console ends.
    pub async fn open(
        console: Console,
        credentials: Option<Credentials>,
        deadline: Duration,
    ) -> Result<Self> {
        let mut shell = Self {
            console: console.without_ansi(),
            credentials,
            number: 0,
            login: Pattern::regex(LOGIN)?,
        };
        shell.ready(deadline).await?;
        Ok(shell)
    }

    /// Waits for the shell again, as [`open`](Self::open) does: after a reboot.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn ready(&mut self, deadline: Duration) -> Result<()> {
        let until = deadline_after(deadline);
        self.log_in(until).await.context("waiting for a shell on the console")?;
        self.require_tools(until).await?;
        // A folder of this shell only, also after a reboot.
        let folder = "for d in /tmp /run /dev/shm $HOME; do [ -w $d ] && break; done; \
                      __jd=$d/.console$$; [ -w $d ]";
        let code = self.ask(folder, until).await?;
        if code != 0 {
            return Err(Error::failed_precondition("the device has no folder to write to"));
        }
        Ok(())
    }

    /// Every later line needs these programs.
    async fn require_tools(&mut self, until: Instant) -> Result<()> {
        let tools = ["base64", "dd", "sha256sum", "wc"];
        let found = tools.map(|tool| format!("command -v {tool}")).join("&&");
        let line =
            |number: u32| format!(" echo @T\"{number}:$({{ {found};}} >/dev/null 2>&1;echo $?)@\"");
        let answer = |number: u32| format!(r"(?-u)@T{number}:(\d+)@");
        match self.query(line, answer, until).await?.group(1).as_deref() {
            Some("0") => Ok(()),
            _ => {
                let message = format!("the device has not all of {}", tools.join(", "));
                Err(Error::failed_precondition(message))
            }
        }
    }

    /// Runs a command in the shell (so that `cd` and variables stay), and returns its output and
    /// exit code.
    ///
    /// # Errors
    /// `DeadlineExceeded` if it does not end in time: it is interrupted by Ctrl-C. `Unavailable` if
    /// the console ends, or the device asks for a login, as after a reboot.
    pub async fn run(&mut self, command: &str, deadline: Duration) -> Result<CommandOutput> {
        let until = deadline_after(deadline);
        let doing = || format!("running `{command}` on the console");
        let output = format!("{FILES}.o");
        let typed = format!("eval {} </dev/null >{output} 2>&1", quote(command));
        let code = if fits_in_a_line(&quote(&typed)) {
            self.ask(&typed, until).await.with_context(doing)?
        } else {
            let script = format!("{FILES}.s");
            self.send_file(command.as_bytes(), &script, until).await.with_context(doing)?;
            let line = format!(". {script} </dev/null >{output} 2>&1");
            self.ask(&line, until).await.with_context(doing)?
        };
        let output = self.fetch_file(&output, until).await.with_context(doing)?;
        let rest = format!("rm -f {FILES}.o {FILES}.s");
        self.ask(&rest, until).await.with_context(doing)?;
        Ok(CommandOutput { output, exit_code: code })
    }

    /// Writes a file of the device. It appears whole, or not at all.
    ///
    /// # Errors
    /// `FailedPrecondition` if the device cannot write it; those of [`run`](Self::run).
    pub async fn put(&mut self, bytes: &[u8], path: &str, deadline: Duration) -> Result<()> {
        let until = deadline_after(deadline);
        let doing = || format!("putting {path} on the device");
        let part = format!("{FILES}.p");
        self.send_file(bytes, &part, until).await.with_context(doing)?;
        let target = quote(path);
        let line = format!(
            "{{ cat {part} >{target}.part && mv {target}.part {target}; }} 2>/dev/null; \
             __jx=$?; rm -f {part}; [ $__jx = 0 ]"
        );
        match self.ask(&line, until).await.with_context(doing)? {
            0 => Ok(()),
            _ => Err(Error::failed_precondition("the device cannot write it").context(doing())),
        }
    }

    /// Reads a file of the device.
    ///
    /// # Errors
    /// `NotFound` if the device cannot read it; those of [`run`](Self::run).
    pub async fn get(&mut self, path: &str, deadline: Duration) -> Result<Vec<u8>> {
        let until = deadline_after(deadline);
        let doing = || format!("getting {path} from the device");
        // A copy, so that a file that changes, such as a log, is one state of it.
        let copy = format!("{FILES}.g");
        let line = format!("cat {} >{copy} 2>/dev/null || {{ rm -f {copy}; false; }}", quote(path));
        if self.ask(&line, until).await.with_context(doing)? != 0 {
            return Err(Error::not_found("the device cannot read it").context(doing()));
        }
        let bytes = self.fetch_file(&copy, until).await.with_context(doing)?;
        self.ask(&format!("rm -f {copy}"), until).await.with_context(doing)?;
        Ok(bytes)
    }

    /// The console, logged in.
    pub fn into_console(self) -> Console {
        self.console
    }

    /// Runs a line, and returns its exit code.
    ///
    /// The device checks that the line arrived as it was sent, and is sent it again if not. The
    /// answer may be torn by a message of the kernel, so it is asked for again and again.
    async fn ask(&mut self, line: &str, until: Instant) -> Result<u8> {
        let sum = sha256(line.as_bytes());
        for _ in 0..TRIES {
            self.number += 1;
            let number = self.number;
            // The quote keeps the echo of what is typed from looking like the answer.
            let query = "echo @J\"$__jc@\"";
            let first = format!(
                " __jl={};if [ \"$(printf %s \"$__jl\"|sha256sum)\" = \"{sum}  -\" ];\
                 then eval \"$__jl\";__jc={number}:$?;else __jc={number}:torn;fi;{query}",
                quote(line)
            );
            let answer = format!(r"(?-u)@J{number}:(\d+|torn)@");
            let found = self.converse(first, format!(" {query}"), &answer, until).await?;
            match found.group(1).as_deref() {
                Some("torn") => {}
                Some(code) => {
                    let code = code.parse();
                    return code.map_err(|_| Error::internal("an exit code beyond 255"));
                }
                None => return Err(Error::internal("an answer without a code")),
            }
        }
        Err(Error::data_loss(format!("a line was damaged {TRIES} times on its way")))
    }

    /// Sends a line that changes nothing, numbered, until its answer comes.
    async fn query(
        &mut self,
        line: impl Fn(u32) -> String,
        answer: impl Fn(u32) -> String,
        until: Instant,
    ) -> Result<Match> {
        self.number += 1;
        let line = line(self.number);
        self.converse(line.clone(), line, &answer(self.number), until).await
    }

    /// Sends `line`, and then `again` from time to time, until the answer comes.
    async fn converse(
        &mut self,
        line: String,
        again: String,
        answer: &str,
        until: Instant,
    ) -> Result<Match> {
        let answer = Pattern::regex(answer)?;
        let login = self.login.clone();
        self.refuse_login_prompt().await?;
        self.console.forget();
        self.console.send_line(line).await?;
        let mut pause = FIRST_REPEAT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.console.wait_for_any([&answer, &login], left.min(pause)).await {
                Ok(found) if found.index == 0 => return Ok(found),
                Ok(_) => {
                    return Err(restarted());
                }
                Err(error) if error.kind() != ErrorKind::DeadlineExceeded => return Err(error),
                Err(error) if left <= pause => {
                    // Ctrl-C, so that the next line is read.
                    self.console.send("\x03").await?;
                    return Err(error);
                }
                Err(_) => {
                    pause = (pause * 2).min(LONGEST_REPEAT);
                    self.console.send_line(&again).await?;
                }
            }
        }
    }

    /// Fails if the device has a login prompt now: a line would be taken for a name.
    async fn refuse_login_prompt(&mut self) -> Result<()> {
        let never = Pattern::regex("[^\\s\\S]")?;
        let mut known = usize::MAX;
        while known != self.console.unmatched().len() {
            known = self.console.unmatched().len();
            // Receives what has arrived.
            match self.console.wait_for_any([&never], Duration::ZERO).await {
                Err(error) if error.kind() != ErrorKind::DeadlineExceeded => return Err(error),
                _ => {}
            }
        }
        match self.login.place(self.console.unmatched(), 0) {
            Some(_) => Err(restarted()),
            None => Ok(()),
        }
    }

    /// Waits until a shell answers, and logs in on the way.
    async fn log_in(&mut self, until: Instant) -> Result<()> {
        let shell = Pattern::literal("@J0:0@");
        let login = self.login.clone();
        let password = Pattern::regex("(?i-u)password: ?$")?;
        let refused = Pattern::regex("(?i-u)login incorrect|authentication failure")?;
        let anything = Pattern::regex("(?s-u).+")?;
        let (mut logins, mut named) = (0, false);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let patterns = [&shell, &login, &password, &refused];
            match self.console.wait_for_any(patterns, left.min(SILENCE)).await {
                Ok(found) => match found.index {
                    0 => return Ok(()),
                    1 if logins == LOGINS => {
                        return Err(Error::unauthenticated("the device refuses the login"));
                    }
                    1 => {
                        let Some(credentials) = &self.credentials else {
                            let message = "the device asks for a login";
                            return Err(Error::unauthenticated(message)
                                .with_hint("give a user and a password"));
                        };
                        self.console.send_line(&credentials.user).await?;
                        (logins, named) = (logins + 1, true);
                    }
                    // What was typed at a prompt that was not seen is taken for a name.
                    2 if !named => self.console.send_line("").await?,
                    2 => {
                        let password = self.credentials.as_ref().and_then(|c| c.password.clone());
                        let Some(password) = password else {
                            let message = "the device asks for a password, and none was given";
                            return Err(Error::unauthenticated(message));
                        };
                        self.console.send_secret_line(&password).await?;
                        named = false;
                    }
                    _ => named = false,
                },
                Err(error) if error.kind() != ErrorKind::DeadlineExceeded => return Err(error),
                Err(error) if left <= SILENCE => return Err(error),
                Err(_) => {
                    // Only a console that was silent meanwhile is spoken to.
                    let spoke = !self.console.unmatched().is_empty()
                        && self.console.wait_for_any([&anything], Duration::ZERO).await.is_ok()
                        && self.console.wait_for_any([&anything], SILENCE).await.is_ok();
                    if !spoke {
                        self.console.send_line(" echo @J\"0:0@\"").await?;
                    }
                }
            }
        }
    }
}

fn restarted() -> Error {
    Error::unavailable("the device asks for a login: it was restarted")
        .with_hint("wait for the shell again")
}
