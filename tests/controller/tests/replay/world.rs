//! The controller of the recording, and calls of it whose messages are JSON.
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper_util::rt::TokioIo;
use jumpstarter_test_controller::proto::v1::StreamRequest;
use jumpstarter_test_controller::proto::v1::router_service_client::RouterServiceClient;
use jumpstarter_test_controller::{DESCRIPTORS, Options, Policy, TestController};
use prost::Message as _;
use prost::bytes::{Buf, BufMut, Bytes};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// The world at the start of the recording.
pub(crate) struct World {
    controller: TestController,
    pool: DescriptorPool,
    channel: Channel,
    router: Channel,
    tokens: HashMap<String, String>,
    begin: (SystemTime, Instant),
}

impl World {
    pub(crate) async fn start() -> Self {
        // Its clock begins now, too.
        let begin = (SystemTime::now(), Instant::now());
        let controller = TestController::start(Options::default()).await.unwrap();
        controller.set_router(Some("localhost:8083"));
        let mut tokens = HashMap::new();
        for name in ["e1", "e2"] {
            tokens.insert(name.to_owned(), controller.add_exporter(name, &[("board", name)]));
        }
        for name in ["c1", "c2"] {
            tokens.insert(name.to_owned(), controller.add_client(name, &[]));
        }
        let connect = |server: &jumpstarter_test_controller::Server| {
            let mut stream = Some(TokioIo::new(server.connect_in_memory()));
            let connector = tower::service_fn(move |_| {
                let stream = stream.take().ok_or(std::io::Error::other("connected before"));
                async move { stream }
            });
            Endpoint::from_static("http://memory").connect_with_connector_lazy(connector)
        };
        let (channel, router) = (connect(controller.controller()), connect(controller.router()));
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        Self { controller, pool, channel, router, tokens, begin }
    }

    /// What an administrator does.
    pub(crate) fn change(&self, what: &str) {
        if what.starts_with("an ExporterAccessPolicy") {
            self.controller.label_client("c2", &[("who", "c2")]);
            self.controller.set_policies(vec![Policy {
                exporters: "board=e2".to_owned(),
                clients: "who=c2".to_owned(),
                maximum: Some(Duration::from_secs(60)),
                priority: 0,
            }]);
        } else {
            assert!(what.starts_with("the policy is deleted"), "{what}");
            self.controller.set_policies(Vec::new());
            self.controller.set_enabled("e2", false);
        }
    }

    /// A unary call: its answer as it was recorded.
    pub(crate) async fn call(
        &self,
        call: &str,
        by: &str,
        changes: &Value,
        request: &Value,
    ) -> Value {
        let (request, output) = self.request(call, request);
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata(by, changes);
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let path = format!("/{call}").parse().unwrap();
        match client.unary(request, path, Raw).await {
            Ok(answer) => json!({"code": "OK", "body": to_json(&output, answer.into_inner())}),
            Err(status) => failure(&status),
        }
    }

