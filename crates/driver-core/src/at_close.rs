//! What the end of a lease does to a switch.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Result, ResultExt};
use crate::generic::Power;

/// What the end of a lease, and a reset, do to a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AtClose {
    /// The device stays as it is.
    #[default]
    Keep,
    /// The device is switched off.
    Off,
}

impl AtClose {
    /// Switches off where that is wanted.
    ///
    /// # Errors
    /// Those of [`Power::off`].
    pub async fn apply(self, switch: &(impl Power + ?Sized)) -> Result<()> {
        match self {
            Self::Keep => Ok(()),
            Self::Off => switch.off().await.context("switching off at the end"),
        }
    }
}
