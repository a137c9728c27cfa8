//! Talks to a console as a person would: waits for text, sends text.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use jumpstarter_driver_core::{
    Channel, ChannelReader, ChannelWriter, Error, ErrorKind, Framing, Result, Secret, Serial,
    deadline_after,
};
use tokio::time::{Instant, timeout_at};

use crate::ansi::AnsiStripper;
use crate::pattern::{Match, Pattern};
use crate::scrollback::Scrollback;
use crate::visible::visible;

/// The most bytes that are kept while nothing matches; older ones cannot match any more.
const UNMATCHED: usize = 256 * 1024;
/// The most bytes of a transcript.
const TRANSCRIPT: usize = 1024 * 1024;
/// How much of what was seen an error shows.
const SHOWN: usize = 2 * 1024;
/// How long sending may take by default.
const SEND_DEADLINE: Duration = Duration::from_secs(60);

/// A console to wait and send on. Made by [`SerialExt::expect`] or of any channel.
///
/// Each wait begins behind the previous match. Matches may span any number of received pieces.
/// Cancelling a wait loses nothing: received data stays for the next wait.
///
/// ```
/// # use std::time::Duration;
/// # use jumpstarter_driver_core::{Channel, Framing, Result};
/// # use jumpstarter_console::Console;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let (mut device, ours) = Channel::pair(Framing::Bytes);
/// let mut console = Console::new(ours);
/// device.send("Linux 6.1\r\nhost login: ").await?;
/// let found = console.wait_for("login: ", Duration::from_secs(5)).await?;
/// assert_eq!(found.before_text(), "Linux 6.1\r\nhost ");
/// console.send_line("root").await?;
/// assert_eq!(device.receive().await?.as_deref(), Some(&b"root\r"[..]));
/// # Ok(()) }
/// ```
///
/// Pitfall: a device that echoes sends back the input, so a wait for a word of the command finds
/// the echo.
pub struct Console {
    input: Input,
    writer: ChannelWriter,
    line_ending: &'static str,
    send_deadline: Duration,
    /// What was sent and must not be shown, should the device echo it.
    secrets: Vec<Secret>,
}

/// The receiving direction and what came of it.
struct Input {
    reader: ChannelReader,
    /// What arrived since the last match.
    unmatched: Vec<u8>,
    /// How many bytes of it were dropped because nothing matched, ever.
    dropped: u64,
    transcript: Scrollback,
    /// Why nothing will arrive any more.
    closed: Option<String>,
    stripper: Option<AnsiStripper>,
}

impl Console {
    /// A console on `channel`.
    pub fn new(channel: Channel) -> Self {
        debug_assert_eq!(channel.framing(), Framing::Bytes, "a console is a stream of bytes");
        let (reader, writer) = channel.split();
        Self {
            input: Input {
                reader,
                unmatched: Vec::new(),
                dropped: 0,
                transcript: Scrollback::new(TRANSCRIPT),
                closed: None,
                stripper: None,
            },
            writer,
            line_ending: "\r",
            send_deadline: SEND_DEADLINE,
            secrets: Vec::new(),
        }
    }

    /// Removes terminal control sequences (colours, cursor moves, titles) before anything is
    /// matched or kept.
    #[must_use]
    pub fn without_ansi(mut self) -> Self {
        self.input.stripper = Some(AnsiStripper::default());
        self
    }

    /// Sets what [`send_line`](Self::send_line) appends to the text: by default a carriage return,
    /// as the Enter key.
    #[must_use]
    pub fn line_ending(mut self, ending: &'static str) -> Self {
        self.line_ending = ending;
        self
    }

    /// Sets how long sending may take; a minute by default. For long texts over slow lines.
    #[must_use]
    pub fn send_deadline(mut self, deadline: Duration) -> Self {
        self.send_deadline = deadline;
        self
    }

    /// Waits for this text.
    ///
    /// # Errors
    /// As [`wait_for_any`](Self::wait_for_any).
    pub async fn wait_for(&mut self, text: &str, deadline: Duration) -> Result<Match> {
        self.wait_for_any([text], deadline).await
    }

