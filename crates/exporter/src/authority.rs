//! Makes the `:authority` of Python clients acceptable: over a Unix socket they send the
//! percent-encoded path, such as `tmp%2Fdir%2Fsocket`, and the HTTP library here refuses a `%`
//! there and resets every call.
//!
//! [`Frames`] is below the HTTP/2 server and watches the incoming bytes: the preface, the frames'
//! headers (RFC 9113, section 4) and the header blocks in them (HPACK, RFC 7541). In the value of
//! `:authority` each `%` becomes a `-` (a `.`, in HPACK's Huffman code), which has the same length,
//! so that nothing else changes. It stores no data and passes on unchanged what it does not
//! understand: the server judges that.

mod frames;
mod hpack;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub(crate) use frames::{Frames, Phase};
