//! Opens a page in the user's browser.

use jumpstarter_driver_core::Result;
use jumpstarter_supervise::{Child, Command, Input};

use crate::environment::Environment;

/// Opens a page with the program of $BROWSER, or the desktop's; `None` without a desktop. A browser
/// that was not running before ends with what is returned.
///
/// # Errors
/// Those of starting the program.
pub(crate) async fn open_page(environment: &Environment, url: &str) -> Result<Option<Child>> {
    let program = match environment.variable("BROWSER") {
        Some(program) => program,
        None if ["DISPLAY", "WAYLAND_DISPLAY"].map(|it| environment.variable(it))
            != [None, None] =>
        {
            "xdg-open".into()
        }
        None => return Ok(None),
    };
    let command = Command::new(&program).arg(url).stdin(Input::Null);
    Ok(Some(command.spawn().await?))
}
