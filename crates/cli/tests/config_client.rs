//! `jmp config client` and `jmp auth status`: files in a folder of the test's own.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/home.rs"]
mod home;
#[path = "support/terminal.rs"]
mod terminal;

use std::os::unix::fs::PermissionsExt;

use home::Home;
use insta::assert_snapshot;
use terminal::{JMP, Terminal, code};

/// A home with a client that has this token.
async fn with_client(alias: &str, token: &str) -> Home {
    let home = Home::of(&[]);
    let text = home.text(&create(alias, token)).await;
    assert!(text.ends_with("exit code 0"), "{text}");
    home
}

fn create<'a>(alias: &'a str, token: &'a str) -> Vec<&'a str> {
    let words = "config client create --namespace lab --name me -e controller.example:443 -t";
    words.split(' ').chain([token, alias]).collect()
}

#[tokio::test]
async fn from_creation_to_deletion() {
    let home = Home::of(&[]);
    assert_snapshot!(home.text(&["config", "client", "list"]).await, @r"
    this user has no client; `jmp config client create ALIAS` makes one
    exit code 0
    ");
    assert_snapshot!(home.text(&create("me", "t0ken")).await, @r"
    created HOME/clients/me.yaml
    exit code 0
    ");
    let file = home.path("home/clients/me.yaml");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_snapshot!(home.text(&create("me", "other")).await, @r"
    error: there is a client `me` already
    hint: `jmp config client delete me` removes it
    exit code 1
    ");
    assert!(home.text(&create("other", "t0ken")).await.ends_with("exit code 0"));
    assert_snapshot!(home.text(&["config", "client", "list"]).await, @r"
    CURRENT  ALIAS  ENDPOINT                PATH
    *        me     controller.example:443  HOME/clients/me.yaml
             other  controller.example:443  HOME/clients/other.yaml
    exit code 0
    ");
    assert_snapshot!(home.text(&["config", "client", "use", "other"]).await, @r"
    the current client is HOME/clients/other.yaml
    exit code 0
    ");
    assert_snapshot!(home.text(&["conf", "c", "ls", "-o", "name"]).await, @r"
    me
    other
    exit code 0
    ");
    assert_snapshot!(home.text(&["config", "client", "show"]).await, @r"
    alias: other
    path: HOME/clients/other.yaml
    metadata:
      namespace: lab
      name: me
    endpoint: controller.example:443
    tls:
      ca: ''
      insecure: false
    token: set
    refresh_token: null
    grpcOptions: {}
    drivers:
      allow: []
      unsafe: false
    shell:
      use_profiles: false
    leases:
      acquisition_timeout: 7200.0
      dial_timeout: 60.0
      retry_timeout: 300.0
    exit code 0
    ");
    assert_snapshot!(home.text(&["config", "client", "delete", "other"]).await, @r"
    deleted HOME/clients/other.yaml
    note: the current client is `me` now
    exit code 0
    ");
    assert_snapshot!(home.text(&["config", "clients", "d", "me", "-o", "path"]).await, @r"
    HOME/clients/me.yaml
    note: there is no current client now
    exit code 0
    ");
    assert_snapshot!(home.text(&["config", "client", "use", "me"]).await, @r"
    error: there is no client `me`
    hint: looked for HOME/clients/me.yaml
    exit code 1
    ");
}

#[tokio::test]
async fn no_list_shows_a_token_and_one_bad_file_hides_no_other() {
    let home = with_client("me", "t0ken").await;
    std::fs::write(home.path("home/clients/bad.yaml"), "endpiont: a\n").unwrap();
    assert_snapshot!(home.text(&["config", "client", "list"]).await, @r"
    CURRENT  ALIAS  ENDPOINT                PATH
    *        me     controller.example:443  HOME/clients/me.yaml
    warning: a client is left out
    HOME/clients/bad.yaml:1:1: endpiont: unknown field; did you mean `endpoint`?
    HOME/clients/bad.yaml:1:1: metadata: missing required field; expected a mapping: The client's name
    exit code 0
    ");
    for output in ["json", "yaml", "text", "name"] {
        let text = home.text(&["config", "client", "list", "-o", output]).await;
        assert!(text.contains("me") && !text.contains("t0ken"), "{text}");
    }
    let text = home.text(&["config", "client", "list", "-o", "yaml"]).await;
    assert!(
        text.starts_with("apiVersion: jumpstarter.dev/v1alpha1\ncurrentConfig: me\nitems:\n"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_missing_is_named_where_nobody_can_be_asked() {
    let home = Home::of(&[]);
    assert_snapshot!(home.text(&["config", "client", "create", "me", "--name", "me"]).await, @r"
    error: missing: --namespace, --endpoint, --token
    hint: give them, or run the command on a terminal
    exit code 2
    ");
    assert!(!home.path("home/clients/me.yaml").exists());
}

#[tokio::test]
async fn what_is_missing_is_asked_for_and_the_token_is_not_shown() {
    let home = Home::of(&[]);
    let mut terminal = Terminal::new();
    let before = terminal.settings();
    let words = [JMP, "config", "client", "create", "me", "--namespace", "lab"];
    let command = terminal.command(&words).env("JMP_CLIENT_CONFIG_HOME", home.path("home"));
    let jmp = command.spawn().await.unwrap();
    terminal.shows("Name of the client: ").await;
    terminal.press("me\n");
    terminal.shows("Controller (HOST:PORT): ").await;
    terminal.press("controller.example:443\n");
    terminal.shows("Token (not shown): ").await;
    terminal.raw().await;
    terminal.press("t0ken\r");
    terminal.shows("created").await;
    assert_eq!(code(&jmp).await, Some(0));
    assert!(!terminal.text().contains("t0ken"), "{}", terminal.text());
    assert_eq!(terminal.settings(), before);
    let saved = std::fs::read_to_string(home.path("home/clients/me.yaml")).unwrap();
    assert!(saved.contains("token: t0ken") && saved.contains("name: me"), "{saved}");
}

/// `{"exp": 4102444800, "iat": 0, "iss": "https://login.example", "sub": "me"}`
const VALID: &str = "e30.eyJleHAiOiA0MTAyNDQ0ODAwLCAiaWF0IjogMCwgImlzcyI6ICJodHRwczovL2xvZ2luLmV4YW1wbGUiLCAic3ViIjogIm1lIn0.x";
/// `{"exp": 0, "iss": "https://localhost:8085"}`
const EXPIRED: &str = "e30.eyJleHAiOiAwLCAiaXNzIjogImh0dHBzOi8vbG9jYWxob3N0OjgwODUifQ.x";

#[tokio::test]
async fn the_state_of_a_token() {
    let home = with_client("me", VALID).await;
    let text = home.text(&["auth", "status", "-v"]).await;
    let (first, rest) = text.split_once("Status: Valid (").unwrap();
    assert_eq!(first, "Token expiry: 2100-01-01 00:00:00 UTC\n");
    let (remaining, rest) = rest.split_once('\n').unwrap();
    assert!(remaining.ends_with("m remaining)"), "{remaining}");
    assert_snapshot!(rest, @r"
    Subject: me
    Issuer: https://login.example
    Issued at: 1970-01-01 00:00:00 UTC
    Refresh token stored: no
    exit code 0
    ");
    let home = with_client("me", EXPIRED).await;
    let text = home.text(&["auth", "status", "--client", "me"]).await;
    assert!(text.contains("Status: EXPIRED (") && text.contains("Ask the administrator"), "{text}");
    assert!(text.ends_with("exit code 0"), "{text}");
    let home = with_client("me", "opaque").await;
    assert_snapshot!(home.text(&["auth", "status"]).await, @r"
    Status: the token is no JSON Web Token, so its expiry is unknown
    exit code 0
    ");
    assert_snapshot!(Home::of(&[]).text(&["auth", "status"]).await, @r"
    error: no client is chosen
    hint: `jmp login` or `jmp config client create ALIAS` makes a client, `jmp config client use ALIAS` chooses one, `--client ALIAS` names one
    exit code 1
    ");
}