    /// Waits for this regular expression; see [`Pattern::regex`] for its pitfall.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong expression; as [`wait_for_any`](Self::wait_for_any).
    pub async fn wait_for_regex(&mut self, expression: &str, deadline: Duration) -> Result<Match> {
        self.wait_for_any([Pattern::regex(expression)?], deadline).await
    }

    /// Waits for the first of these: texts, or [`Pattern`]s. Of several matches the one that begins
    /// first in the output wins, then the earlier one in this list.
    ///
    /// # Errors
    /// `DeadlineExceeded` after the deadline, `Unavailable` at once if the console ends; either
    /// shows the last output.
    pub async fn wait_for_any<P: Into<Pattern>>(
        &mut self,
        patterns: impl IntoIterator<Item = P>,
        deadline: Duration,
    ) -> Result<Match> {
        let patterns: Vec<Pattern> = patterns.into_iter().map(Into::into).collect();
        self.wait(&patterns, deadline_after(deadline), deadline).await
    }

    /// Waits as [`wait_for_any`](Self::wait_for_any) does, and sends `text` each time that nothing
    /// of it came for the pause: for boot loaders whose moment for a key is not known. The text is
    /// sent as it is, and not before the first pause.
    ///
    /// # Errors
    /// Those of [`wait_for_any`](Self::wait_for_any) and [`send`](Self::send).
    pub async fn wait_sending<P: Into<Pattern>>(
        &mut self,
        patterns: impl IntoIterator<Item = P>,
        text: impl AsRef<[u8]>,
        pause: Duration,
        deadline: Duration,
    ) -> Result<Match> {
        let patterns: Vec<Pattern> = patterns.into_iter().map(Into::into).collect();
        let until = deadline_after(deadline);
        loop {
            match self.wait(&patterns, until.min(deadline_after(pause)), deadline).await {
                Err(error)
                    if error.kind() == ErrorKind::DeadlineExceeded && Instant::now() < until =>
                {
                    self.send(&text).await?;
                }
                ended => return ended,
            }
        }
    }

    /// Waits until `until`, which errors call `deadline`.
    async fn wait(
        &mut self,
        patterns: &[Pattern],
        until: Instant,
        deadline: Duration,
    ) -> Result<Match> {
        let mut searched = 0;
        loop {
            if let Some(found) = self.take_match(patterns, searched) {
                return Ok(found);
            }
            searched = self.input.unmatched.len();
            let dropped = self.input.dropped;
            let wanted =
                || patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            if let Some(why) = &self.input.closed {
                let message =
                    format!("the console {why} while waiting for {}; {}", wanted(), self.seen());
                return Err(Error::unavailable(message));
            }
            if timeout_at(until, self.input.receive()).await.is_err() {
                let message = format!("no {} within {deadline:?}; {}", wanted(), self.seen());
                return Err(Error::deadline_exceeded(message));
            }
            searched = searched.saturating_sub((self.input.dropped - dropped) as usize);
        }
    }

