//! Another login of a client whose token has expired, in the middle of another command.

use jumpstarter_config::ClientConfig;
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_login::{Provider, ProviderOptions, replace};

use super::grant;
use crate::environment::Environment;

/// Logs in at the provider that issued the token, with a browser or a code, and stores the tokens.
/// Standard output is the command's: the page is shown on standard error.
///
/// # Errors
/// Those of the provider and of the client's file.
pub(crate) async fn again(
    config: &mut ClientConfig,
    options: ProviderOptions,
    environment: &Environment,
) -> Result<()> {
    let logging_in = async {
        environment.report("Token is expired, triggering re-authentication");
        let had_refresh_token = config.refresh_token.is_some();
        let options = options.trust_any(config.tls.insecure).offline_access(had_refresh_token);
        let provider = Provider::discover(&options).await?;
        let show = |text: &str| {
            environment.report(text);
            Ok(())
        };
        let tokens = match grant::is_device_flow(environment) {
            true => grant::by_device_code(&provider, show).await?,
            false => {
                let port = grant::port(environment)?;
                grant::by_browser(&provider, port, show, environment).await?
            }
        };
        replace(config, tokens).await
    };
    logging_in.await.map_err(|error: Error| {
        let doing = format!("logging in again as the client {}", config.alias);
        error.context(doing)
    })
}
