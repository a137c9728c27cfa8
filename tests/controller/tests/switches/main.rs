//! What tests can switch: each switch does what it says, over real connections with TLS.
#![expect(clippy::unwrap_used, reason = "tests")]

mod lab;

use std::time::Duration;

use jumpstarter_test_controller::proto::client_v1::ListExportersRequest;
use jumpstarter_test_controller::proto::v1::{
    DialRequest, ExporterStatus, GetServiceEndpointsRequest, ListenRequest, RegisterRequest,
    StatusRequest,
};
use jumpstarter_test_controller::{Answer, Kind, Options, Rule};
use lab::Lab;
use tokio::time::timeout;
use tonic::{Code, Status};

/// So long nothing happens.
const QUIET: Duration = Duration::from_millis(200);
/// Longer than anything takes on a busy host.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_servers_are_trusted_by_their_own_certificates_and_prefer_http_1() {
    let lab = Lab::start().await;
    assert_eq!(lab.negotiated(lab.controller.controller(), &["h2"]).await, Some("h2".to_owned()));
    // As Go's server: a client that offers both gets what gRPC cannot use.
    let both = lab.negotiated(lab.controller.controller(), &["h2", "http/1.1"]).await;
    assert_eq!(both.as_deref(), Some("http/1.1"));
    assert_eq!(lab.negotiated(lab.controller.router(), &["h2"]).await, Some("h2".to_owned()));
}

#[tokio::test]
async fn an_outage_closes_connections_and_keeps_the_state() {
    let lab = Lab::leased("a").await;
    let mut status = lab.status().await;
    assert!(status.message().await.unwrap().unwrap().leased);
    lab.controller.controller().down().await;
    assert!(status.message().await.is_err());
    assert!(lab.connect(lab.controller.controller()).await.is_err());
    lab.controller.controller().up().await;
    let mut status = lab.status().await;
    assert_eq!(status.message().await.unwrap().unwrap().lease_name(), "a");
    // Dropped connections are another thing: the next one is accepted.
    lab.controller.controller().drop_connections().await;
    assert!(status.message().await.is_err());
    let mut status = lab.status().await;
    assert!(status.message().await.unwrap().unwrap().leased);
}

#[tokio::test]
async fn a_frozen_server_answers_after_it_thaws() {
    let lab = Lab::leased("a").await;
    let channel = lab.connect(lab.controller.controller()).await.unwrap();
    lab.report(channel.clone(), ExporterStatus::LeaseReady).await.unwrap();
    lab.controller.controller().freeze();
    let mut call = Box::pin(lab.report(channel, ExporterStatus::Available));
    assert!(timeout(QUIET, &mut call).await.is_err());
    assert!(timeout(QUIET, lab.connect(lab.controller.controller())).await.is_err());
    lab.controller.controller().thaw();
    timeout(DEADLINE, call).await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_are_refused_lost_and_silent_as_often_as_a_rule_says() {
    let lab = Lab::leased("a").await;
    let channel = lab.connect(lab.controller.controller()).await.unwrap();
    let report = |status| lab.report(channel.clone(), status);
    let seen = || lab.controller.status_of("e1").unwrap();
    let before = lab.controller.calls_of("ReportStatus", "e1");
    let away = || "connection reset".to_owned();
    let refuse = Answer::Refuse(Code::Unavailable, away());
    lab.controller.add_rule(Rule::new("ReportStatus", refuse.clone()).times(2));
    lab.controller.add_rule(Rule::new("", refuse).from("e2"));
    for _ in 0..2 {
        let error = report(ExporterStatus::LeaseReady).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unavailable, "connection reset"));
    }
    assert_eq!(seen(), ExporterStatus::Available);
    report(ExporterStatus::LeaseReady).await.unwrap();
    assert_eq!(seen(), ExporterStatus::LeaseReady);
    // The caller does not learn that it was performed.
    lab.controller.add_rule(
        Rule::new("ControllerService/ReportStatus", Answer::Lose(Code::Unavailable, away()))
            .times(1),
    );
    report(ExporterStatus::Available).await.unwrap_err();
    assert_eq!(seen(), ExporterStatus::Available);
    lab.controller.add_rule(Rule::new("ReportStatus", Answer::Silence));
    let mut silent = Box::pin(report(ExporterStatus::LeaseReady));
    tokio::select! {
        answer = &mut silent => panic!("{answer:?}"),
        () = lab.until(|| lab.controller.calls_of("ReportStatus", "e1") - before == 5) => {}
    }
    assert!(timeout(QUIET, silent).await.is_err());
    lab.controller.clear_rules();
    lab.controller.add_rule(Rule::new("ReportStatus", Answer::Delay(QUIET)));
    report(ExporterStatus::LeaseReady).await.unwrap();
    assert_eq!(lab.controller.calls_of("ReportStatus", "e1") - before, 6);
    assert_eq!(lab.controller.reports("e1").last().unwrap().status, ExporterStatus::LeaseReady);
}

