//! Logs in on a console.

use std::time::Duration;

use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt, Secret, units};
use tokio::time::Instant;

use crate::expect::Console;
use crate::pattern::Pattern;

impl Console {
    /// Logs in: waits for `login: `, sends `user`, sends `password` if it is asked for, waits for `prompt` (such as
    /// `# `). `deadline` is for all of it.
    ///
    /// It waits until the device asks. One that has asked before this console was opened asks again after
    /// `send_line("")`; that is not done here, because a key press can stop a boot loader.
    ///
    /// # Errors
    /// `Unauthenticated` when the login is refused or a password is asked for and none is given;
    /// `DeadlineExceeded` and `Unavailable` as [`wait_for_any`](Self::wait_for_any).
    pub async fn login(
        &mut self,
        user: &str,
        password: Option<&Secret>,
        prompt: &str,
        deadline: Duration,
    ) -> Result<()> {
        let doing = || format!("logging in as `{user}`");
        self.login_until(user, password, prompt, units::deadline(deadline)).await.with_context(doing)
    }

    async fn login_until(
        &mut self,
        user: &str,
        password: Option<&Secret>,
        prompt: &str,
        until: Instant,
    ) -> Result<()> {
        let left = || until.saturating_duration_since(Instant::now());
        let refused = Pattern::regex("(?i-u)(login incorrect|authentication failure|permission denied)")?;
        // A login that took too long asks again. "Last login: " is no question.
        let again = Pattern::regex(r"(?-u)(?:^|[\r\n])(?:login|[^L\s]\S* login|L[^a\s]\S* login): ")?;
        self.wait_for("login: ", left()).await?;
        let next = loop {
            self.send_line(user).await?;
            let asked = Pattern::regex("(?i-u)password: ?")?;
            let after_name = [Pattern::literal(prompt), asked, refused.clone(), again.clone()];
            let next = match (self.wait_for_any(after_name, left()).await?.index, password) {
                (1, Some(password)) => {
                    self.send_secret_line(password).await?;
                    let after_password = [Pattern::literal(prompt), refused.clone(), again.clone()];
                    self.wait_for_any(after_password, left()).await?.index
                }
                (1, None) => {
                    let message = "the device asks for a password, and none was given";
                    return Err(Error::new(ErrorKind::Unauthenticated, message));
                }
                (3, _) => 2,
                (2, _) => 1,
                (index, _) => index,
            };
            if next != 2 {
                break next;
            }
        };
        match next {
            0 => Ok(()),
            _ => Err(Error::new(ErrorKind::Unauthenticated, "the device refused the login")),
        }
    }
}
