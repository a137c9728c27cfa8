//! What tonic generates from the .proto files.

/// `jumpstarter`: in modules as its packages are.
pub mod jumpstarter {
    /// `jumpstarter.v1`
    pub mod v1 {
        tonic::include_proto!("jumpstarter.v1");
    }
    /// `jumpstarter.client`
    pub mod client {
        /// `jumpstarter.client.v1`
        pub mod v1 {
            tonic::include_proto!("jumpstarter.client.v1");
        }
    }
}

/// `grpc.health.v1`
pub mod health_v1 {
    tonic::include_proto!("grpc.health.v1");
}

pub use jumpstarter::client::v1 as client_v1;
pub use jumpstarter::v1;
