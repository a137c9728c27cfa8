//! Where redirects may lead.

use super::*;
use crate::SmallRequest;
use jumpstarter_driver_core::ErrorKind;

/// Settings with a public server `images.example`, which is reached through a proxy at `proxy`;
/// addresses in numbers and
/// `lab.example`, which is this machine, are reached directly.
fn public_first(proxy: SocketAddr, networks: &str) -> Settings {
    let proxy = format!("http://{proxy}");
    let exempt = "lab.example,127.0.0.0/8,::1,localhost";
    let mut settings =
        settings(&[("http_proxy", &proxy), ("no_proxy", exempt), ("JMP_IMAGE_NETWORKS", networks)]);
    settings.names = vec![("lab.example".to_owned(), "127.0.0.1".parse().unwrap())];
    settings
}

#[tokio::test]
async fn a_public_server_leads_to_nothing_on_this_machine() {
    for (host, put) in
        [("127.0.0.1", false), ("lab.example", false), ("localhost", false), ("lab.example", true)]
    {
        let (secret, there) = listener().await;
        let (proxy, at) = listener().await;
        let target = moved(&format!("http://{host}:{}/admin", there.port()));
        let settings = public_first(at, "10.0.0.0/8");
        let url = "http://images.example/os.img";
        let ((asked, _stream), outcome) = tokio::join!(answer(&proxy, &target), async {
            if put {
                send(url, b"hello", settings).await
            } else {
                fetch(url, settings).await.map(drop)
            }
        });
        assert!(asked.contains(" http://images.example/os.img HTTP/1.1\r\n"), "{asked}");
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", error.report());
        assert!(error.report().contains("a loopback address"), "{}", error.report());
        assert!(error.report().contains("JMP_IMAGE_NETWORKS"), "{}", error.report());
        untouched(secret).await;
    }
}

#[tokio::test]
async fn a_setting_allows_a_network() {
    let (lab, there) = listener().await;
    let (proxy, at) = listener().await;
    let target = moved(&format!("http://lab.example:{}/os.img", there.port()));
    let serving = async {
        drop(answer(&proxy, &target).await);
        answer(&lab, HELLO).await
    };
    let fetching =
        fetch("http://images.example/os.img", public_first(at, "10.0.0.0/8, 127.0.0.0/8"));
    let (_, fetched) = tokio::join!(serving, fetching);
    assert_eq!(fetched.unwrap(), b"hello");
}

#[tokio::test]
async fn addresses_are_judged_whatever_is_said_of_them() {
    // Nothing listens at these, and nothing is sent: they are refused before a connection.
    let (first, at) = listener().await;
    for (location, kind) in [
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://[fe80::1%25lo]/", "link-local"),
        ("http://[::ffff:169.254.169.254]/", "link-local"),
        ("http://[64:ff9b::a9fe:a9fe]/", "link-local"),
        ("http://2852039166/", "link-local"),
        ("http://0xa9fea9fe/", "link-local"),
        ("http://0251.0376.0251.0376/", "link-local"),
        ("http://metadata.example/", "link-local"),
        ("http://224.0.0.1/", "multicast"),
    ] {
        let mut settings = settings(&[("JMP_IMAGE_NETWORKS", "0.0.0.0/0,::/0")]);
        settings.names = vec![("metadata.example".to_owned(), "169.254.169.254".parse().unwrap())];
        // As a first URL, and as the second.
        let error = fetch(location, settings.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{location}: {}", error.report());
        let (url, moved) = (format!("http://{at}/"), moved(location));
        let ((_, _stream), fetched) = tokio::join!(answer(&first, &moved), fetch(&url, settings));
        let error = fetched.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{location}: {}", error.report());
        assert!(error.report().contains(kind), "{location}: {}", error.report());
    }
}

#[tokio::test]
async fn only_admitted_addresses_of_a_name_are_connected_to() {
    let (first, at) = listener().await;
    let mut settings = settings(&[]);
    let both = ["169.254.169.254", "127.0.0.1"];
    settings.names =
        both.map(|address| ("both.example".to_owned(), address.parse().unwrap())).to_vec();
    let url = format!("http://both.example:{}/", at.port());
    let ((asked, _stream), fetched) = tokio::join!(answer(&first, HELLO), fetch(&url, settings));
    assert_eq!(fetched.unwrap(), b"hello");
    assert!(asked.contains("host: both.example"), "{asked}");
}

#[tokio::test]
async fn a_lab_may_redirect_within_itself() {
    let (first, at) = listener().await;
    let (second, there) = listener().await;
    let target = moved(&format!("http://localhost:{}/os.img", there.port()));
    let serving = async {
        drop(answer(&first, &target).await);
        answer(&second, HELLO).await
    };
    let url = format!("http://{at}/");
    let (_, fetched) = tokio::join!(serving, fetch(&url, settings(&[])));
    assert_eq!(fetched.unwrap(), b"hello");
}

#[tokio::test]
async fn networks_that_are_none_are_said_before_anything_is_fetched() {
    let wrong =
        Settings::new(|name| (name == "JMP_IMAGE_NETWORKS").then(|| "10.0.0.0/8;lab".to_owned()));
    let report = wrong.err().unwrap().report();
    assert!(report.contains("JMP_IMAGE_NETWORKS") && report.contains("10.0.0.0/8;lab"), "{report}");
}

#[tokio::test]
async fn a_body_stays_with_the_origin_that_it_was_given_to() {
    for (status, is_other, expected) in [
        ("307 Temporary Redirect", true, Err(ErrorKind::PermissionDenied)),
        ("308 Permanent Redirect", true, Err(ErrorKind::PermissionDenied)),
        ("307 Temporary Redirect", false, Ok("POST /b HTTP/1.1")),
        // The method changes, and there is no body then.
        ("302 Found", true, Ok("GET /b HTTP/1.1")),
    ] {
        let (first, at) = listener().await;
        let (second, there) = listener().await;
        let target = if is_other { there } else { at };
        let moved = format!(
            "HTTP/1.1 {status}\r\nlocation: http://{target}/b\r\ncontent-length: 0\r\n\r\n"
        );
        let request = SmallRequest::new("POST", &format!("http://me:hush@{at}/a")).unwrap();
        let request = request.body("password=hush");
        let serving = async {
            drop(answer(&first, &moved).await);
            match expected {
                Ok(_) => Some(answer(if is_other { &second } else { &first }, HELLO).await.0),
                Err(_) => None,
            }
        };
        let (asked, answered) = tokio::join!(serving, request.send(DEADLINE));
        match (expected, asked) {
            (Ok(line), Some(asked)) => {
                assert!(answered.unwrap().is_success(), "{status}");
                assert!(asked.starts_with(line), "{asked}");
                assert_eq!(asked.contains("authorization"), !is_other, "{asked}");
            }
            (Err(kind), _) => {
                let error = answered.unwrap_err();
                assert_eq!(error.kind(), kind, "{}", error.report());
                untouched(second).await;
            }
            (Ok(_), None) => unreachable!(),
        }
    }
}
