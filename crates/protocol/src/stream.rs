//! The target of a byte stream, and the name of an image in a call: JSON within metadata and
//! arguments.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderMap, HeaderValue};
use jumpstarter_driver_core::image::{Encoding, ImageRequest, Wishes};
use jumpstarter_driver_core::{Error, ImageSource, Result, whole_numbers};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metadata::{REQUEST, RESOURCE, WISHES};

/// The target of a byte stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StreamTarget {
    /// A driver's channel.
    Driver {
        /// The driver's id.
        uuid: String,
        /// The method that opens the channel.
        method: String,
    },
    /// An image for a call that follows.
    Resource {
        /// The id of the driver that will be called.
        uuid: String,
        /// The encoding that the client would like for the transfer.
        #[serde(default)]
        x_jmp_content_encoding: Option<Encoding>,
    },
}

impl StreamTarget {
    /// Returns the value of the metadata [`REQUEST`].
    ///
    /// # Errors
    /// `InvalidArgument` for a method whose name has unsendable characters.
    pub fn to_header(&self) -> Result<HeaderValue> {
        json_header(self).ok_or_else(|| {
            Error::invalid_argument("the method's name has characters that cannot be sent")
        })
    }

    /// Reads the metadata [`REQUEST`].
    ///
    /// # Errors
    /// `InvalidArgument` if it is missing or malformed.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self> {
        let text = headers.get(REQUEST).ok_or_else(|| {
            Error::invalid_argument(format!("the stream has no metadata `{REQUEST}`")).with_hint(
                r#"it is JSON such as {"kind": "driver", "uuid": "…", "method": "connect"}"#,
            )
        })?;
        serde_json::from_slice(text.as_bytes()).map_err(|error| {
            Error::invalid_argument(format!("the stream's metadata `{REQUEST}` cannot be read"))
                .with_source(error)
        })
    }
}

/// The name of an image in a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageReference {
    /// The stream that the client has opened for it.
    ClientStream {
        /// The id that the exporter gave it.
        uuid: String,
        /// The encoding of the transfer.
        #[serde(default)]
        x_jmp_content_encoding: Option<Encoding>,
    },
    /// A request that the exporter makes.
    PresignedRequest(PresignedRequest),
}

impl ImageReference {
    /// Returns the value of the metadata [`RESOURCE`].
    ///
    /// # Errors
    /// `Internal` for an id that cannot be sent.
    pub fn to_header(&self) -> Result<HeaderValue> {
        json_header(self).ok_or_else(|| Error::internal("the image's id cannot be sent"))
    }

    /// Returns the argument of a call.
    ///
    /// # Errors
    /// None are known.
    pub fn to_argument(&self) -> Result<Value> {
        serde_json::to_value(self)
            .map_err(|error| Error::internal("naming the image").with_source(error))
    }

    /// Reads an argument of a call.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn from_argument(argument: Value) -> Result<Self> {
        serde_json::from_value(argument).map_err(|error| {
            Error::invalid_argument(
                "expected an image: the resource of a stream, or a presigned request",
            )
            .with_source(error)
        })
    }
}

/// What a client wishes of a flashed image beyond its bytes: the field `x_jmp_wishes` beside the
/// image's name in a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageWishes {
    #[serde(default)]
    verify: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block_map: Option<String>,
    /// Of an image that the exporter fetches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Of an image that the client sends: the bytes of the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
}

impl ImageWishes {
    /// The wishes that a driver fulfils while it writes.
    pub fn from_wishes(wishes: &Wishes) -> Self {
        Self {
            verify: wishes.needs_verification(),
            block_map: wishes.block_map().map(str::to_owned),
            sha256: None,
            length: None,
        }
    }

    /// Announces how many bytes the client sends, compressed if the image is.
    #[must_use]
    pub fn with_length(mut self, length: Option<u64>) -> Self {
        self.length = length;
        self
    }

    /// The SHA-256 that an image which the exporter fetches must have.
    #[must_use]
    pub fn with_sha256(mut self, sha256: Option<&str>) -> Self {
        self.sha256 = sha256.map(str::to_owned);
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds these to the name of an image in a call.
    ///
    /// # Errors
    /// `Internal` if that is no object.
    pub fn add_to(&self, argument: &mut Value) -> Result<()> {
        if !self.is_empty() {
            let wishes = serde_json::to_value(self).ok();
            let (name, wishes) = argument
                .as_object_mut()
                .zip(wishes)
                .ok_or_else(|| Error::internal("an image's name takes no wishes"))?;
            name.insert(WISHES.to_owned(), wishes);
        }
        Ok(())
    }

    /// Takes those beside the name of an image in a call.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn take_from(argument: &mut Value) -> Result<Self> {
        let wishes = argument.as_object_mut().and_then(|name| name.remove(WISHES));
        let wrong = || Error::invalid_argument("the wishes beside an image cannot be read");
        // The wire has floating-point numbers only.
        let wishes: Option<Self> = wishes
            .map(|wishes| serde_json::from_value(whole_numbers(wishes)))
            .transpose()
            .map_err(|error| wrong().with_source(error))?;
        let wishes = wishes.unwrap_or_default();
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_digest = |hex: &str| hex.len() == 64 && hex.bytes().all(is_digit);
        match wishes.sha256().is_none_or(is_digest) {
            true => Ok(wishes),
            false => Err(wrong()),
        }
    }

