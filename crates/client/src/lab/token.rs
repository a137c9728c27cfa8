//! The client's token.

use jumpstarter_driver_core::{Error, Result, Secret};
use jumpstarter_protocol::client::v1;
use jumpstarter_protocol::rpc::client::RotateToken;

use super::Lab;

impl Lab {
    /// Asks the controller for another token for this client, which later calls of this
    /// lab use. The one before stays valid until it expires.
    ///
    /// # Errors
    /// The controller's; `Internal` for an answer without a token.
    pub async fn rotate_token(&self) -> Result<Secret> {
        let request = v1::RotateTokenRequest { parent: self.parent() };
        let token = self.controller.call::<RotateToken>(&request).await?.token;
        let is_usable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_usable {
            return Err(Error::internal("Token rotation failed: empty token received."));
        }
        let token = Secret::new(token);
        self.controller.identity().set_token(token.clone());
        Ok(token)
    }
}
