//! Compiles the services with tonic's generator, from the files that `jumpstarter-protocol` uses:
//! nothing of that crate's code is in this one.
use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folders = ["../../crates/protocol/proto", "proto"];
    for folder in folders {
        println!("cargo::rerun-if-changed={folder}");
    }
    let files = [
        "jumpstarter/v1/router.proto",
        "jumpstarter/v1/controller.proto",
        "jumpstarter/client/v1/client.proto",
        "grpc/health/v1/health.proto",
    ];
    let descriptors = protox::compile(files, folders)?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".jumpstarter.v1.StreamRequest.payload")
        .bytes(".jumpstarter.v1.StreamResponse.payload")
        .compile_fds(descriptors)?;
    Ok(())
}
