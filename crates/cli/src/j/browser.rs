//! Opens a page in the user's browser.

use jumpstarter_supervise::Child;

use super::context::Context;
use crate::open::open_page;

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
        match open_page(context.output.environment(), url).await {
            Ok(child) => child,
            Err(error) => {
                context.output.note(format_args!("no browser was opened: {error}"));
                None
            }
        }
    }
}
