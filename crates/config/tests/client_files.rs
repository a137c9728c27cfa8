//! Client files and the environment's variables for clients.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use insta::assert_snapshot;
use jumpstarter_config::{ClientConfig, TokenClaims};
use jumpstarter_driver_core::ErrorKind;

/// A file as the Python client writes it.
const PYTHON: &str = "\
apiVersion: jumpstarter.dev/v1alpha1
kind: ClientConfig
metadata:
  namespace: lab
  name: me
endpoint: controller.example:443
tls:
  ca: ''
  insecure: false
token: t0ken
grpcOptions: {}
drivers:
  allow:
  - ''
  unsafe: false
shell:
  use_profiles: false
leases:
  acquisition_timeout: 7200
  retry_timeout: 0.5
";

fn parse(text: &str) -> ClientConfig {
    ClientConfig::parse(text, "me.yaml").unwrap_or_else(|faults| panic!("{faults}"))
}

fn faults(text: &str) -> String {
    ClientConfig::parse(text, "me.yaml").unwrap_err().to_string()
}

fn variables(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    let pairs: BTreeMap<String, OsString> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    move |name: &str| pairs.get(name).cloned()
}

#[test]
fn a_file_of_the_python_client_is_read() {
    let config = parse(PYTHON);
    assert_eq!(config.metadata.namespace.as_deref(), Some("lab"));
    assert_eq!(config.token.unwrap().expose(), "t0ken");
    assert!(config.drivers.allow.is_empty() && !config.drivers.allows_all());
    assert_eq!(config.leases.acquisition_timeout, Duration::from_secs(7200));
    assert_eq!(config.leases.dial_timeout, Duration::from_secs(60));
    assert_eq!(config.leases.retry_timeout, Duration::from_millis(500));
    assert!(
        parse("metadata: {namespace: a, name: b}\ndrivers: {allow: UNSAFE}\n").drivers.allows_all()
    );
    let options = parse("metadata: {name: b}\ngrpcOptions: null\ntoken: null\n");
    assert!(options.grpc_options.is_empty() && options.token.is_none());
}

