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

/// Makes the exporter fetch the image and write it.
pub(super) async fn flash(context: &Context, image: &str, target: Option<&str>) -> Result<()> {
    let refused = |error: Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::Unimplemented => Error::unimplemented(format!(
            "`{}` takes no images of a registry such as {image}",
            context.path
        ))
        .with_hint("download it, and flash the file"),
        _ => error,
    };
    let arguments = vec![json!(image), json!(target)];
    let mut said =
        context.device().stream(&context.path, METHOD, arguments).await.map_err(refused)?;
    let mut code = None;
    while let Some(part) = said.next().await {
        let part = part.map_err(refused)?;
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
            Ok(())
        }
        Some(code) => Err(Error::internal(format!(
            "flashing {image} failed on the exporter: exit code {code}"
        ))
        .into()),
    }
}