    /// Sends this text, without a line ending. Receives meanwhile, so that a device which waits for
    /// its output to be read accepts its input. After a cancellation or a timeout, the text was
    /// either not accepted or is still sent completely.
    ///
    /// # Errors
    /// `Unavailable` if the console has ended, `DeadlineExceeded` if the device does not accept it
    /// in time.
    pub async fn send(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        let sending = self.writer.send(Bytes::copy_from_slice(text.as_ref()));
        let sending = timeout_at(deadline_after(self.send_deadline), sending);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => {
                    return sent.map_err(|_| {
                        let why = format!("the console did not take input within {:?}", self.send_deadline);
                        Error::deadline_exceeded(why)
                    })?;
                }
                () = self.input.receive(), if self.input.closed.is_none() => {}
            }
        }
    }

    /// Sends this text and the [line ending](Self::line_ending).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_line(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        let mut line = text.as_ref().to_vec();
        line.extend_from_slice(self.line_ending.as_bytes());
        self.send(line).await
    }

    /// Sends a secret and the line ending, and keeps it out of errors, should the device echo it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_secret_line(&mut self, secret: &Secret) -> Result<()> {
        if !secret.expose().is_empty() && !self.secrets.contains(secret) {
            self.secrets.push(secret.clone());
        }
        self.send_line(secret.expose()).await
    }

    /// Everything that was received, at most its last MiB. Input that the device did not echo is
    /// not in it.
    pub fn transcript(&self) -> Vec<u8> {
        self.input.transcript.read(0, usize::MAX)
    }

    /// [`transcript`](Self::transcript) as text in which control characters are visible.
    pub fn transcript_text(&self) -> String {
        visible(&self.transcript())
    }

    /// The data since the last match; the next wait begins with it.
    pub fn unmatched(&self) -> &[u8] {
        &self.input.unmatched
    }

    /// Forgets the data since the last match, so that the next wait sees only new output. Data that
    /// has not been received yet is not affected.
    pub fn forget(&mut self) {
        self.input.unmatched.clear();
    }

    fn take_match(&mut self, patterns: &[Pattern], searched: usize) -> Option<Match> {
        let places = patterns.iter().enumerate();
        let found = places.filter_map(|(index, pattern)| {
            Some((index, pattern.place(&self.input.unmatched, searched)?))
        });
        let (index, place) = found.min_by_key(|(_, place)| place.start)?;
        let groups = patterns[index].groups(&self.input.unmatched);
        let names = patterns[index].names();
        let rest = self.input.unmatched.split_off(place.end);
        let mut before = std::mem::replace(&mut self.input.unmatched, rest);
        let matched = before.split_off(place.start);
        Some(Match { index, before, matched, groups, names })
    }

    /// The last of what was seen, for errors.
    pub(crate) fn seen(&self) -> String {
        let end = self.input.transcript.end();
        if end == 0 {
            return "nothing was received".to_owned();
        }
        // A secret that the cut would split has to be found first.
        let margin = self.secrets.iter().map(|secret| secret.expose().len()).max().unwrap_or(0);
        let bytes =
            self.input.transcript.read(end.saturating_sub((SHOWN + margin) as u64), usize::MAX);
        let mut text = visible(&bytes[bytes.len().saturating_sub(SHOWN + margin)..]);
        for secret in &self.secrets {
            text = text.replace(&visible(secret.expose().as_bytes()), "***");
        }
        let cut = text.ceil_char_boundary(text.len().saturating_sub(SHOWN));
        let more = if end as usize > SHOWN { "…" } else { "" };
        let since =
            if self.input.unmatched.is_empty() { " (nothing since the last match)" } else { "" };
        format!("seen last{since}:\n{more}{}", &text[cut..])
    }
}

impl Input {
    /// Waits for the next piece, or notes the end. Cancelling loses nothing.
    async fn receive(&mut self) {
        let bytes = match self.reader.receive().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                self.closed = Some("ended".to_owned());
                return;
            }
            Err(error) => {
                self.closed = Some(format!("broke ({error:#})"));
                return;
            }
        };
        let length = self.unmatched.len();
        match &mut self.stripper {
            Some(stripper) => stripper.strip(&bytes, &mut self.unmatched),
            None => self.unmatched.extend_from_slice(&bytes),
        }
        self.transcript.append(&self.unmatched[length..]);
        if self.unmatched.len() > UNMATCHED {
            // Half at once, so that a flood does not move the buffer for every piece; but nothing
            // that was not searched.
            let kept = (UNMATCHED / 2).max(self.unmatched.len() - length + UNMATCHED / 4);
            let surplus = self.unmatched.len().saturating_sub(kept);
            self.unmatched.drain(..surplus);
            self.dropped += surplus as u64;
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("received_bytes", &self.input.transcript.end())
            .field("unmatched_bytes", &self.input.unmatched.len())
            .field("closed", &self.input.closed)
            .finish_non_exhaustive()
    }
}

/// Makes a [`Console`] of a serial port, local or remote.
pub trait SerialExt {
    /// Opens the port to wait and send on it. Dropping the console closes it.
    ///
    /// # Errors
    /// The errors of [`Serial::connect`].
    fn expect(&self) -> impl Future<Output = Result<Console>> + Send;
}

impl<S: Serial + ?Sized> SerialExt for S {
    async fn expect(&self) -> Result<Console> {
        Ok(Console::new(self.connect().await?))
    }
}
