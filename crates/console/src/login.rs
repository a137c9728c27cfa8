//! Logs in on a console.

use std::time::Duration;

use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt, Secret, deadline_after};
use tokio::time::Instant;

use crate::expect::Console;
use crate::pattern::Pattern;

/// Text that stands behind a login prompt within this time belongs to its line: "Last login: Mon
/// …".
const SAME_LINE: Duration = Duration::from_millis(300);
/// How often the name is sent at most.
const NAMES: usize = 3;
/// How long a better login prompt is waited for while there is one with text behind it.
const BETTER_PROMPT: Duration = Duration::from_secs(3);

impl Console {
    /// Logs in: waits for a login prompt, sends `user`, sends `password` if it is asked for, waits
    /// for `prompt` (such as `# `), within `deadline` in total.
    ///
    /// The password is sent once. A repeated question means that the device has refused the login,
    /// whatever its words. (A device whose own limit has passed, often a minute, asks again as
    /// well.)
    ///
    /// It waits until the device asks. A device that asked before this console was opened asks
    /// again after `send_line("")`; this function does not do that, because a key press can stop a
    /// boot loader.
    ///
    /// # Errors
    /// `Unauthenticated` if the login is refused or a password is asked for and none is given;
    /// `DeadlineExceeded` and `Unavailable` as [`wait_for_any`](Self::wait_for_any).
    pub async fn login(
        &mut self,
        user: &str,
        password: Option<&Secret>,
        prompt: &str,
        deadline: Duration,
    ) -> Result<()> {
        let doing = || format!("logging in as `{user}`");
        self.login_until(user, password, prompt, deadline_after(deadline)).await.with_context(doing)
    }

    async fn login_until(
        &mut self,
        user: &str,
        password: Option<&Secret>,
        prompt: &str,
        until: Instant,
    ) -> Result<()> {
        let left = || until.saturating_duration_since(Instant::now());
        let logged_in = Pattern::literal(prompt);
        let refusal = Pattern::regex(
            "(?i-u)(?:^|[\r\n])(?:login incorrect|authentication failure|permission denied)",
        )?;
        let asks_password = Pattern::regex("(?i-u)[^\r\n]*password: ?")?;
        let login_again = again(&self.login_prompt(until).await?)?;
        for _ in 0..NAMES {
            self.send_line(user).await?;
            let answers = [&logged_in, &asks_password, &refusal, &login_again];
            let answer = self.wait_for_any(answers, left()).await?;
            match (answer.index, password) {
                (0, _) => return Ok(()),
                (1, Some(password)) => {
                    let password_again = again(&answer.matched)?;
                    self.send_secret_line(password).await?;
                    let answers = [&logged_in, &refusal, &login_again, &password_again];
                    return match self.wait_for_any(answers, left()).await?.index {
                        0 => Ok(()),
                        _ => Err(refused("the device refused the login")),
                    };
                }
                (1, None) => {
                    return Err(refused("the device asks for a password, and none was given"));
                }
                (2, _) => return Err(refused("the device refused the login")),
                // A getty that was restarted has lost the name.
                _ => {}
            }
        }
        Err(refused("the device asks for the name again and again"))
    }

    /// Waits for a login prompt and answers its last words, such as `host login: `.
    ///
    /// A prompt ends its line: "Last login: Mon …" is none, in whatever words. Messages of the
    /// kernel and of services can follow a prompt on its line; so one that has text behind it
    /// is taken if no better one comes.
    async fn login_prompt(&mut self, until: Instant) -> Result<Vec<u8>> {
        let left = || until.saturating_duration_since(Instant::now());
        let prompt = Pattern::regex(r"(?i-u)(?:\S+ )?login: ")?;
        let behind = Pattern::regex(r"(?s-u)\A.")?;
        let mut doubtful = None;
        loop {
            let patience = if doubtful.is_some() { left().min(BETTER_PROMPT) } else { left() };
            let line = match (self.wait_for_any([&prompt], patience).await, doubtful) {
                (Ok(found), _) => found.matched,
                (Err(error), Some(line)) if error.kind() == ErrorKind::DeadlineExceeded => {
                    return Ok(line);
                }
                (Err(error), _) => return Err(error),
            };
            match self.wait_for_any([&behind], left().min(SAME_LINE)).await {
                Ok(found) if !matches!(found.matched[..], [b'\r' | b'\n' | b'[']) => {
                    doubtful = Some(line)
                }
                Err(error) if error.kind() != ErrorKind::DeadlineExceeded => return Err(error),
                _ => return Ok(line),
            }
        }
    }
}

/// The same question once more, at the beginning of a line.
fn again(question: &[u8]) -> Result<Pattern> {
    let question = regex::escape(&String::from_utf8_lossy(question));
    Pattern::regex(&format!("(?:^|[\r\n]){question}"))
}

fn refused(message: &str) -> Error {
    Error::unauthenticated(message)
}