#[tokio::test]
async fn an_older_controller_does_not_have_every_method() {
    let lab = Lab::leased("a").await;
    let mut client = lab.exporter_client().await;
    let request = || lab.as_exporter(GetServiceEndpointsRequest {});
    client.get_service_endpoints(request()).await.unwrap();
    lab.controller.add_rule(Rule::missing("GetServiceEndpoints"));
    let error = client.get_service_endpoints(request()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    lab.controller.add_rule(Rule::full_queue());
    let error = lab.dial("a").await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_listen_queue_that_nobody_reads_fills_up() {
    let lab = Lab::leased("a").await;
    let channel = lab.connect(lab.controller.controller()).await.unwrap();
    lab.report(channel, ExporterStatus::LeaseReady).await.unwrap();
    let request = lab.as_exporter(ListenRequest { lease_name: "a".to_owned() });
    let mut listener = lab.exporter_client().await;
    let listening = tokio::spawn(async move { listener.listen(request).await });
    // The headers come with the first message.
    lab.until(|| lab.controller.has_listener("a")).await;
    let mut client = lab.client_of_leases().await;
    let mut dial = async || {
        let request = DialRequest { lease_name: "a".to_owned() };
        client.dial(lab.as_client(request)).await
    };
    let router = dial().await.unwrap().into_inner().router_endpoint;
    assert_eq!(router, lab.controller.router().endpoint());
    let stream = timeout(DEADLINE, listening).await.unwrap().unwrap().unwrap();
    // What is sent and not read fills the window first, then the queue of eight.
    let mut refused = None;
    for _ in 0..2000 {
        if let Err(error) = dial().await {
            refused = Some(error.code());
            break;
        }
    }
    assert_eq!(refused, Some(Code::ResourceExhausted));
    drop(stream);
    lab.until(|| !lab.controller.has_listener("a")).await;
    assert_eq!(lab.dial("a").await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn status_streams_end_and_jump() {
    let lab = Lab::leased("a").await;
    let mut status = lab.status().await;
    assert_eq!(status.message().await.unwrap().unwrap().lease_name(), "a");
    lab.create("b").await;
    lab.until(|| !lab.controller.lease("b").unwrap().conditions.is_empty()).await;
    // Nothing in between says that the exporter is free.
    lab.controller.jump("e1", "b");
    assert_eq!(status.message().await.unwrap().unwrap().lease_name(), "b");
    assert_eq!(lab.controller.leases(true), ["b"]);
    lab.controller.end_status_streams(None, None);
    assert!(status.message().await.unwrap().is_none());
    let mut status = lab.status().await;
    assert!(status.message().await.unwrap().is_some());
    lab.controller.end_status_streams(Some("e1"), Some(&Status::unknown("watch channel closed")));
    let error = status.message().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unknown, "watch channel closed"));
    let mut status = lab.status().await;
    assert!(status.message().await.unwrap().is_some());
    lab.controller.remove_lease("b");
    let error = status.message().await.unwrap_err();
    assert_eq!(error.message(), "leases.jumpstarter.dev \"b\" not found");
    let mut status = lab.status().await;
    assert!(!status.message().await.unwrap().unwrap().leased);
}

#[tokio::test]
async fn an_end_and_a_beginning_are_two_messages_unless_they_are_joined() {
    let lab = Lab::leased("a").await;
    let mut status = lab.status().await;
    let mut next = async || status.message().await.unwrap().unwrap().lease_name;
    assert_eq!(next().await.as_deref(), Some("a"));
    let waits = |lease: &str| !lab.controller.lease(lease).unwrap().conditions.is_empty();
    lab.create("b").await;
    lab.until(|| waits("b")).await;
    lab.controller.release("a");
    assert_eq!(next().await, None);
    assert_eq!(next().await.as_deref(), Some("b"));
    lab.create("c").await;
    lab.until(|| waits("c")).await;
    lab.controller.join_messages(true);
    lab.controller.release("b");
    assert_eq!(next().await.as_deref(), Some("c"));
}

#[tokio::test]
async fn exporters_are_listed_in_pages_without_hidden_labels() {
    let options = Options {
        hidden_labels: ["secret".to_owned()].into(),
        deprecated_labels: [("old".to_owned(), "use new".to_owned())].into(),
        ..Options::default()
    };
    let lab = Lab::with(options).await;
    lab.controller.add_exporter("e2", &[("secret", "x"), ("old", "y"), ("new", "z")]);
    let mut client = lab.client().await;
    let mut list = async |page_token: &str, show_hidden_labels| {
        let page_token = page_token.to_owned();
        let request =
            ListExportersRequest { page_size: 1, page_token, show_hidden_labels, ..lab::list() };
        let page = client.list_exporters(lab.as_client(request)).await.unwrap().into_inner();
        (page.exporters[0].clone(), page.next_page_token)
    };
    let (first, token) = list("", false).await;
    assert_eq!(first.name, "namespaces/lab/exporters/e1");
    let (second, end) = list(&token, false).await;
    assert_eq!(end, "");
    assert_eq!(second.labels, [("new".to_owned(), "z".to_owned())].into());
    assert_eq!(second.deprecated_labels, [("old".to_owned(), "use new".to_owned())].into());
    assert_eq!(list(&token, true).await.0.labels.len(), 3);
}

#[tokio::test]
async fn tokens_expire_and_are_refused() {
    let lab = Lab::leased("a").await;
    let mut client = lab.exporter_client().await;
    let mut register = async |token: &str| {
        let request = lab.request(token, Kind::Exporter, "e1", RegisterRequest::default());
        client.register(request).await.map(drop).map_err(|e| e.message().to_owned())
    };
    let short = lab.controller.token_with_life(Kind::Exporter, "e1", -1);
    assert!(register(&short).await.unwrap_err().contains("token is expired"));
    let good = lab.controller.token(Kind::Exporter, "e1");
    register(&good).await.unwrap();
    lab.controller.expire_token(&good);
    assert!(register(&good).await.unwrap_err().contains("token is expired"));
    // An object that was made anew has another identity.
    let fresh = lab.controller.token(Kind::Exporter, "e1");
    lab.controller.add_exporter("e1", &[]);
    let refused = register(&fresh).await.unwrap_err();
    assert_eq!(refused, "permission denied for exporter lab/e1");
    let other = lab.controller.token(Kind::Exporter, "e1");
    register(&other).await.unwrap();
    lab.controller.add_rule(Rule::expired_token("e1"));
    assert!(register(&other).await.unwrap_err().contains("token is expired"));
}

#[tokio::test]
async fn tokens_of_a_trusted_issuer_name_their_user() {
    let lab = Lab::start().await;
    let issuer = lab::Provider::new("https://login.example");
    let mut client = lab.client().await;
    let mut list = async |token: &str, name: &str| {
        let request = lab.request(token, Kind::Client, name, lab::list());
        client
            .list_exporters(request)
            .await
            .map(drop)
            .map_err(|e| (e.code(), e.message().to_owned()))
    };
    let token = issuer.token("Alice@Example");
    assert_eq!(list(&token, "").await.unwrap_err().1, "failed to authenticate token");
    lab.controller.trust(issuer.issuer());
    lab.controller.add_external_client("alice-example", "dex:Alice@Example");
    list(&token, "alice-example").await.unwrap();
    list(&token, "").await.unwrap();
    assert_eq!(list(&token, "c1").await.unwrap_err().0, Code::InvalidArgument);
    let mut spoilt = token.clone();
    let at = token.rfind('.').unwrap() + 1;
    spoilt.replace_range(at..=at, if token[at..].starts_with('A') { "B" } else { "A" });
    assert!(list(&spoilt, "").await.unwrap_err().1.starts_with("oidc: "));
}

#[tokio::test]
async fn the_clock_may_be_wrong() {
    let lab = Lab::leased("a").await;
    let begin =
        |name: &str| lab.controller.lease(name).unwrap().effective_begin_time.unwrap().seconds;
    lab.controller.release("a");
    lab.controller.set_clock_skew(3600);
    // The exporter was last seen an hour ago, by this clock.
    let channel = lab.connect(lab.controller.controller()).await.unwrap();
    lab.report(channel, ExporterStatus::Available).await.unwrap();
    lab.create("b").await;
    lab.until(|| lab.controller.lease_of("e1").as_deref() == Some("b")).await;
    assert!((3600..3660).contains(&(begin("b") - begin("a"))));
}

/// Everything below is on time that is paused: an hour passes at once.
#[tokio::test(start_paused = true)]
async fn an_exporter_without_a_sign_of_life_is_offline_after_a_minute() {
    let lab = Lab::in_memory("a").await;
    // The controller's clock has whole seconds: this is a minute, or up to a second less.
    tokio::time::sleep(Duration::from_secs(58)).await;
    assert!(lab.controller.is_online("e1"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!lab.controller.is_online("e1"));
    // An open Status stream is one, and an exporter that is back may be dialled.
    let mut client = lab.exporter_client().await;
    let mut status = client.status(lab.as_exporter(StatusRequest {})).await.unwrap().into_inner();
    assert!(status.message().await.unwrap().unwrap().leased);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(lab.controller.is_online("e1"));
    assert_eq!(lab.controller.status_of("e1"), Some(ExporterStatus::Unspecified));
    let mut client = lab.client_of_leases().await;
    let request = DialRequest { lease_name: "a".to_owned() };
    let error = client.dial(lab.as_client(request)).await.unwrap_err();
    assert_eq!(error.message(), "exporter is not listening on lease a");
}

#[tokio::test(start_paused = true)]
async fn headers_of_a_stream_wait_for_its_first_message() {
    let lab = Lab::in_memory("a").await;
    let mut client = lab.exporter_client().await;
    let request = lab.as_exporter(ListenRequest { lease_name: "a".to_owned() });
    assert!(timeout(Duration::from_secs(3600), client.listen(request)).await.is_err());
}
