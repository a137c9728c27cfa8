//! The exporter in Python answers us: what tests against it rest on.
#![expect(clippy::unwrap_used, reason = "tests")]

use jumpstarter_protocol::labels;
use jumpstarter_protocol::v1::exporter_service_client::ExporterServiceClient;
use jumpstarter_tests::python_exporter::{PythonExporter, python_environment};
use tonic::transport::{Channel, Endpoint};

const CONFIG: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: python}
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
";

type Client = ExporterServiceClient<Channel>;

async fn connect(exporter: &PythonExporter) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{}", exporter.host_port())).unwrap();
    Client::new(endpoint.connect().await.unwrap())
}

#[tokio::test]
async fn python_exporter_reports_its_tree_and_ends() {
    let Some(environment) = python_environment() else { return };
    let exporter = PythonExporter::start(&environment, CONFIG).await.unwrap();
    let mut client = connect(&exporter).await;
    let report =
        client.get_report(()).await.unwrap_or_else(|error| panic!("{error}: {}", exporter.log()));
    let names: Vec<_> = report
        .into_inner()
        .reports
        .iter()
        .filter_map(|node| node.labels.get(labels::NAME).cloned())
        .collect();
    assert!(names.contains(&"power".to_owned()), "{names:?}");
    let address = exporter.host_port();
    exporter.stop().await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "something still listens");
}

#[tokio::test]
async fn python_exporter_asks_for_its_passphrase() {
    let Some(environment) = python_environment() else { return };
    let exporter =
        PythonExporter::start_guarded(&environment, CONFIG, "open: sesame").await.unwrap();
    let mut client = connect(&exporter).await;
    assert_eq!(client.get_report(()).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    let mut request = tonic::Request::new(());
    request.metadata_mut().insert("x-jumpstarter-passphrase", "open: sesame".parse().unwrap());
    client.get_report(request).await.unwrap();
    exporter.stop().await.unwrap();
}

#[tokio::test]
async fn python_exporter_that_cannot_start_is_told_with_its_words() {
    let Some(environment) = python_environment() else { return };
    let config = CONFIG.replace("MockPower", "NoSuchPower");
    let error = PythonExporter::start(&environment, &config).await.unwrap_err();
    assert!(format!("{error:#}").contains("NoSuchPower"), "{error:#}");
}
