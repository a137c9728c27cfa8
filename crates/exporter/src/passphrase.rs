//! The passphrase of a TCP listener: asked for on every call of every kind.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jumpstarter_driver_core::Secret;
use ring::digest::{SHA256, digest};
use tokio::sync::Mutex;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

const HEADER: &str = "x-jumpstarter-passphrase";
/// Wrong answers that wait at a time; more are refused at once.
const MAX_WAITING: usize = 32;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// Refuses calls without the right passphrase. Each wrong one is answered later than the one before, one at a time
/// for the whole listener; right ones are never delayed, and set the delay back.
#[derive(Clone)]
pub(crate) struct Passphrase(Option<Arc<Guard>>);

struct Guard {
    /// The digest of the passphrase: digests compare in constant time, whatever their passphrases' lengths.
    expected: [u8; 32],
    waiting: tokio::sync::Semaphore,
    failures: Mutex<u32>,
    succeeded: std::sync::atomic::AtomicBool,
}

impl Passphrase {
    pub(crate) fn new(passphrase: Option<&Secret>) -> Self {
        Self(passphrase.map(|passphrase| {
            Arc::new(Guard {
                expected: sha256(passphrase.expose().as_bytes()),
                waiting: tokio::sync::Semaphore::new(MAX_WAITING),
                failures: Mutex::new(0),
                succeeded: false.into(),
            })
        }))
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Passphrase(***)" } else { "Passphrase(none)" })
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

impl Guard {
    fn matches(&self, given: Option<&[u8]>) -> bool {
        let Some(given) = given else { return false };
        let given = sha256(given);
        let differences = self.expected.iter().zip(given).fold(0, |sum, (left, right)| sum | (left ^ right));
        std::hint::black_box(differences) == 0
    }

    async fn refuse(&self) -> Status {
        use std::sync::atomic::Ordering;
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Status::unauthenticated("wrong or missing passphrase; too many wrong ones at a time");
        };
        let mut failures = self.failures.lock().await;
        if self.succeeded.swap(false, Ordering::Relaxed) {
            *failures = 0;
        }
        let delay = FIRST_DELAY.saturating_mul(1 << (*failures).min(10)).min(LAST_DELAY);
        *failures = failures.saturating_add(1);
        tracing::warn!(failures = *failures, "a client gave a wrong passphrase, or none");
        tokio::time::sleep(delay).await;
        Status::unauthenticated("wrong or missing passphrase")
    }
}

impl<S> Layer<S> for Passphrase {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.0.clone() }
    }
}

/// A service behind a [`Passphrase`].
#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    guard: Option<Arc<Guard>>,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        use std::sync::atomic::Ordering;
        if let Some(guard) = &self.guard {
            if !guard.matches(request.headers().get(HEADER).map(|value| value.as_bytes())) {
                let guard = guard.clone();
                return Box::pin(async move { Ok(guard.refuse().await.into_http()) });
            }
            guard.succeeded.store(true, Ordering::Relaxed);
        }
        Box::pin(self.inner.call(request))
    }
}
