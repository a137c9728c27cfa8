//! `serve-rfc2217`: lets other programs of this machine use the port.

use jumpstarter_driver_core::Serial;
use jumpstarter_driver_serial::Rfc2217Server;
use serde_json::json;

use crate::arguments::host_and_port;
use crate::fault::{Result, SUCCESS};
use crate::j::context::Context;
use crate::j::verb::Say;

/// Makes the port one of RFC 2217 on this machine, for programs such as pySerial
///
/// Baud rate and other settings, DTR, RTS and breaks are passed on. Everyone who can reach the
/// address can use the port.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints the address once it listens. Ctrl-C ends it.

Examples:
  {path} serve-rfc2217 4000
  pyserial-miniterm rfc2217://127.0.0.1:4000 115200

JSON: {\"url\", \"host\", \"port\"}")]
pub(super) struct ServeRfc2217 {
    /// The address to listen at; 0.0.0.0 opens the device to everyone who can reach this machine
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    address: String,
    /// The port; 0 takes a free one
    #[arg(default_value_t = 0)]
    port: u16,
}

impl Say for ServeRfc2217 {
    const NAME: &'static str = "serve-rfc2217";

    async fn run(self, context: &Context) -> Result<u8> {
        let address = host_and_port(&self.address, self.port);
        let server = Rfc2217Server::bind(context.get::<dyn Serial>()?, &address).await?;
        let address = server.address();
        let url = format!("rfc2217://{address}");
        let value = json!({ "url": url, "host": address.ip().to_string(), "port": address.port() });
        context.output.answer(&value, url)?;
        context.interrupted().await;
        Ok(SUCCESS)
    }
}
