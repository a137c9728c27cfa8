//! The calls of the wire: their paths, requests and answers.

use prost::Message;

use crate::v1;

/// A call with its types.
pub trait Rpc {
    /// The call's path.
    const PATH: &'static str;
    /// The message that the client sends.
    type Request: Message + Default;
    /// The message, or messages, of the answer.
    type Answer: Message + Default;
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $answer:ty = $path:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl Rpc for $name {
                const PATH: &'static str = $path;
                type Request = $request;
                type Answer = $answer;
            }
        )*
    };
}

/// As `calls`, with an enum of them for the side that answers.
macro_rules! answered_calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $answer:ty = $path:literal;)*) => {
        /// The calls that an exporter answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Method {
            $($(#[$doc])* $name,)*
        }

        impl Method {
            /// Every call.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the call's path.
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }

            /// Returns the call with that path.
            pub fn from_path(path: &str) -> Option<Self> {
                match path {
                    $($path => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        calls! { $($(#[$doc])* $name($request) -> $answer = $path;)* }
    };
}

answered_calls! {
    /// Asks for the tree of drivers.
    GetReport(()) -> v1::GetReportResponse = "/jumpstarter.v1.ExporterService/GetReport";
    /// Calls a driver's method that answers once.
    DriverCall(v1::DriverCallRequest) -> v1::DriverCallResponse
        = "/jumpstarter.v1.ExporterService/DriverCall";
    /// Calls a driver's method that answers many times.
    StreamingDriverCall(v1::StreamingDriverCallRequest) -> v1::StreamingDriverCallResponse
        = "/jumpstarter.v1.ExporterService/StreamingDriverCall";
    /// Follows the exporter's log.
    LogStream(()) -> v1::LogStreamResponse = "/jumpstarter.v1.ExporterService/LogStream";
    /// Resets every driver.
    Reset(v1::ResetRequest) -> v1::ResetResponse = "/jumpstarter.v1.ExporterService/Reset";
    /// Asks for the exporter's state.
    GetStatus(v1::GetStatusRequest) -> v1::GetStatusResponse
        = "/jumpstarter.v1.ExporterService/GetStatus";
    /// Ends the session of a lease.
    EndSession(v1::EndSessionRequest) -> v1::EndSessionResponse
        = "/jumpstarter.v1.ExporterService/EndSession";
    /// Opens a byte stream: to a driver, or for an image; at a router, the tunnel of a token.
    Stream(v1::StreamRequest) -> v1::StreamResponse = "/jumpstarter.v1.RouterService/Stream";
}

/// The calls of exporters, and the one for a tunnel, that a controller answers.
pub mod controller {
    use super::Rpc;
    use crate::v1;

    calls! {
        /// Registers the exporter's labels and drivers.
        Register(v1::RegisterRequest) -> v1::RegisterResponse
            = "/jumpstarter.v1.ControllerService/Register";
        /// Says that the exporter ends.
        Unregister(v1::UnregisterRequest) -> v1::UnregisterResponse
            = "/jumpstarter.v1.ControllerService/Unregister";
        /// Reports the exporter's state.
        ReportStatus(v1::ReportStatusRequest) -> v1::ReportStatusResponse
            = "/jumpstarter.v1.ControllerService/ReportStatus";
        /// Follows who leases the exporter.
        Status(v1::StatusRequest) -> v1::StatusResponse
            = "/jumpstarter.v1.ControllerService/Status";
        /// Follows the tunnels of a lease.
        Listen(v1::ListenRequest) -> v1::ListenResponse
            = "/jumpstarter.v1.ControllerService/Listen";
        /// Asks for a tunnel to the exporter of a lease.
        Dial(v1::DialRequest) -> v1::DialResponse = "/jumpstarter.v1.ControllerService/Dial";
        /// Ends the lease of this exporter.
        ReleaseLease(v1::ReleaseLeaseRequest) -> v1::ReleaseLeaseResponse
            = "/jumpstarter.v1.ControllerService/ReleaseLease";
    }
}

/// The calls of clients that a controller answers.
pub mod client {
    use super::Rpc;
    use crate::client::v1;

    calls! {
        /// Asks for an exporter.
        GetExporter(v1::GetExporterRequest) -> v1::Exporter
            = "/jumpstarter.client.v1.ClientService/GetExporter";
        /// Lists exporters, a page at a time.
        ListExporters(v1::ListExportersRequest) -> v1::ListExportersResponse
            = "/jumpstarter.client.v1.ClientService/ListExporters";
        /// Asks for a lease.
        GetLease(v1::GetLeaseRequest) -> v1::Lease
            = "/jumpstarter.client.v1.ClientService/GetLease";
        /// Lists leases, a page at a time.
        ListLeases(v1::ListLeasesRequest) -> v1::ListLeasesResponse
            = "/jumpstarter.client.v1.ClientService/ListLeases";
        /// Asks for a lease of an exporter.
        CreateLease(v1::CreateLeaseRequest) -> v1::Lease
            = "/jumpstarter.client.v1.ClientService/CreateLease";
        /// Changes a lease.
        UpdateLease(v1::UpdateLeaseRequest) -> v1::Lease
            = "/jumpstarter.client.v1.ClientService/UpdateLease";
        /// Ends a lease.
        DeleteLease(v1::DeleteLeaseRequest) -> ()
            = "/jumpstarter.client.v1.ClientService/DeleteLease";
        /// Makes a new token for the client.
        RotateToken(v1::RotateTokenRequest) -> v1::RotateTokenResponse
            = "/jumpstarter.client.v1.ClientService/RotateToken";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_a_path() {
        for method in Method::ALL {
            assert_eq!(Method::from_path(method.path()), Some(*method));
        }
        assert_eq!(Method::from_path("/jumpstarter.v1.ExporterService/OfALaterVersion"), None);
    }
}
