//! Scripted conversations: steps, deadlines, captures.

mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jumpstarter_driver_core::{
    Error, ErrorKind, Result, ResultExt, Secret, Span, blocking, deadline_after,
};
use tokio::time::{Instant, timeout_at};

use crate::expect::Console;
use crate::key;
use crate::pattern::{Match, Pattern};
use crate::visible::visible;

/// How long each step may take by default.
const STEP: Duration = Duration::from_secs(60);

/// A conversation with a console.
///
/// ```
/// # use std::time::Duration;
/// # use jumpstarter_console::{Console, Pattern, Script};
/// # use jumpstarter_driver_core::{Channel, Framing, Result};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let script = Script::new()
///     .expect("stop autoboot")
///     .key("ctrl-c")?
///     .expect("=> ").within(Duration::from_secs(5))
///     .send_line("version")
///     .expect(Pattern::regex(r"U-Boot (?<version>\S+)\s")?);
/// # let (mut device, ours) = Channel::pair(Framing::Bytes);
/// # let mut console = Console::new(ours);
/// # device.send("Hit any key to stop autoboot\r\n=> U-Boot 2023.01 \r\n=> ").await?;
/// let done = script.run(&mut console).await?;
/// assert_eq!(done.capture("version"), Some("2023.01"));
/// # Ok(()) }
/// ```
///
/// It can be read from a file, a list of steps. Each has one of `expect`, `send`, `line`, `key`,
/// `secret` and `fail`:
///
/// ```yaml
/// - expect: stop autoboot           # text
///   within: 2min                    # default: a minute
/// - key: ctrl-c                     # or enter, escape, tab, up, …
/// - expect: "=> "
///   press: enter                    # while it waits …
///   every: 500ms                    # … so often (default: a second)
/// - line: version                   # text and the Enter key; `send` is text alone
/// - expect: {regex: 'U-Boot (?<version>\S+)\s'}
/// - line: boot
/// - expect:                         # what comes first
///   - "ready"
///   - text: "login: "
///     then:                         # steps that follow only on it
///     - line: root
///     - secret: {env: PASSWORD}     # a line that no error shows
///   - regex: 'panic: (?<why>.*)\r'
///     then: [{fail: the kernel panics}]
/// ```
///
/// Pitfall: as for [`Console`], the echo of a line is output, too.
#[derive(Clone, Debug, Default)]
pub struct Script {
    steps: Vec<Step>,
    deadline: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Step {
    action: Action,
    within: Duration,
}

#[derive(Clone, Debug)]
enum Action {
    Send(Vec<u8>),
    Line(String),
    Secret(Secret),
    Fail(String),
    Expect {
        /// What is waited for, and what follows on it.
        alternatives: Vec<(Pattern, Vec<Step>)>,
        /// What is sent while waiting, and how often.
        press: Option<(Vec<u8>, Duration)>,
    },
}

/// What a script saw.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScriptOutcome {
    /// The matches of the `expect` steps, in their order.
    pub matches: Vec<Match>,
    /// The named groups of their regular expressions; a later one replaces an earlier one of its
    /// name.
    pub captures: BTreeMap<String, String>,
}

impl ScriptOutcome {
    /// A named group.
    pub fn capture(&self, name: &str) -> Option<&str> {
        self.captures.get(name).map(String::as_str)
    }
}

impl Script {
    /// A script without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends this text, without a line ending.
    #[must_use]
    pub fn send(self, text: impl AsRef<[u8]>) -> Self {
        self.step(Action::Send(text.as_ref().to_vec()))
    }

    /// Sends this text and the console's [line ending](Console::line_ending).
    #[must_use]
    pub fn send_line(self, text: impl Into<String>) -> Self {
        self.step(Action::Line(text.into()))
    }

    /// Sends a secret and the line ending; see [`Console::send_secret_line`].
    #[must_use]
    pub fn send_secret_line(self, secret: Secret) -> Self {
        self.step(Action::Secret(secret))
    }

    /// Presses a key: `ctrl-c`, `enter`, `escape`, `up`, ….
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such key.
    pub fn key(self, name: &str) -> Result<Self> {
        let bytes = key::bytes_of(name)?;
        Ok(self.send(bytes))
    }

    /// Waits for a text or a [`Pattern`].
    #[must_use]
    pub fn expect(self, pattern: impl Into<Pattern>) -> Self {
        self.expect_any([pattern])
    }

    /// Waits for the first of these, as [`Console::wait_for_any`] does;
    /// [`ScriptOutcome::matches`] says which.
    #[must_use]
    pub fn expect_any<P: Into<Pattern>>(self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.expect_branch(patterns.into_iter().map(|pattern| (pattern, Self::new())))
    }

