//! The user's shell, with the device's name in its prompt.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The longest name in a prompt, in characters.
const MAX_NAME: usize = 64;

/// How to start a shell: its arguments and environment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shell {
    pub(super) program: OsString,
    pub(super) arguments: Vec<String>,
    /// The prompt, for shells that take it from the environment.
    pub(super) prompt: String,
}

/// The shell that `SHELL` names. A shell that would replace the prompt from its start-up files does
/// not read them, so the user's other settings are missing as well.
pub(super) fn shell(program: Option<OsString>, device: &str) -> Shell {
    let program = program.filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    let name = Path::new(&program).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let device = plain(device);
    let (arguments, prompt): (Vec<String>, String) = match name {
        "bash" => (
            vec!["--noprofile".into(), "--norc".into()],
            format!(r"\[\e[90m\]\W \[\e[93m\]⚡\[\e[97m\]{device} \[\e[93m\]➤\[\e[0m\] "),
        ),
        "zsh" => (
            vec!["--no-rcs".into()],
            format!("%F{{8}}%1~ %F{{yellow}}⚡%F{{white}}{device} %F{{yellow}}➤%f "),
        ),
        "fish" => {
            let function = format!(
                "function fish_prompt; set_color brblack; printf '%s ' (prompt_pwd); set_color yellow; printf '⚡'; \
                 set_color normal; printf '%s ' '{device}'; set_color yellow; printf '➤ '; set_color normal; end"
            );
            (vec!["--init-command".into(), function], format!("⚡{device} ➤ "))
        }
        _ => (Vec::new(), format!("⚡{device} ➤ ")),
    };
    Shell { program, arguments, prompt }
}

/// Removes characters that shells would interpret: an exporter's name is arbitrary.
fn plain(device: &str) -> String {
    let plain = |letter: &char| letter.is_alphanumeric() || "-_.:/[]@".contains(*letter);
    device.chars().filter(plain).take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_shows_the_device() {
        for program in ["/bin/bash", "zsh", "/usr/bin/fish", "/bin/dash"] {
            let shell = shell(Some(program.into()), "lab-1");
            let shown = format!("{} {}", shell.arguments.join(" "), shell.prompt);
            assert!(shell.program == program && shown.contains("lab-1"), "{shell:?}");
        }
        assert_eq!(shell(None, "x").program, "/bin/sh");
        assert_eq!(shell(Some("".into()), "x").program, "/bin/sh");
    }

    #[test]
    fn a_name_runs_nothing() {
        for program in ["bash", "zsh", "fish", "sh"] {
            let shell = shell(Some(program.into()), "a'$(reboot)`reboot`\\;%");
            assert!(shell.prompt.contains("arebootreboot"), "{shell:?}");
            let shell = super::shell(
                Some(program.into()),
                &format!("b\n\u{1b}]0;x\u{7}\u{9b}\u{202e}!{}", "a".repeat(70_000)),
            );
            assert!(shell.prompt.contains("b]0xaaa") && shell.prompt.len() < 200, "{shell:?}");
        }
    }
}
