//! A board that waits at the prompt of U-Boot.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const INTERRUPT: u8 = 0x03;
const ESCAPE: u8 = 0x1b;

/// Serves one client, until it leaves.
pub(super) async fn serve(mut stream: TcpStream, prompt: &str) -> std::io::Result<()> {
    let (mut line, mut board) = (Vec::new(), Board::default());
    let prompt = prompt.trim_start_matches(['\r', '\n']);
    while let Ok(key) = stream.read_u8().await {
        match key {
            ESCAPE | b'\n' => {}
            INTERRUPT => {
                line.clear();
                stream.write_all(format!("\r\n{prompt}").as_bytes()).await?;
            }
            b'\r' => {
                let output = board.run(&String::from_utf8_lossy(&std::mem::take(&mut line)));
                let said = format!("\r\n{}{prompt}", output.replace('\n', "\r\n"));
                stream.write_all(said.as_bytes()).await?;
            }
            _ => {
                line.push(key);
                stream.write_all(&[key]).await?;
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Board {
    environment: BTreeMap<String, String>,
    code: u8,
}

impl Board {
    /// The output of a line.
    fn run(&mut self, line: &str) -> String {
        let mut output = String::new();
        for command in commands(line) {
            let with_code = |word: String| word.replace("$?", &self.code.to_string());
            let words: Vec<String> = command.into_iter().map(with_code).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.code = 0;
            match *words {
                [] | ["true"] => {}
                ["false"] => self.code = 1,
                ["echo", ref rest @ ..] => output += &format!("{}\n", rest.join(" ")),
                ["setenv", name] => drop(self.environment.remove(name)),
                ["setenv", name, ref value @ ..] => {
                    self.environment.insert(name.to_owned(), value.join(" "));
                }
                ["printenv", name] => match self.environment.get(name) {
                    Some(value) => output += &format!("{name}={value}\n"),
                    None => {
                        output += &format!("## Error: \"{name}\" not defined\n");
                        self.code = 1;
                    }
                },
                [other, ..] => {
                    output += &format!("Unknown command '{other}' - try 'help'\n");
                    self.code = 1;
                }
            }
        }
        output
    }
}

/// The commands of a line and their words, without quotes.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut word, mut quote) = (vec![Vec::new()], None::<String>, None);
    for character in line.chars().chain([';']) {
        match (character, quote) {
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (_, Some(open)) if open == character => quote = None,
            (' ' | ';', None) => {
                if let (Some(word), Some(command)) = (word.take(), commands.last_mut()) {
                    command.push(word);
                }
                if character == ';' {
                    commands.push(Vec::new());
                }
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    commands.retain(|command| !command.is_empty());
    commands
}