    /// Waits for the first of these, and continues with the steps that belong to it.
    #[must_use]
    pub fn expect_branch<P: Into<Pattern>>(
        self,
        branches: impl IntoIterator<Item = (P, Self)>,
    ) -> Self {
        let branches = branches.into_iter().map(|(pattern, then)| (pattern.into(), then.steps));
        self.step(Action::Expect { alternatives: branches.collect(), press: None })
    }

    /// Ends the script with this error: for branches.
    #[must_use]
    pub fn fail(self, message: impl Into<String>) -> Self {
        self.step(Action::Fail(message.into()))
    }

    /// How long the last step may take; a minute by default.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        if let Some(step) = self.steps.last_mut() {
            step.within = deadline;
        }
        self
    }

    /// Lets the last step, an `expect`, send this text while it waits, each time that this long
    /// nothing matched; see [`Console::wait_sending`].
    #[must_use]
    pub fn sending(mut self, text: impl AsRef<[u8]>, pause: Duration) -> Self {
        if let Some(Step { action: Action::Expect { press, .. }, .. }) = self.steps.last_mut() {
            *press = Some((text.as_ref().to_vec(), pause));
        }
        self
    }

    /// How long the whole script may take; unlimited by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Runs the steps on a console. What they leave unread stays for its next wait, and its
    /// [transcript](Console::transcript) has everything, also after an error.
    ///
    /// # Errors
    /// Those of [`Console::wait_for_any`] and [`Console::send`], and `FailedPrecondition` of a step
    /// that [fails](Self::fail); each names the step and shows what was seen last.
    pub async fn run(&self, console: &mut Console) -> Result<ScriptOutcome> {
        let until = deadline_after(self.deadline.unwrap_or(Duration::MAX));
        let mut run = Run { console, until, whole: self.deadline, outcome: Default::default() };
        run.steps(&self.steps, "").await?;
        Ok(run.outcome)
    }

    fn step(mut self, action: Action) -> Self {
        self.steps.push(Step { action, within: STEP });
        self
    }
}

struct Run<'a> {
    console: &'a mut Console,
    until: Instant,
    whole: Option<Duration>,
    outcome: ScriptOutcome,
}

impl Run<'_> {
    /// Runs the steps of the script, or of a branch in step `place`.
    fn steps<'a>(&'a mut self, steps: &'a [Step], place: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            for (index, step) in steps.iter().enumerate() {
                let place = format!("{place}{}", index + 1);
                let left = self.until.saturating_duration_since(Instant::now());
                let doing = || match self.whole {
                    Some(whole) if left < step.within => {
                        format!("step {place} ({step}), with {} for the script", Span::from(whole))
                    }
                    _ => format!("step {place} ({step})"),
                };
                let then = Self::act(self.console, &mut self.outcome, step, step.within.min(left))
                    .await
                    .with_context(doing)?;
                self.steps(then, &format!("{place}.")).await?;
            }
            Ok(())
        }
        .boxed()
    }

    /// Takes one step, and returns those that follow only on what it found.
    async fn act<'a>(
        console: &mut Console,
        outcome: &mut ScriptOutcome,
        step: &'a Step,
        limit: Duration,
    ) -> Result<&'a [Step]> {
        let until = deadline_after(limit);
        let late = |_| Error::deadline_exceeded(format!("it was not sent within {limit:?}"));
        match &step.action {
            Action::Send(text) => timeout_at(until, console.send(text)).await.map_err(late)??,
            Action::Line(text) => {
                timeout_at(until, console.send_line(text)).await.map_err(late)??
            }
            Action::Secret(secret) => {
                let secret = secret.clone();
                let secret = blocking(move || secret.resolve()).await?;
                timeout_at(until, console.send_secret_line(&secret)).await.map_err(late)??;
            }
            Action::Fail(message) => {
                let message = format!("{message}; {}", console.seen());
                return Err(Error::new(ErrorKind::FailedPrecondition, message));
            }
            Action::Expect { alternatives, press } => {
                let patterns = alternatives.iter().map(|(pattern, _)| pattern);
                let found = match press {
                    Some((text, pause)) => {
                        console.wait_sending(patterns, text, *pause, limit).await?
                    }
                    None => console.wait_for_any(patterns, limit).await?,
                };
                let named = found.named_groups();
                let named = named.map(|(name, text)| (name.to_owned(), text.into_owned()));
                outcome.captures.extend(named);
                let (_, then) = &alternatives[found.index];
                outcome.matches.push(found);
                return Ok(then);
            }
        }
        Ok(&[])
    }
}

/// As in an error.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Send(text) => write!(f, "send `{}`", visible(text)),
            Action::Line(text) => write!(f, "line `{}`", visible(text.as_bytes())),
            Action::Secret(_) => f.write_str("secret"),
            Action::Fail(_) => f.write_str("fail"),
            Action::Expect { alternatives, .. } => {
                let texts: Vec<_> = alternatives.iter().map(|(p, _)| p.to_string()).collect();
                write!(f, "expect {}", texts.join(" or "))
            }
        }
    }
}
