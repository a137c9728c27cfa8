//! What the environment of an exporter says about images: proxies, and the memory of decoders.

use jumpstarter_supervise::run_unchecked;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{jmp, transcript};
use crate::terminal::{DEADLINE, J, Lab};

const FILE: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: lab}
export:
  disk: {type: file-flasher, config: {path: disk.img}}
";

/// What `j disk flash` says, and the exporter with it, in this environment.
async fn flash(lab: &Lab, image: &str, environment: &[(&str, &str)]) -> String {
    let words = ["shell", "--exporter-config", "lab.yaml", "--", J, "disk", "flash", image];
    let command = jmp(&words).current_dir(lab.folder());
    let variables = [
        "http_proxy",
        "HTTP_PROXY",
        "no_proxy",
        "NO_PROXY",
        "REQUEST_METHOD",
        "JMP_DECODER_MEMORY",
    ];
    let command = variables.into_iter().fold(command, |command, name| command.env_remove(name));
    let command =
        environment.iter().fold(command, |command, (name, value)| command.env(name, value));
    transcript(&run_unchecked(command, DEADLINE).await.unwrap())
}

#[tokio::test]
async fn a_proxy_fetches_an_image() {
    let lab = Lab::new(FILE);
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap().to_string();
    let serving = async {
        let (mut client, _) = proxy.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let count = client.read(&mut request).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
        String::from_utf8_lossy(&request[..count]).into_owned()
    };
    let environment = [("HTTP_PROXY", address.as_str()), ("NO_PROXY", "other.example")];
    let flashing = flash(&lab, "http://images.example/os.img?v=1", &environment);
    let (request, said) = tokio::join!(tokio::time::timeout(DEADLINE, serving), flashing);
    assert!(
        request.unwrap().starts_with("GET http://images.example/os.img?v=1 HTTP/1.1\r\n"),
        "{said}"
    );
    assert_eq!(std::fs::read(lab.path("disk.img")).unwrap(), b"hello", "{said}");
}

#[tokio::test]
async fn more_memory_for_a_decoder_is_a_setting() {
    let lab = Lab::new(FILE);
    // A frame with a window of 2 GiB that holds one byte.
    std::fs::write(lab.path("os.zst"), b"\x28\xb5\x2f\xfd\x00\xa8\x09\x00\x00x").unwrap();
    let said = flash(&lab, "os.zst", &[]).await;
    assert!(
        said.contains("takes 2 GiB of memory") && said.contains("JMP_DECODER_MEMORY=2048MiB"),
        "{said}"
    );
    let said = flash(&lab, "os.zst", &[("JMP_DECODER_MEMORY", "plenty")]).await;
    assert!(said.contains("JMP_DECODER_MEMORY holds no size"), "{said}");
    assert!(!lab.path("disk.img").exists());
    let said = flash(&lab, "os.zst", &[("JMP_DECODER_MEMORY", "2GiB")]).await;
    assert_eq!(std::fs::read(lab.path("disk.img")).unwrap(), b"x", "{said}");
}