#[test]
fn all_faults_have_places_and_hints_and_show_no_token() {
    let text = "\
kind: ExporterConfig
metadata: {namespace: lab}
endpiont: a:1
token: 73531
refresh_token: [73531]
leases: {acquisition_timeout: 4, dial_timeout: 4.5, retry_timeout: -1}
";
    assert_snapshot!(faults(text), @r#"
    me.yaml:1:7: kind: found the text "ExporterConfig", expected `ClientConfig`
    me.yaml:2:1: metadata.name: missing required field; expected text: The name in that namespace
    me.yaml:3:1: endpiont: unknown field; did you mean `endpoint`?
    me.yaml:4:8: token: found a number, expected text; put it in quotes
    me.yaml:5:16: refresh_token: found a list, expected text
    me.yaml:6:31: leases.acquisition_timeout: found the number 4, expected a whole number from 5
    me.yaml:6:48: leases.dial_timeout: found the number 4.5, expected a number from 5
    me.yaml:6:68: leases.retry_timeout: found the number -1, expected a number (not negative)
    "#);
    assert_snapshot!(faults("endpoint: a:1\n"), @r"
    me.yaml:1:1: metadata: missing required field; expected a mapping: The client's name
    ");
    assert_snapshot!(faults("metadata: {name: a\n"), @r"
    me.yaml:2:1: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'; check the indentation, brackets and `:` of this line and the one before
    ");
    let shown =
        format!("{:?}", parse("metadata: {name: a}\ntoken: '73531'\nrefresh_token: '73531'\n"));
    assert!(!shown.contains("73531"), "{shown}");
}

#[test]
fn what_is_saved_is_private_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("me.yaml");
    std::fs::write(&path, PYTHON).unwrap();
    let mut config = ClientConfig::load(&path).unwrap();
    assert_eq!((config.alias.as_str(), config.path.as_ref()), ("me", Some(&path)));
    config.token = Some("yes".into());
    config.refresh_token = Some("it's: \u{e9}".into());
    config.leases.dial_timeout = Duration::from_secs(5);
    assert_eq!(config.save().unwrap(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ClientConfig::load(&path).unwrap(), config);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    config.refresh_token = None;
    config.leases = Default::default();
    config.save().unwrap();
    assert_snapshot!(std::fs::read_to_string(&path).unwrap(), @r"
    apiVersion: jumpstarter.dev/v1alpha1
    kind: ClientConfig
    metadata:
      namespace: lab
      name: me
    endpoint: controller.example:443
    tls:
      ca: ''
      insecure: false
    token: 'yes'
    grpcOptions: {}
    drivers:
      allow: []
      unsafe: false
    shell:
      use_profiles: false
    ");
}

#[test]
fn variables_are_a_configuration_without_a_file() {
    assert_eq!(ClientConfig::from_variables(variables(&[("JMP_NAME", "me")])).unwrap(), None);
    let config = ClientConfig::from_variables(variables(&[
        ("JMP_NAMESPACE", "lab"),
        ("JMP_NAME", "me"),
        ("JMP_ENDPOINT", "controller.example:443"),
        ("JMP_TOKEN", "t0ken"),
        ("JMP_REFRESH_TOKEN", "again"),
        ("JMP_DRIVERS_ALLOW", "a, b,"),
        ("JMP_DRIVERS_UNSAFE", "true"),
        ("JMP_TLS", r#"{"ca": "Y2E="}"#),
        ("JMP_GRPCOPTIONS", r#"{"grpc.keepalive_time_ms": 1}"#),
    ]));
    let config = config.unwrap().unwrap();
    assert_eq!((config.alias.as_str(), &config.path), ("default", &None));
    assert_eq!((config.metadata.name.as_str(), config.tls.ca.as_str()), ("me", "Y2E="));
    assert_eq!(config.token.as_ref().unwrap().expose(), "t0ken");
    assert_eq!(config.refresh_token.as_ref().unwrap().expose(), "again");
    assert_eq!(
        (config.drivers.allow, config.drivers.allow_all),
        (vec!["a".into(), "b".into()], true)
    );
    assert_eq!(config.grpc_options.len(), 1);
    for (name, value) in
        [("JMP_TLS", "73531"), ("JMP_GRPCOPTIONS", "73531"), ("JMP_DRIVERS_UNSAFE", "73531")]
    {
        let pairs = [("JMP_NAMESPACE", "lab"), ("JMP_NAME", "me"), (name, value)];
        let error = ClientConfig::from_variables(variables(&pairs)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = error.report();
        assert!(text.contains(name) && !text.contains("73531"), "{text}");
    }
}

#[test]
fn variables_complete_a_file_and_a_variable_for_tests_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("me.yaml");
    std::fs::write(&path, "metadata: {namespace: lab, name: me}\nendpoint: a:1\n").unwrap();
    let pairs =
        [("JMP_ENDPOINT", "b:1"), ("JMP_TOKEN", "t0ken"), ("JUMPSTARTER_GRPC_INSECURE", "1")];
    let config = ClientConfig::choose(None, Some(&path), variables(&pairs)).unwrap();
    assert_eq!(config.endpoint.as_deref(), Some("a:1"));
    assert_eq!(config.token.as_ref().unwrap().expose(), "t0ken");
    assert!(config.tls.insecure);
    config.save().unwrap();
    assert!(!ClientConfig::load(&path).unwrap().tls.insecure);
    // The variables of a client without a file do not replace a file that is named.
    let pairs = [("JMP_NAMESPACE", "other"), ("JMP_NAME", "other")];
    let config = ClientConfig::choose(None, Some(&path), variables(&pairs)).unwrap();
    assert_eq!(config.metadata.name, "me");
    let config = ClientConfig::choose(None, None, variables(&pairs)).unwrap();
    assert_eq!(config.metadata.name, "other");
    let error = ClientConfig::choose(Some("me"), Some(&path), variables(&[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn claims_are_read_from_any_token() {
    // {"exp": 1700000000.5, "iat": 1, "iss": 7, "sub": "me"}
    let payload = "eyJleHAiOiAxNzAwMDAwMDAwLjUsICJpYXQiOiAxLCAiaXNzIjogNywgInN1YiI6ICJtZSJ9";
    let claims = TokenClaims::read(&format!("e30.{payload}.x").as_str().into()).unwrap();
    let at = |seconds| Some(std::time::UNIX_EPOCH + Duration::from_secs_f64(seconds));
    assert_eq!((claims.expires, claims.issued), (at(1_700_000_000.5), at(1.0)));
    assert_eq!((claims.issuer, claims.subject.as_deref()), (None, Some("me")));
    for wrong in ["", "a.b", "e30.e30", "e30.!.x", "e30.MQ.x", "e30.e30.x.y"] {
        assert_eq!(TokenClaims::read(&wrong.into()), None, "{wrong}");
    }
    assert_eq!(TokenClaims::read(&"e30.e30.".into()), Some(TokenClaims::default()));
    // {"exp": 1e300}
    let endless = TokenClaims::read(&"e30.eyJleHAiOiAxZTMwMH0.x".into()).unwrap();
    assert_eq!(endless.expires, None);
}
