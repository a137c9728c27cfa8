//! What the commands about the objects of a lab share: whose lab, and in which form they print.

use jumpstarter_client::lab::Lab;

use super::printed::Form;
use super::{Who, token};
use crate::environment::Environment;
use crate::fault::Result;
use crate::format::Format;
use crate::serving::runtime;

/// The options of each of these commands.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    who: Who,
    /// How to print the result
    #[arg(short = 'o', long, value_enum, default_value = "text", value_name = "FORM")]
    pub(super) output: Form,
}

/// A command about the objects of a lab.
pub(crate) trait LabCommand {
    /// Its options.
    fn common(&self) -> &Common;

    /// Performs it in that lab.
    async fn perform(&self, lab: &Lab, environment: &Environment) -> Result<u8>;

    /// Whether it goes on until a signal, and may need more than one token.
    fn goes_on(&self) -> bool {
        false
    }

    /// The format of its errors.
    fn format(&self) -> Format {
        self.common().output.format()
    }

    /// Runs it, and returns the exit code.
    fn run(&self, environment: &Environment) -> Result<u8> {
        let config = self.common().who.config(environment)?;
        runtime()?.block_on(async {
            let config = token::renewed(config, environment).await?;
            let (lab, tokens) = (Lab::of_client(&config)?, token::Keeper::new(config));
            if self.goes_on() {
                tokens.start(lab.controller().identity(), environment).await?;
            }
            let outcome = self.perform(&lab, environment).await;
            tokens.settled().await;
            outcome
        })
    }
}
