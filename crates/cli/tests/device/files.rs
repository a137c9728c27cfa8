//! Stored files, and servers of them for the device.

use std::net::UdpSocket;

use insta::assert_snapshot;
use jumpstarter_supervise::Command;

use crate::lab::Bench;
use crate::terminal::{DEADLINE, Lab};

async fn bench() -> Bench {
    let lab = Lab::new("");
    let (folder, socket) = (lab.folder().display(), lab.path("s"));
    let file = format!(
        "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{namespace: default, name: lab}}
export:
  files: {{type: opendal, config: {{scheme: fs, kwargs: {{root: {folder}/files}}}}}}
  far: {{type: opendal, config: {{scheme: http, kwargs: {{endpoint: 'http://127.0.0.1:9', root: a b}}}}}}
  held: {{type: opendal, config: {{scheme: memory}}}}
  web: {{type: http, config: {{root_dir: {folder}/web, host: 127.0.0.1, port: 0}}}}
  boot: {{type: tftp, config: {{root_dir: {folder}/boot, host: 127.0.0.1, port: 0}}}}
"
    );
    std::fs::write(lab.path("lab.yaml"), file).unwrap();
    std::fs::write(lab.path("os.img"), vec![7; 300_000]).unwrap();
    // More than a connection has on the way.
    std::fs::write(lab.path("large.img"), vec![7; 4 << 20]).unwrap();
    let (exporter, host) = lab.serve(&["--listen-unix", socket.to_str().unwrap()]).await;
    Bench { lab, exporter, host }
}

/// A session: each line as a command of `j`, and what it prints.
async fn session(bench: &Bench, lines: &str) -> String {
    let mut session = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split(' ').collect();
        session += &format!("$ j {line}\n{}", bench.j_with(&words, b"typed\n").await);
    }
    session
}

