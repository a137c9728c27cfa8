//! Compiles the services and messages; `protox` reads them, so no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = ["common", "exporter", "router", "controller"]
        .map(|name| format!("jumpstarter/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .bytes(".jumpstarter.v1.StreamRequest.payload")
        .bytes(".jumpstarter.v1.StreamResponse.payload")
        .compile_fds(descriptors)?;
    Ok(())
}
