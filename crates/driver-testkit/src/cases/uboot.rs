//! Cases of boards with U-Boot: what the driver says, and the console behind its child `serial`.

use std::time::Duration;

use jumpstarter_driver_core::{Channel, Power, Serial};
use tokio::time::timeout;

use crate::case::{MustSucceed, Outcome, ensure};
use crate::instance::Instance;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a closed console may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// UBOOT-1: the prompt is text of one line, the same each time, also after a reset; and there are
/// children for power and console.
pub(crate) async fn prompt_is_stable(instance: &Instance) -> Outcome {
    let first = prompt(instance).await?;
    ensure!(!first.trim().is_empty(), "the prompt `{first}` is blank");
    ensure!(!first.contains(['\r', '\n']), "the prompt `{first}` has several lines");
    instance.driver().reset().await.must("a reset")?;
    let later = prompt(instance).await?;
    ensure!(later == first, "the prompt `{first}` is `{later}` later");
    instance.child::<dyn Power>("power")?;
    instance.child::<dyn Serial>("serial").map(drop)
}

/// UBOOT-2: a command is answered with its output, then its exit code, then the prompt.
pub(crate) async fn command_is_answered(instance: &Instance) -> Outcome {
    let mut board = Board::attach(instance).await?;
    let output = board.run("echo conform\"ance\"; echo @\"K1\":$?@").await?;
    ensure!(
        output.contains("conformance\n@K1:0@"),
        "`echo` is answered {output:?}: no output and exit code"
    );
    let output = board.run("false; echo @\"K2\":$?@").await?;
    ensure!(output.contains("@K2:1@"), "`false` is answered {output:?}: no exit code 1");
    Ok(())
}

/// UBOOT-3: a variable of the environment comes back as it was set, and can be removed.
pub(crate) async fn variable_comes_back(instance: &Instance) -> Outcome {
    let mut board = Board::attach(instance).await?;
    board.run("setenv conformance 'two words; one $line'").await?;
    let output = board.run("printenv conformance").await?;
    ensure!(
        output.lines().any(|line| line == "conformance=two words; one $line"),
        "a variable comes back as {output:?}"
    );
    board.run("setenv conformance").await?;
    let output = board.run("printenv conformance").await?;
    ensure!(
        !output.lines().any(|line| line.starts_with("conformance=")),
        "a removed variable comes back as {output:?}"
    );
    Ok(())
}

/// UBOOT-4: closing the device ends the console: no command is answered afterwards.
pub(crate) async fn closed_console_takes_no_command(instance: &Instance) -> Outcome {
    let mut board = Board::attach(instance).await?;
    instance.doing("closing with a console open");
    instance.close().await.must("closing with a console open")?;
    // It may already refuse it.
    board.channel.send("echo late\"r\"\r").await.ok();
    instance.doing("waiting for the end of the console after a close");
    let ended = timeout(END_WITHIN, async {
        while let Ok(Some(bytes)) = board.channel.receive().await {
            board.heard.push_str(&String::from_utf8_lossy(&bytes));
        }
    });
    ended.await.map_err(|_| format!("the console goes on {END_WITHIN:?} after the close"))?;
    ensure!(!board.heard.contains("later"), "a command is answered after the close");
    Ok(())
}

async fn prompt(instance: &Instance) -> Result<String, String> {
    let reply = instance.invoke("get_prompt", vec![]).await.must("`get_prompt`")?;
    let text: String = reply.into_value().must("`get_prompt`")?;
    // In Python it begins with the end of the line before.
    Ok(text.trim_start_matches(['\r', '\n']).to_owned())
}

/// U-Boot at its prompt.
struct Board<'a> {
    instance: &'a Instance,
    channel: Channel,
    prompt: String,
    heard: String,
}

impl<'a> Board<'a> {
    async fn attach(instance: &'a Instance) -> Result<Self, String> {
        let prompt = prompt(instance).await?;
        instance.doing("connecting to the console");
        let serial = instance.child::<dyn Serial>("serial")?;
        let channel = serial.connect().await.must("connecting to the console")?;
        let mut board = Self { instance, channel, prompt, heard: String::new() };
        // Ctrl-C empties the line.
        board.say("\x03").await?;
        Ok(board)
    }

    /// Enters a line, and returns what comes between it and the next prompt.
    async fn run(&mut self, line: &str) -> Result<String, String> {
        let heard = self.say(&format!("{line}\r")).await?;
        let answer = heard.split_once('\n').map(|(_, answer)| answer.to_owned());
        answer.ok_or_else(|| format!("`{line}` is answered {heard:?}, which is no line"))
    }

    /// Sends keys, and returns what comes before the next prompt.
    async fn say(&mut self, keys: &str) -> Result<String, String> {
        self.instance.doing(format!("waiting for the prompt after {keys:?}"));
        self.channel.send(keys.to_owned()).await.must("typing")?;
        let hearing = timeout(ANSWER_WITHIN, async {
            loop {
                if let Some((before, after)) = self.heard.split_once(&self.prompt) {
                    let (before, after) = (before.to_owned(), after.to_owned());
                    self.heard = after;
                    return Ok(before);
                }
                match self.channel.receive().await.must("the console")? {
                    Some(bytes) => {
                        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
                        self.heard.push_str(&text);
                    }
                    None => return Err("the console ended".to_owned()),
                }
            }
        });
        match hearing.await {
            Ok(heard) => heard,
            Err(_) => Err(format!(
                "no prompt `{}` within {ANSWER_WITHIN:?} after {keys:?}, but {:?}",
                self.prompt, self.heard
            )),
        }
    }
}
