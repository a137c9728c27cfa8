//! Buckets of S3 and of services that speak its protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_core::{ConfigProblem, Error, Result, ResultExt};
use jumpstarter_files::InnerPath;
use jumpstarter_transfer::SmallRequest;
use opendal_core::{Configurator, HttpTransporter, Operator};
use opendal_layer_retry::{RetryEvent, RetryInterceptor, RetryLayer};
use opendal_service_s3::S3Config;

use super::Services;
use super::error::{self, mapped};
use super::transport::Transport;
use crate::backend::{Backend, Presigned};

/// The setting by which OpenDAL asks the metadata service of Amazon's machines for credentials.
const NO_METADATA: &str = "disable_ec2_metadata";
/// How long the URL of an image is valid.
const IMAGE_VALID: Duration = Duration::from_secs(3600);

/// Repeats what fails with a status of passing faults (429, 5xx) or a broken connection: after 0.1,
/// 0.3, 0.9 and 2.7 seconds. A body goes on where it broke off.
fn patience() -> RetryLayer<impl RetryInterceptor> {
    let layer = RetryLayer::new().with_min_delay(Duration::from_millis(100)).with_factor(3.0);
    layer.with_max_times(4).with_notify(|event: RetryEvent<'_>| {
        let error = error::message(event.err);
        tracing::warn!(%error, "a request to a bucket failed: it is sent again");
    })
}

impl Services {
    /// A bucket, with OpenDAL's settings. Credentials that are missing there come from the
    /// variables and files of Amazon's tools (`AWS_ACCESS_KEY_ID`, `~/.aws/credentials`); its
    /// metadata service is asked only with `disable_ec2_metadata: false`.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn s3(settings: BTreeMap<String, String>) -> Result<Self> {
        let operator = operator(settings).map_err(|problem| {
            let error = Error::invalid_argument(problem.message);
            problem.hint.into_iter().fold(error, Error::with_hint)
        })?;
        Ok(Self { operator, budget: None })
    }

    /// What is wrong with these settings of a bucket; its field is the setting. Nothing is
    /// connected.
    pub fn s3_problem(settings: BTreeMap<String, String>) -> Option<ConfigProblem> {
        operator(settings).err()
    }

    /// Whether OpenDAL has this setting for a bucket.
    pub fn is_s3_setting(name: &str) -> bool {
        // It ignores a name that it does not have.
        ["x", "true", "1"].iter().any(|value| {
            let given = S3Config::from_iter([(name.to_owned(), (*value).to_owned())]);
            given.map_or(true, |given| given != S3Config::default())
        })
    }
}

/// The bucket of these settings.
fn operator(mut settings: BTreeMap<String, String>) -> Result<Operator, ConfigProblem> {
    settings.entry(NO_METADATA.to_owned()).or_insert_with(|| "true".to_owned());
    let name = settings.keys().find(|name| name.contains("endpoint")).cloned();
    let as_a_whole = |error| ConfigProblem::from_error("", &mapped(error));
    let config = S3Config::from_iter(settings.clone()).map_err(as_a_whole)?;
    if config.region.is_none() && !has_region() {
        return Err(ConfigProblem::new("", "`region` is missing").with_hint(
            "write `region: us-east-1`, which is good for most servers but Amazon's, or set \
             AWS_REGION",
        ));
    }
    if let Some(endpoint) = &config.endpoint {
        let is_url = endpoint.contains("://");
        let url = if is_url { endpoint.clone() } else { format!("https://{endpoint}") };
        SmallRequest::new("GET", &url)
            .map_err(|error| ConfigProblem::from_error(name.unwrap_or_default(), &error))?;
    }
    // The first one stays: the provider of roles asks for it, too.
    HttpTransporter::install_default(Transport);
    Ok(Operator::from_config(config).map_err(as_a_whole)?.layer(patience()))
}

/// Whether the environment has a region.
fn has_region() -> bool {
    let has = |name| std::env::var_os(name).is_some_and(|region| !region.is_empty());
    ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().any(has)
}

/// The image at `s3://BUCKET/KEY`, as a request that is signed for an hour with the credentials of
/// this process: nobody else needs any to fetch it. `settings` are those of [`Services::s3`]
/// beside the bucket. By default the variables `AWS_REGION` (else it is `us-east-1`) and
/// `AWS_ENDPOINT_URL` have the place.
///
/// # Errors
/// `InvalidArgument` for another URL, and without credentials.
pub async fn s3_image(url: &str, settings: BTreeMap<String, String>) -> Result<ImageRequest> {
    let place = url.strip_prefix("s3://").and_then(|place| place.split_once('/'));
    let (bucket, key) = place
        .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty() && !key.ends_with('/'))
        .ok_or_else(|| {
            Error::invalid_argument("the URL of an image in a bucket is s3://BUCKET/KEY")
        })?;
    let mut settings = settings;
    settings.insert("bucket".to_owned(), bucket.to_owned());
    if !has_region() {
        settings.entry("region".to_owned()).or_insert_with(|| "us-east-1".to_owned());
    }
    let doing = || format!("signing a request for {url}");
    let key = InnerPath::new(key)?;
    let bucket = Services::s3(settings).with_context(doing)?;
    let signed = bucket.presign(Presigned::Read, &key, IMAGE_VALID).await.with_context(doing)?;
    let request = ImageRequest::new(signed.url)?;
    let headers = signed.headers.into_iter();
    Ok(headers.fold(request, |request, (name, value)| request.with_header(name, value)))
}