#[tokio::test]
async fn each_verb_of_a_storage() {
    let bench = bench().await;
    assert_snapshot!(session(&bench, "
        files write-bytes a/hello.txt
        files read-bytes a/hello.txt
        files write-from-path os.img os.img
        files read-into-path os.img back.img
        files stat a/hello.txt
        files stat a
        files stat nothing
        files hash os.img
        files hash --algo md5 os.img
        files exists a/hello.txt
        files exists nothing
        files copy os.img b.img
        files rename b.img a/c.img
        files create-dir d/
        files create-dir d
        files list /
        files list a/
        files scan /
        files get-created-resources
        files register-path z
        files presign-stat --expire-second 60 os.img
        files presign-read --expire-second 60 os.img
        files presign-write --expire-second 60 os.img
        files delete d/
        files delete a/
        files remove-all a/
        files read-bytes ../lab.yaml
        files scan /
    ").await, @r#"
        $ j files write-bytes a/hello.txt
        --- stderr
        standard input: 6 B in TIME (RATE)
        $ j files read-bytes a/hello.txt
        typed
        --- stderr
        standard output: 6 B in TIME (RATE)
        $ j files write-from-path os.img os.img
        --- stderr
        os.img: 292.97 KiB in TIME (RATE)
        $ j files read-into-path os.img back.img
        --- stderr
        back.img: 292.97 KiB in TIME (RATE)
        $ j files stat a/hello.txt
        content_disposition: null
        content_length: 6
        content_md5: null
        content_type: null
        etag: null
        mode: {"is_file":true,"is_dir":false}
        $ j files stat a
        content_disposition: null
        content_length: 0
        content_md5: null
        content_type: null
        etag: null
        mode: {"is_file":false,"is_dir":true}
        $ j files stat nothing
        --- stderr
        error: looking at nothing: No such file or directory (os error 2)
        --- exit code 1
        $ j files hash os.img
        08f166476de183f7a1b2874d544d37912aaf8d19b92013e1aafe233ba231024a
        $ j files hash --algo md5 os.img
        a95aa03512179a387a47aab51d3e5d20
        $ j files exists a/hello.txt
        $ j files exists nothing
        --- stderr
        error: path nothing does not exist
        --- exit code 1
        $ j files copy os.img b.img
        $ j files rename b.img a/c.img
        $ j files create-dir d/
        $ j files create-dir d
        --- stderr
        error: making the folder d: the path does not end with /
        hint: write d/
        --- exit code 1
        $ j files list /
        /
        a/
        d/
        os.img
        $ j files list a/
        a/
        a/c.img
        a/hello.txt
        $ j files scan /
        /
        a/
        d/
        os.img
        a/c.img
        a/hello.txt
        $ j files get-created-resources
        a/c.img
        a/hello.txt
        d
        os.img
        $ j files register-path z
        $ j files presign-stat --expire-second 60 os.img
        --- stderr
        error: signing a request for os.img: this storage signs no requests
        --- exit code 1
        $ j files presign-read --expire-second 60 os.img
        --- stderr
        error: signing a request for os.img: this storage signs no requests
        --- exit code 1
        $ j files presign-write --expire-second 60 os.img
        --- stderr
        error: signing a request for os.img: this storage signs no requests
        --- exit code 1
        $ j files delete d/
        $ j files delete a/
        --- stderr
        error: removing a/: Directory not empty (os error 39)
        --- exit code 1
        $ j files remove-all a/
        $ j files read-bytes ../lab.yaml
        --- stderr
        error: `../lab.yaml` leads out of the folder
        --- exit code 1
        $ j files scan /
        /
        os.img
    "#);
    assert_eq!(std::fs::read(bench.lab.path("back.img")).unwrap(), vec![7; 300_000]);
    assert!(bench.j(&["files", "capability"]).await.contains("create_dir: true"));
}

#[tokio::test]
async fn a_source_that_cannot_be_read_replaces_no_file() {
    let bench = bench().await;
    std::fs::create_dir(bench.lab.path("folder")).unwrap();
    let content = b"typed\n";
    for (put, place) in [
        (&["files", "write-from-path"][..], "files/f"),
        (&["web", "put-file"], "web/f"),
        (&["boot", "put-file"], "boot/f"),
    ] {
        let with = |source: &'static str| [put, &["f", source]].concat();
        bench.j_with(&with("-"), content).await;
        // The last one opens, and its first read fails.
        for source in ["typo.img", "folder", "/proc/self/mem"] {
            let said = bench.j_with(&with(source), b"").await;
            assert!(said.contains("error: opening "), "{said}");
            assert!(said.contains("exit code 1"), "{said}");
            assert_eq!(std::fs::read(bench.lab.path(place)).unwrap(), content, "{put:?} {source}");
        }
    }
    let said = session(&bench, "files write-from-path new typo.img").await;
    assert!(said.contains("No such file"), "{said}");
    assert!(!bench.lab.path("files/new").exists());
    std::fs::write(bench.lab.path("empty"), "").unwrap();
    session(&bench, "files write-from-path new empty").await;
    assert_eq!(std::fs::read(bench.lab.path("files/new")).unwrap(), b"");
}

#[tokio::test]
async fn each_verb_of_a_storage_in_json() {
    let bench = bench().await;
    assert_snapshot!(session(&bench, "
        files write-bytes a/hello.txt --output json
        files read-bytes a/hello.txt --output json
        files write-from-path os.img os.img --output json
        files read-into-path os.img back.img --output json
        files stat a/hello.txt --output json
        files stat nothing --output json
        files hash a/hello.txt --output json
        files exists a/hello.txt --output json
        files exists nothing --output json
        files copy os.img b.img --output json
        files rename b.img a/c.img --output json
        files create-dir d/ --output json
        files list / --output json
        files scan a/ --output json
        files get-created-resources --output json
        files register-path z --output json
        far presign-stat --expire-second 60 x.img --output json
        far presign-read --expire-second 60 x/y.img --output json
        far presign-write --expire-second 60 x.img --output json
        far list / --output json
        files delete d/ --output json
        files remove-all a/ --output json
        files capability --output json
    ").await, @r#"
        $ j files write-bytes a/hello.txt --output json
        {"file":"-","bytes":6,"seconds":"SECONDS","bytes_per_second":"RATE"}
        $ j files read-bytes a/hello.txt --output json
        typed
        $ j files write-from-path os.img os.img --output json
        {"file":"os.img","bytes":300000,"seconds":"SECONDS","bytes_per_second":"RATE"}
        $ j files read-into-path os.img back.img --output json
        {"file":"back.img","bytes":300000,"seconds":"SECONDS","bytes_per_second":"RATE"}
        $ j files stat a/hello.txt --output json
        {"content_disposition":null,"content_length":6,"content_md5":null,"content_type":null,"etag":null,"mode":{"is_file":true,"is_dir":false}}
        $ j files stat nothing --output json
        --- stderr
        {"error":"looking at nothing: No such file or directory (os error 2)","kind":"NotFound","hint":null}
        --- exit code 1
        $ j files hash a/hello.txt --output json
        "04af3840888d59214ae722512bb8cb2e0e7e5ecb530137a0ebeab0eca633d6f4"
        $ j files exists a/hello.txt --output json
        true
        $ j files exists nothing --output json
        false
        --- exit code 1
        $ j files copy os.img b.img --output json
        null
        $ j files rename b.img a/c.img --output json
        null
        $ j files create-dir d/ --output json
        null
        $ j files list / --output json
        "/"
        "a/"
        "d/"
        "os.img"
        $ j files scan a/ --output json
        "a/"
        "a/c.img"
        "a/hello.txt"
        $ j files get-created-resources --output json
        ["a/c.img","a/hello.txt","d","os.img"]
        $ j files register-path z --output json
        null
        $ j far presign-stat --expire-second 60 x.img --output json
        {"headers":{},"method":"HEAD","url":"http://127.0.0.1:9/a%20b/x.img"}
        $ j far presign-read --expire-second 60 x/y.img --output json
        {"headers":{},"method":"GET","url":"http://127.0.0.1:9/a%20b/x/y.img"}
        $ j far presign-write --expire-second 60 x.img --output json
        --- stderr
        {"error":"signing a request for x.img: a storage of the scheme `http` is only read","kind":"Unimplemented","hint":null}
        --- exit code 1
        $ j far list / --output json
        --- stderr
        {"error":"listing /: HTTP lists no files","kind":"Unimplemented","hint":null}
        --- exit code 1
        $ j files delete d/ --output json
        null
        $ j files remove-all a/ --output json
        null
        $ j files capability --output json
        {"blocking":false,"copy":true,"create_dir":true,"delete":true,"list":true,"list_with_limit":false,"list_with_recursive":true,"list_with_start_after":false,"presign":false,"presign_read":false,"presign_stat":false,"presign_write":false,"read":true,"read_with_if_match":false,"read_with_if_none_match":false,"read_with_override_cache_control":false,"read_with_override_content_disposition":false,"read_with_override_content_type":false,"rename":true,"shared":true,"stat":true,"stat_with_if_match":false,"stat_with_if_none_match":false,"write":true,"write_can_append":false,"write_can_empty":true,"write_can_multi":true,"write_multi_max_size":null,"write_multi_min_size":null,"write_total_max_size":null,"write_with_cache_control":false,"write_with_content_disposition":false,"write_with_content_type":false}
    "#);
}

#[tokio::test]
async fn files_in_memory() {
    let bench = bench().await;
    assert_snapshot!(session(&bench, "
        held write-bytes a/hello.txt
        held read-bytes a/hello.txt
        held hash a/hello.txt
        held copy a/hello.txt b
        held scan /
        held rename b c
        held presign-read --expire-second 60 b
        held write-from-path image s3://lab
        held write-from-path large large.img
        held call file_write x s3://lab/os.img
    ").await, @r#"
        $ j held write-bytes a/hello.txt
        --- stderr
        standard input: 6 B in TIME (RATE)
        $ j held read-bytes a/hello.txt
        typed
        --- stderr
        standard output: 6 B in TIME (RATE)
        $ j held hash a/hello.txt
        04af3840888d59214ae722512bb8cb2e0e7e5ecb530137a0ebeab0eca633d6f4
        $ j held copy a/hello.txt b
        --- stderr
        error: copying a/hello.txt to b: operation is not supported
        --- exit code 1
        $ j held scan /
        /
        a/hello.txt
        $ j held rename b c
        --- stderr
        error: renaming b to c: operation is not supported
        --- exit code 1
        $ j held presign-read --expire-second 60 b
        --- stderr
        error: signing a request for b: operation is not supported
        --- exit code 1
        $ j held write-from-path image s3://lab
        --- stderr
        error: the URL of an image in a bucket is s3://BUCKET/KEY
        --- exit code 1
        $ j held write-from-path large large.img
        --- stderr
        large.img: 4.00 MiB in TIME (RATE)
        $ j held call file_write x s3://lab/os.img
        --- stderr
        error: an image in a bucket is an argument of verbs only
        hint: use a verb, such as `flash` or `write`
        --- exit code 2
    "#);
}

#[tokio::test]
async fn a_device_fetches_over_http_what_clients_put() {
    let bench = bench().await;
    assert_snapshot!(session(&bench, "
        web get-url
        web get-port
        web get-host
        web put-file a/os.img os.img
        web put-file typed -
        web storage list /
        web stop
        web put-file b?c os.img --output json
        web start --output json
        web get-host --output json
    ").await, @r#"
        $ j web get-url
        http://127.0.0.1:0
        $ j web get-port
        0
        $ j web get-host
        127.0.0.1
        $ j web put-file a/os.img os.img
        --- stderr
        os.img: 292.97 KiB in TIME (RATE)
        it has no URL before the server is started
        $ j web put-file typed -
        --- stderr
        standard input: 6 B in TIME (RATE)
        it has no URL before the server is started
        $ j web storage list /
        /
        a/
        typed
        $ j web stop
        $ j web put-file b?c os.img --output json
        {"url":null,"file":"os.img","bytes":300000,"seconds":"SECONDS","bytes_per_second":"RATE"}
        $ j web start --output json
        null
        $ j web get-host --output json
        "127.0.0.1"
    "#);
    let url = bench.j(&["web", "put-file", "b c", "os.img", "--output", "json"]).await;
    let url = serde_json::from_str::<serde_json::Value>(&url).unwrap()["url"].clone();
    let url = url.as_str().unwrap().to_owned();
    assert!(url.ends_with("/b%20c") && !url.contains(":0/"), "{url}");
    let fetch =
        Command::new(crate::terminal::J).args(["files", "write-from-path", "fetched", &url]);
    let fetched = bench.run(fetch.env("JUMPSTARTER_HOST", &bench.host)).await;
    assert!(!fetched.contains("exit code"), "{fetched}");
    assert_eq!(std::fs::read(bench.lab.path("files/fetched")).unwrap(), vec![7; 300_000]);
    assert_eq!(bench.j(&["web", "stop", "--output", "json"]).await, "null\n");
    assert_eq!(bench.j(&["web", "get-port", "--output", "json"]).await, "0\n");
}

#[tokio::test]
async fn a_device_fetches_over_tftp_what_clients_put() {
    let bench = bench().await;
    assert_snapshot!(session(&bench, "
        boot get-host
        boot get-port --output json
        boot put-file a/typed -
        boot storage scan /
        boot stop
        boot start --output json
        boot start
    ").await, @r#"
        $ j boot get-host
        127.0.0.1
        $ j boot get-port --output json
        0
        $ j boot put-file a/typed -
        --- stderr
        standard input: 6 B in TIME (RATE)
        it has no URL before the server is started
        $ j boot storage scan /
        /
        a/
        a/typed
        $ j boot stop
        $ j boot start --output json
        null
        $ j boot start
    "#);
    let port: u16 =
        bench.j(&["boot", "get-port", "--output", "json"]).await.trim().parse().unwrap();
    let printed = bench.j(&["boot", "put-file", "/os.img", "os.img"]).await;
    assert!(printed.contains(&format!("tftp://127.0.0.1:{port}/os.img")), "{printed}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.send_to(b"\0\x01a/typed\0octet\0", ("127.0.0.1", port)).unwrap();
    let mut packet = [0; 600];
    let (length, from) = socket.recv_from(&mut packet).unwrap();
    assert_eq!(packet[..length], *b"\0\x03\0\x01typed\n");
    socket.send_to(b"\0\x04\0\x01", from).unwrap();
    assert_eq!(bench.j(&["boot", "stop", "--output", "json"]).await, "null\n");
}