    /// The SHA-256 of an image that the exporter fetches.
    pub fn sha256(&self) -> Option<&str> {
        self.sha256.as_deref()
    }

    /// Adds these to an image, but for its digest.
    #[must_use]
    pub fn apply(self, source: ImageSource) -> ImageSource {
        let source = if self.verify { source.verify() } else { source };
        let source = match self.length {
            Some(length) => source.with_length(length),
            None => source,
        };
        match self.block_map {
            Some(map) => source.with_block_map(map),
            None => source,
        }
    }
}

/// Reads the metadata [`RESOURCE`] as the exporter wrote it: the following call passes it on as its
/// argument.
pub fn resource(headers: &HeaderMap) -> Option<Value> {
    json(headers, RESOURCE)
}

/// The value of the metadata [`RESOURCE`] for the handle of another exporter.
///
/// # Errors
/// `Internal` for one that cannot be sent.
pub fn image_handle(handle: &Value) -> Result<HeaderValue> {
    json_header(handle).ok_or_else(|| Error::internal("the image's id cannot be sent"))
}

/// A request for an image that the exporter makes itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignedRequest {
    headers: BTreeMap<String, String>,
    url: String,
    method: String,
}

/// Shows neither address nor headers: both may hold secrets.
impl fmt::Debug for PresignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresignedRequest").field("method", &self.method).finish_non_exhaustive()
    }
}

impl PresignedRequest {
    /// A request with this HTTP method, `GET` or `PUT`.
    pub fn new(method: &str, request: &ImageRequest) -> Self {
        Self {
            headers: request.headers().iter().cloned().collect(),
            url: request.url().to_owned(),
            method: method.to_owned(),
        }
    }

    /// Returns the request, if it has this HTTP method.
    ///
    /// # Errors
    /// `InvalidArgument` for another method, or an invalid address.
    pub fn prepare(self, method: &str) -> Result<ImageRequest> {
        if self.method != method {
            let message =
                format!("this presigned request is a {}, where a {method} is needed", self.method);
            return Err(Error::invalid_argument(message));
        }
        let request = ImageRequest::new(self.url)?;
        Ok(self
            .headers
            .into_iter()
            .fold(request, |request, (name, value)| request.with_header(name, value)))
    }
}

fn json_header(value: &impl Serialize) -> Option<HeaderValue> {
    HeaderValue::from_str(&serde_json::to_string(value).ok()?).ok()
}

fn json<T: DeserializeOwned>(headers: &HeaderMap, key: &str) -> Option<T> {
    serde_json::from_slice(headers.get(key)?.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wishes_are_beside_the_name() {
        let mut name = json!({"kind": "client_stream", "uuid": "7"});
        ImageWishes::default().add_to(&mut name).unwrap();
        assert_eq!(name, json!({"kind": "client_stream", "uuid": "7"}));
        let source = ImageSource::bytes("x").verify().with_block_map("<bmap/>");
        let wishes = ImageWishes::from_wishes(source.wishes());
        let wishes = wishes.with_sha256(Some(&"a".repeat(64))).with_length(Some(1));
        wishes.add_to(&mut name).unwrap();
        assert_eq!(ImageWishes::take_from(&mut name).unwrap(), wishes);
        assert_eq!(name, json!({"kind": "client_stream", "uuid": "7"}));
        name["x_jmp_wishes"] = json!({"length": 2_097_152.0});
        let length = ImageWishes::default().with_length(Some(2 << 20));
        assert_eq!(ImageWishes::take_from(&mut name).unwrap(), length);
        let source = wishes.apply(ImageSource::bytes("x"));
        assert!(source.wishes().needs_verification());
        assert_eq!(source.wishes().block_map(), Some("<bmap/>"));
        let mut wrong = json!({"x_jmp_wishes": {"sha256": "../../x"}});
        assert!(ImageWishes::take_from(&mut wrong).is_err());
    }

    #[test]
    fn what_is_sent_is_what_peers_know() {
        let target = StreamTarget::Driver { uuid: "7".to_owned(), method: "connect".to_owned() };
        let text = r#"{"kind":"driver","uuid":"7","method":"connect"}"#;
        assert_eq!(target.to_header().unwrap(), text);
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static(REQUEST),
            HeaderValue::from_static(r#"{"kind":"resource","uuid":"7"}"#),
        )]);
        let target = StreamTarget::Resource { uuid: "7".to_owned(), x_jmp_content_encoding: None };
        assert_eq!(StreamTarget::from_headers(&headers).unwrap(), target);
        let wrong = StreamTarget::Driver { uuid: String::new(), method: "\u{7f}".to_owned() };
        wrong.to_header().unwrap_err();

        let request = ImageRequest::new("https://lab/os.img").unwrap().with_header("a", "b");
        let named = ImageReference::PresignedRequest(PresignedRequest::new("GET", &request));
        let value = json!({
            "kind": "presigned_request",
            "headers": {"a": "b"},
            "url": "https://lab/os.img",
            "method": "GET",
        });
        assert_eq!(serde_json::to_value(&named).unwrap(), value);
        assert_eq!(ImageReference::from_argument(value).unwrap(), named);
        let ImageReference::PresignedRequest(request) = named else { unreachable!() };
        assert!(!format!("{request:?}").contains("lab"));
        request.prepare("PUT").unwrap_err();
    }
}
