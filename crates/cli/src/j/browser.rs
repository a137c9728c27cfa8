//! Opens a page in the user's browser.

use jumpstarter_supervise::{Child, Command, Input};

use super::context::Context;

/// Whether a page is opened in a browser.
#[derive(Debug, clap::Args)]
pub(crate) struct Browser {
    /// Opens the page in a browser: that of $BROWSER, or the desktop's; this is the default
    #[arg(long, overrides_with = "no_browser")]
    browser: bool,
    /// Only prints the URL
    #[arg(long)]
    no_browser: bool,
}

impl Browser {
    /// Opens the page, if it is wanted and there is a desktop. A failure is a note: the URL was
    /// printed. A browser that was not running before ends with what is returned.
    pub(crate) async fn open(&self, context: &Context, url: &str) -> Option<Child> {
        if self.no_browser {
            return None;
        }
        let environment = context.output.environment();
        let has = |name| environment.variable(name).is_some_and(|value| !value.is_empty());
        let program = match environment.variable("BROWSER").filter(|name| !name.is_empty()) {
            Some(program) => program,
            None if has("DISPLAY") || has("WAYLAND_DISPLAY") => "xdg-open".into(),
            None => return None,
        };
        let command = Command::new(&program).arg(url).stdin(Input::Null);
        match command.spawn().await {
            Ok(child) => Some(child),
            Err(error) => {
                context.output.note(format_args!("no browser was opened: {error}"));
                None
            }
        }
    }
}
