//! Compiles the messages; `protox` reads them, so no `protoc` is needed.

/// The messages whose payloads are handed on without copies.
const PAYLOADS: [&str; 2] =
    [".jumpstarter.v1.StreamRequest.payload", ".jumpstarter.v1.StreamResponse.payload"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "v1/common",
        "v1/exporter",
        "v1/router",
        "v1/controller",
        "v1/telemetry",
        "client/v1/client",
    ]
    .map(|name| format!("jumpstarter/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let mut messages = prost_build::Config::new();
    messages.bytes(PAYLOADS);
    #[cfg(feature = "tonic-clients")]
    messages.service_generator(
        tonic_prost_build::configure()
            .build_server(false)
            .build_transport(false)
            .service_generator(),
    );
    messages.compile_fds(descriptors)?;
    Ok(())
}