    /// Opens a stream of the controller.
    pub(crate) fn open(&self, call: &str, by: &str, request: &Value) -> Stream {
        let (request, output) = self.request(call, request);
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata(by, &Value::Null);
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        let path = format!("/{call}").parse().unwrap();
        let (send, events) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            client.ready().await.unwrap();
            let streaming = client.server_streaming(request, path, Raw).await;
            let mut streaming = match streaming {
                Ok(answer) => answer.into_inner(),
                Err(status) => return drop(send.send(json!({"end": failure(&status)}))),
            };
            let end = loop {
                match streaming.message().await {
                    Ok(Some(message)) => {
                        drop(send.send(json!({"message": to_json(&output, message)})));
                    }
                    Ok(None) => break json!({"code": "OK"}),
                    Err(status) => break failure(&status),
                }
            };
            drop(send.send(json!({"end": end})));
            std::future::pending().await
        });
        Stream { events, task, frames: None }
    }

    /// Opens a stream of the router with a token of some kind.
    pub(crate) fn open_router(&self, token: &str) -> Stream {
        let (frames, received) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(received));
        let spoilt = |key: &str, value: Value| {
            self.controller.router_token("stream", |claims| claims[key] = value)
        };
        let now = self.now(0).seconds;
        let text = match token {
            "none" => None,
            "not a JWT" => Some("abc".to_owned()),
            "another key" => {
                let mut token = self.controller.router_token("stream", |_| {});
                let at = token.rfind('.').unwrap() + 1;
                let other = if token[at..].starts_with('A') { "B" } else { "A" };
                token.replace_range(at..=at, other);
                Some(token)
            }
            "expired" => Some(spoilt("exp", json!(now - 10))),
            "another audience" => Some(spoilt("aud", json!(["https://other"]))),
            "another issuer" => Some(spoilt("iss", json!("https://other"))),
            "not yet valid" => Some(spoilt("nbf", json!(now + 60))),
            good => {
                let stream = good.strip_prefix("good, stream ").unwrap();
                let stream = stream.split(',').next().unwrap();
                Some(self.controller.router_token(stream, |_| {}))
            }
        };
        if let Some(text) = text {
            let value = format!("Bearer {text}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut client =
            RouterServiceClient::new(self.router.clone()).max_decoding_message_size(usize::MAX);
        let (send, events) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut streaming = match client.stream(request).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return drop(send.send(json!({"end": failure(&status)}))),
            };
            let end = loop {
                match streaming.message().await {
                    Ok(Some(message)) => {
                        let bytes = message.payload.len();
                        drop(send.send(json!({"frame": message.frame_type, "bytes": bytes})));
                    }
                    Ok(None) => break json!({"code": "OK"}),
                    Err(status) => break failure(&status),
                }
            };
            drop(send.send(json!({"end": end})));
            std::future::pending().await
        });
        Stream { events, task, frames: Some(frames) }
    }

    fn metadata(&self, by: &str, changes: &Value) -> MetadataMap {
        let kind = if by.starts_with('c') { "Client" } else { "Exporter" };
        let mut entries: Vec<(String, String)> = vec![
            ("authorization".to_owned(), format!("Bearer {}", self.tokens[by])),
            ("jumpstarter-kind".to_owned(), kind.to_owned()),
            ("jumpstarter-namespace".to_owned(), "lab".to_owned()),
            ("jumpstarter-name".to_owned(), by.to_owned()),
        ];
        for (key, value) in changes.as_object().into_iter().flatten() {
            match (key.as_str(), value.as_str()) {
                ("repeat", Some(key)) => {
                    let again = entries.iter().find(|entry| entry.0 == key).unwrap().clone();
                    entries.push(again);
                }
                ("token of", Some(other)) => {
                    entries[0].1 = format!("Bearer {}", self.tokens[other])
                }
                (key, value) => {
                    entries.retain(|entry| entry.0 != key);
                    entries.extend(value.map(|value| (key.to_owned(), value.to_owned())));
                }
            }
        }
        let mut metadata = MetadataMap::new();
        for (key, value) in entries {
            let key = MetadataKey::from_bytes(key.as_bytes()).unwrap();
            metadata.append(key, MetadataValue::try_from(value).unwrap());
        }
        metadata
    }

    /// The bytes of a request, and the kind of its answer.
    fn request(&self, call: &str, request: &Value) -> (Bytes, MessageDescriptor) {
        let (service, method) = call.split_once('/').unwrap();
        let service = self.pool.get_service_by_name(service).unwrap();
        let method = service.methods().find(|each| each.name() == method).unwrap();
        let message =
            DynamicMessage::deserialize(method.input(), self.with_times(request)).unwrap();
        (message.encode_to_vec().into(), method.output())
    }

    /// Replaces `NOW+60` by that time.
    fn with_times(&self, request: &Value) -> Value {
        match request {
            Value::String(text) => match text.strip_prefix("NOW") {
                Some(offset) => json!(self.now(offset.parse().unwrap()).to_string()),
                None => request.clone(),
            },
            Value::Object(fields) => {
                fields.iter().map(|(key, value)| (key.clone(), self.with_times(value))).collect()
            }
            _ => request.clone(),
        }
    }

    fn now(&self, offset: i64) -> prost_types::Timestamp {
        let now = self.begin.0.duration_since(UNIX_EPOCH).unwrap() + self.begin.1.elapsed();
        prost_types::Timestamp { seconds: now.as_secs().cast_signed() + offset, nanos: 0 }
    }
}

/// An open stream: what has come on it.
pub(crate) struct Stream {
    pub(crate) events: mpsc::UnboundedReceiver<Value>,
    task: JoinHandle<()>,
    frames: Option<mpsc::Sender<StreamRequest>>,
}

impl Stream {
    pub(crate) fn cancel(&mut self) {
        self.task.abort();
        // A stream is reset once nothing holds either direction.
        self.frames = None;
    }

    pub(crate) async fn send(&self, frame_type: i32, bytes: usize) {
        let payload = vec![b'x'; bytes].into();
        self.frames.as_ref().unwrap().send(StreamRequest { payload, frame_type }).await.unwrap();
    }

    pub(crate) fn half_close(&mut self) {
        self.frames = None;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failure(status: &Status) -> Value {
    let code = format!("{:?}", status.code());
    let mut name = String::new();
    for c in code.chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    json!({"code": name, "details": status.message()})
}

fn to_json(kind: &MessageDescriptor, bytes: Bytes) -> Value {
    let message = DynamicMessage::decode(kind.clone(), bytes).unwrap();
    serde_json::to_value(&message).unwrap()
}

/// Messages as bytes.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}
