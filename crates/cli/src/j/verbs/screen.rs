//! Verbs of screens: network endpoints that speak VNC, and drivers that name one.

use std::ffi::OsString;
use std::pin::pin;
use std::sync::Arc;

use clap::Args;
use jumpstarter_driver_core::{Interface, Network, Secret, blocking};
use jumpstarter_driver_vnc::Vnc;
use jumpstarter_screen::{Bridge, NOVNC, Screen};
use serde_json::json;

use crate::fault::{Result, SUCCESS};
use crate::j::browser::Browser;
use crate::j::context::Context;
use crate::j::image;
use crate::j::verb::{Say, Verb};

pub(super) static VERBS: &[Verb] = &[Verb::of::<Snapshot>(), Verb::of::<Session>()];

/// The variable with the password of VNC servers.
const PASSWORD: &str = "JMP_VNC_PASSWORD";

/// Takes a picture of the screen, as PNG
#[derive(Debug, Args)]
#[command(after_help = "\
A password, if the screen's server asks for one, is that of $JMP_VNC_PASSWORD.

Examples:
  {path} snapshot
  {path} snapshot -o - | display

JSON: {\"file\", \"width\", \"height\", \"name\"}, the name as the server gives it; nothing with -o -")]
struct Snapshot {
    /// Where the picture goes: a file, or - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "screen.png")]
    output: OsString,
}

impl Say for Snapshot {
    const NAME: &'static str = "snapshot";

    async fn run(self, context: &Context) -> Result<u8> {
        let password = context.output.environment().variable(PASSWORD);
        let password = password.and_then(|text| text.into_string().ok()).map(Secret::new);
        let mut sink = image::open_sink(&self.output, &context.output).await?;
        let mut screen =
            Screen::open(network(context)?.connect().await?, password.as_ref()).await?;
        let picture = screen.snapshot().await?;
        let (width, height) = (picture.width(), picture.height());
        sink.write(blocking(move || picture.to_png()).await?).await?;
        sink.finish().await?;
        if self.output != image::STANDARD_STREAM {
            let file = image::sink_label(&self.output);
            let value = json!({ "file": self.output.to_string_lossy(), "width": width, "height": height, "name": screen.name() });
            context.output.answer(&value, format_args!("{file}: {width}x{height}"))?;
        }
        Ok(SUCCESS)
    }
}

/// Makes the screen usable from a browser on this machine, with the page noVNC
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the URL once it can be opened. Ctrl-C ends it. The page connects to a port of 127.0.0.1, whose path in the URL is
a secret: who has the URL and is on this machine can use the screen. The page asks for a password itself.

Examples:
  {path} session
  {path} session --no-browser --page http://localhost:6080/vnc.html

JSON: {\"url\", \"websocket\"}")]
struct Session {
    #[command(flatten)]
    browser: Browser,
    /// The page connects by TLS, for a proxy before this command: it has no TLS itself
    #[arg(long, overrides_with = "no_encrypt")]
    encrypt: bool,
    /// The page connects without TLS; the default is the driver's `default_encrypt`
    #[arg(long)]
    no_encrypt: bool,
    /// Another page with noVNC, such as one of your own
    #[arg(long, value_name = "URL", default_value = NOVNC)]
    page: String,
}

impl Say for Session {
    const NAME: &'static str = "session";

    async fn run(self, context: &Context) -> Result<u8> {
        let encrypt = match (self.encrypt, self.no_encrypt) {
            (false, false) if has::<dyn Vnc>(context)? => {
                context.get::<dyn Vnc>()?.get_default_encrypt().await?
            }
            (encrypt, _) => encrypt,
        };
        let mut bridge = Bridge::start(network(context)?).await?;
        let url = bridge.url(&self.page, encrypt);
        let value = json!({ "url": url, "websocket": bridge.websocket() });
        // Before the URL is shown: a user who reads it may press Ctrl-C at once.
        let mut interrupted = pin!(context.interrupted());
        context.output.answer(&value, &url)?;
        let _browser = self.browser.open(context, &url).await;
        loop {
            tokio::select! {
                () = &mut interrupted => return Ok(SUCCESS),
                error = bridge.failure() => context.output.note(format_args!("{error:#}")),
            }
        }
    }
}

fn has<I: Interface + ?Sized>(context: &Context) -> Result<bool> {
    let wanted = I::DESCRIPTOR.name;
    Ok(context.node()?.interfaces().iter().any(|interface| interface.name == wanted))
}

/// The endpoint itself, or the child of a driver that names a screen.
fn network(context: &Context) -> Result<Arc<dyn Network>> {
    if has::<dyn Network>(context)? {
        return context.get();
    }
    Ok(context.device().get(&context.child("tcp"))?)
}
