//! Images of a registry (`oci://…`), which exporters in Python fetch for their virtual machines.

use futures_util::StreamExt;
use jumpstarter_driver_core::{Error, ErrorKind};
use serde_json::json;

use crate::environment::Environment;
use crate::fault::Result;
use crate::j::context::Context;

/// The method of such a flasher: it streams `[standard output, standard error, exit code]` of the
/// program that it runs.
const METHOD: &str = "flash_oci";

/// Prints the output of a program on the exporter: its lines, and rewritten lines.
fn show(output: &str, environment: &Environment) {
    for line in output.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        environment.report(line);
    }
}

/// Makes the exporter fetch the image and write it; false if its flasher has no such method.
pub(super) async fn flash(context: &Context, image: &str, target: Option<&str>) -> Result<bool> {
    let lacks_it =
        |error: &Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unimplemented);
    let arguments = vec![json!(image), json!(target)];
    let mut said = match context.device().stream(&context.path, METHOD, arguments).await {
        Err(error) if lacks_it(&error) => return Ok(false),
        said => said?,
    };
    let mut code = None;
    let mut is_begun = false;
    while let Some(part) = said.next().await {
        let part = match part {
            Err(error) if !is_begun && lacks_it(&error) => return Ok(false),
            part => part?,
        };
        is_begun = true;
        for output in [&part[0], &part[1]].into_iter().filter_map(|text| text.as_str()) {
            show(output, context.output.environment());
        }
        code = part[2].as_i64().or(code);
    }
    match code {
        None | Some(0) => {
            if context.output.is_json() {
                let nothing = serde_json::Value::Null;
                let value = json!({"file": image, "target": target, "bytes": nothing, "seconds": nothing,
                    "bytes_per_second": nothing});
                context.output.value(&value)?;
            }
            Ok(true)
        }
        Some(code) => Err(Error::internal(format!(
            "flashing {image} failed on the exporter: exit code {code}"
        ))
        .into()),
    }
}
