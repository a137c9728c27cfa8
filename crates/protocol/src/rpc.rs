//! The calls of the wire: their paths, requests and answers.

use prost::Message;

use crate::v1;

/// A call with its types.
pub trait Rpc {
    /// The call's name and path.
    const METHOD: Method;
    /// The message that the client sends.
    type Request: Message + Default;
    /// The message, or messages, of the answer.
    type Answer: Message + Default;
}

macro_rules! calls {
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

        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl Rpc for $name {
                const METHOD: Method = Method::$name;
                type Request = $request;
                type Answer = $answer;
            }
        )*
    };
}

calls! {
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
    /// Opens a byte stream: to a driver, or for an image.
    Stream(v1::StreamRequest) -> v1::StreamResponse = "/jumpstarter.v1.RouterService/Stream";
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
