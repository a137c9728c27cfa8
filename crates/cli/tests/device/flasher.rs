//! Verbs of flashers.

use insta::assert_snapshot;
use jumpstarter_supervise::{Input, run_unchecked};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::Bench;
use crate::terminal::DEADLINE;

/// An image that does not compress to nothing.
fn image() -> Vec<u8> {
    (0..300_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

async fn with_image() -> (Bench, Vec<u8>) {
    let (bench, image) = (Bench::everything().await, image());
    std::fs::write(bench.lab.path("os.img"), &image).unwrap();
    (bench, image)
}

#[tokio::test]
async fn a_file_there_and_back() {
    let (bench, image) = with_image().await;
    assert_snapshot!(bench.j(&["flasher", "flash", "os.img"]).await, @r"
    --- stderr
    os.img: 292.97 KiB in TIME (RATE)
    ");
    assert_snapshot!(bench.j(&["flasher", "dump", "back.img"]).await, @r"
    --- stderr
    image → back.img: 292.97 KiB in TIME (RATE)
    ");
    assert!(std::fs::read(bench.lab.path("back.img")).unwrap() == image);
}

#[tokio::test]
async fn json_summaries() {
    let (bench, _) = with_image().await;
    assert_snapshot!(bench.j(&["flasher", "flash", "os.img", "--output", "json"]).await, @r#"{"file":"os.img","target":null,"bytes":300000,"seconds":"SECONDS","bytes_per_second":"RATE"}"#);
    assert_snapshot!(bench.j(&["flasher", "dump", "back.img", "--output", "json"]).await, @r#"{"file":"back.img","target":null,"bytes":300000,"seconds":"SECONDS","bytes_per_second":"RATE"}"#);
    assert_snapshot!(bench.j(&["flasher", "dump", "no.img", "-t", "else", "--output", "json"]).await, @r#"
    --- stderr
    {"error":"nothing was flashed to `else`","kind":"NotFound","hint":"there are `default`"}
    --- exit code 1
    "#);
}

#[tokio::test]
async fn targets_with_their_files() {
    let (bench, image) = with_image().await;
    std::fs::write(bench.lab.path("bios.bin"), b"a small one").unwrap();
    let words = ["flasher", "flash", "-t", "root:os.img", "--target", "bios:bios.bin"];
    assert_snapshot!(bench.j(&words).await, @r"
    --- stderr
    os.img → root: 292.97 KiB in TIME (RATE)
    bios.bin → bios: 11 B in TIME (RATE)
    ");
    assert_snapshot!(bench.j(&["flasher", "dump", "root.img", "--target", "root"]).await, @r"
    --- stderr
    root → root.img: 292.97 KiB in TIME (RATE)
    ");
    assert!(std::fs::read(bench.lab.path("root.img")).unwrap() == image);
    assert_snapshot!(bench.j_with(&["flasher", "dump", "-", "-t", "bios"], b"").await, @r"
    a small one--- stderr
    bios → standard output: 11 B in TIME (RATE)
    ");
    assert_snapshot!(bench.j(&["flasher", "flash", "os.img", "-t", "data"]).await, @r"
    --- stderr
    os.img → data: 292.97 KiB in TIME (RATE)
    ");
    assert_snapshot!(bench.j(&["flasher", "flash", "os.img", "-t", "data:os.img"]).await, @r"
    --- stderr
    error: both FILE and --target NAME:FILE say what to flash
    hint: give FILE and --target NAME, or --target NAME:FILE for each image
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["flasher", "flash", "-t", "data"]).await, @r"
    --- stderr
    error: `data` is no target with its image
    hint: write NAME:FILE
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["flasher", "flash"]).await, @r"
    --- stderr
    error: the following required arguments were not provided:
      <FILE>

    Usage: j flasher flash <FILE>

    For more information, try '--help'.
    --- exit code 2
    ");
}

#[tokio::test]
async fn compressed_dumps_are_smaller_and_flash_again() {
    let (bench, image) = with_image().await;
    bench.j(&["flasher", "flash", "os.img"]).await;
    for format in ["gzip", "xz", "bz2", "zstd"] {
        let name = format!("os.img.{format}");
        let dumped = bench.j(&["flasher", "dump", &name, "--compression", format]).await;
        assert!(dumped.contains("exit code").eq(&false), "{dumped}");
        assert!(std::fs::read(bench.lab.path(&name)).unwrap() != image, "{format}");
        let kept = std::fs::read(bench.lab.path(&name)).unwrap();
        // Decompressed on its way; or, by this flasher, kept as it is.
        for (options, expected) in [(["--compression", format].as_slice(), &image), (&[], &kept)] {
            let words: Vec<&str> =
                ["flasher", "flash", &name, "-t", format].iter().chain(options).copied().collect();
            let flashed = bench.j(&words).await;
            assert!(!flashed.contains("exit code"), "{flashed}");
            bench.j(&["flasher", "dump", "back.img", "-t", format]).await;
            assert!(
                std::fs::read(bench.lab.path("back.img")).unwrap() == *expected,
                "{format} {options:?}"
            );
        }
    }
    assert_snapshot!(bench.j(&["flasher", "flash", "os.img", "--compression", "lz4"]).await, @r"
    --- stderr
    error: invalid value 'lz4' for '--compression <FORMAT>'
      [possible values: gzip, xz, bz2, zstd]

    For more information, try '--help'.
    --- exit code 2
    ");
}

#[tokio::test]
async fn standard_streams() {
    let (bench, image) = with_image().await;
    assert_snapshot!(bench.j_with(&["flasher", "flash", "-"], &image).await, @r"
    --- stderr
    standard input: 292.97 KiB in TIME (RATE)
    ");
    let output = run_unchecked(bench.command(&["flasher", "dump", "-"]), DEADLINE).await.unwrap();
    assert!(output.stdout == image && output.status.success(), "{}", output.stderr);
}

#[tokio::test]
async fn a_url() {
    let (bench, image) = with_image().await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/images/os.img?Signature=secret", server.local_addr().unwrap());
    let body = image.clone();
    let serving = tokio::spawn(async move {
        loop {
            let (mut client, _) = server.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = client.read(&mut request).await.unwrap();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            client.write_all(head.as_bytes()).await.unwrap();
            if request[..count].starts_with(b"GET") {
                client.write_all(&body).await.unwrap();
            }
            client.shutdown().await.ok();
        }
    });
    assert_snapshot!(bench.j(&["flasher", "flash", &url]).await, @r"
    --- stderr
    os.img: 292.97 KiB in TIME (RATE)
    ");
    bench.j(&["flasher", "dump", "back.img"]).await;
    assert!(std::fs::read(bench.lab.path("back.img")).unwrap() == image);
    serving.abort();
}

#[tokio::test]
async fn a_digest_must_fit() {
    let (bench, _) = with_image().await;
    let wrong = "0".repeat(64);
    assert_snapshot!(bench.j(&["flasher", "flash", "os.img", "--sha256", &wrong]).await, @r"
    --- stderr
    error: calling `flash`: sending os.img to the exporter at s: its SHA-256 is 10e5ea249ba15cf9da0925b29f6caca069e088f63eec3521e5560c1a0394058a, not 0000000000000000000000000000000000000000000000000000000000000000
    hint: compare the digest with the downloaded file, before decompression: the download is damaged, or is another file
    --- exit code 1
    ");
    assert_snapshot!(bench.j(&["flasher", "flash", "os.img", "--sha256", "12"]).await, @r"
    --- stderr
    error: `12` is no SHA-256
    hint: a SHA-256 is 64 hexadecimal digits, as `sha256sum FILE` prints first
    --- exit code 2
    ");
}

#[tokio::test]
async fn a_file_that_is_not_there() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["flasher", "flash", "no.img"]).await, @r"
    --- stderr
    error: opening the image no.img: No such file or directory (os error 2)
    --- exit code 1
    ");
    assert_snapshot!(bench.j(&["flasher", "dump", "no/such/folder/back.img"]).await, @r"
    --- stderr
    error: making a temporary file beside no/such/folder/back.img: No such file or directory (os error 2)
    --- exit code 1
    ");
}

#[tokio::test]
async fn progress_without_a_terminal_is_plain_lines() {
    let (bench, _) = with_image().await;
    // A pipe that feeds slowly, until the line after the first interval is there.
    let script = "until grep -qs ' after ' said; do head -c 100000 os.img || exit; sleep 0.2; done
                  cat os.img";
    let flash = format!("{} flasher flash - 2> said", crate::terminal::J);
    let feed = format!("({script}) | {flash}; code=$?; cat said >&2; exit $code");
    let command = crate::lab::clean(jumpstarter_supervise::Command::new("/bin/sh"))
        .args(["-c", &feed])
        .env("JUMPSTARTER_HOST", &bench.host)
        .current_dir(bench.lab.folder())
        .stdin(Input::Null);
    let text = bench.run(command).await;
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    let (line, rest) =
        text.split_once("\nstandard input: ").map(|(line, rest)| (line.to_owned(), rest)).unwrap();
    assert!(line.starts_with("--- stderr"), "{text}");
    assert!(rest.contains(" after ") && rest.contains("/s"), "{text}");
}

#[tokio::test]
async fn what_looks_like_no_image_is_refused_by_name() {
    let bench =
        Bench::of("export: {flasher: {type: file-flasher, config: {path: disk.img}}}").await;
    std::fs::write(bench.lab.path("os.zip"), b"PK\x03\x04 and so on").unwrap();
    assert_snapshot!(bench.j(&["flasher", "flash", "os.zip"]).await, @r"
    --- stderr
    error: writing the client's image to disk.img: the client's image is a zip archive, not an image; nothing was written
    hint: unpack it first: `unzip FILE`, and flash the image in it; a flasher with `decompress: false` in the exporter file writes it as it is
    --- exit code 1
    ");
    assert!(!bench.lab.path("disk.img").exists());
}

#[tokio::test]
async fn several_images_are_looked_at_before_the_first_is_written() {
    let bench = Bench::of("export: {flasher: {type: file-flasher, config: {folder: .}}}").await;
    std::fs::write(bench.lab.path("boot.in"), b"boot").unwrap();
    let words = ["flasher", "flash", "-t", "boot:boot.in", "-t"];
    for (last, expected) in [
        ("root:missing.in", "nothing was written"),
        ("root:.", "it is a folder"),
        ("boot:boot.in", "the target `boot` is named twice"),
    ] {
        let said = bench.j(&[&words[..], &[last]].concat()).await;
        assert!(said.contains(expected), "{said}");
        assert!(!bench.lab.path("boot").exists(), "{said}");
    }
    std::fs::write(bench.lab.path("root.in"), b"root").unwrap();
    bench.j(&[&words[..], &["root:root.in"]].concat()).await;
    assert_eq!(std::fs::read(bench.lab.path("root")).unwrap(), b"root");
    assert_eq!(std::fs::read(bench.lab.path("boot")).unwrap(), b"boot");
}

#[tokio::test]
async fn several_targets_are_known_before_the_first_is_written() {
    let config = "{targets: {boot: boot.out, root: root.out}, flash_limit: 1M}";
    let bench =
        Bench::of(&format!("export: {{flasher: {{type: file-flasher, config: {config}}}}}")).await;
    std::fs::write(bench.lab.path("boot.in"), b"boot").unwrap();
    std::fs::write(bench.lab.path("large.in"), vec![1; 1 << 21]).unwrap();
    // The target is refused first: the missing file is not looked for.
    let words = ["flasher", "flash", "-t", "boot=boot.in", "-t"];
    assert_snapshot!(bench.j(&[&words[..], &["rot=missing.in"]].concat()).await, @r"
    --- stderr
    error: nothing was written: there is no target `rot`
    hint: did you mean `root`? There are `boot` and `root`
    --- exit code 1
    ");
    assert_snapshot!(bench.j(&[&words[..], &["root=large.in"]].concat()).await, @r"
    --- stderr
    error: nothing was written: large.in needs 2 MiB, and the target `root` has 1 MiB
    hint: flash a smaller image, or use a larger target
    --- exit code 1
    ");
    assert!(!bench.lab.path("boot.out").exists());
    let said = bench.j(&[&words[..], &["root:boot.in"]].concat()).await;
    assert!(!said.contains("exit code"), "{said}");
    for name in ["boot.out", "root.out"] {
        assert_eq!(std::fs::read(bench.lab.path(name)).unwrap(), b"boot");
    }
}

#[tokio::test]
async fn a_folder_of_images_onto_a_folder_of_partitions() {
    let bench =
        Bench::of("export: {flasher: {type: file-flasher, config: {folder: partitions}}}").await;
    let (images, partitions) = (bench.lab.path("images"), bench.lab.path("partitions"));
    std::fs::create_dir(&images).unwrap();
    std::fs::create_dir(&partitions).unwrap();
    for name in ["boot.img", "rootfs", "data.img"] {
        std::fs::write(partitions.join(name), "old").unwrap();
    }
    std::fs::write(images.join("rootfs.img"), "new root").unwrap();
    let gzip = jumpstarter_supervise::Command::new("gzip").arg("-n").arg(images.join("rootfs.img"));
    run_unchecked(gzip, DEADLINE).await.unwrap();
    std::fs::write(images.join("boot.img"), "new boot").unwrap();
    std::fs::write(images.join(".hidden"), "x").unwrap();
    let read = |name: &str| std::fs::read_to_string(partitions.join(name)).unwrap();
    // One file that fits nowhere, or two for one target, and nothing is written.
    for (name, expected) in [
        ("bot.bin", "bot.bin is named after no target"),
        ("rootfs.img", "both rootfs.img and rootfs.img.gz are for the target `rootfs`"),
    ] {
        std::fs::write(images.join(name), "more").unwrap();
        let said = bench.j(&["flasher", "flash", "images"]).await;
        assert!(said.contains(expected) && said.contains("nothing was written"), "{said}");
        assert!(said.contains("exit code 1") && read("boot.img") == "old", "{said}");
        std::fs::remove_file(images.join(name)).unwrap();
    }
    assert_snapshot!(bench.j(&["flasher", "flash", "images/"]).await, @r"
    --- stderr
    boot.img → boot.img: 8 B in TIME (RATE)
    rootfs.img.gz → rootfs: 28 B in TIME (RATE)
    ");
    assert_eq!((read("boot.img"), read("rootfs")), ("new boot".to_owned(), "new root".to_owned()));
    assert_eq!(read("data.img"), "old");
    assert_snapshot!(bench.j(&["flasher", "flash", "images", "-t", "boot"]).await, @r"
    --- stderr
    error: a target for a folder of images
    hint: name its file: --target NAME:FILE
    --- exit code 2
    ");
}

/// The map of an image of two blocks, `a` 4096 times and a hole.
const MAP: &str = r#"<bmap version="2.0"><ImageSize>8192</ImageSize><BlockSize>4096</BlockSize><BlocksCount>2</BlocksCount><MappedBlocksCount>1</MappedBlocksCount><ChecksumType>sha256</ChecksumType>
<BmapFileChecksum>b598e6b539669b87e1a76c66ffa5896472495b9de089b0eaee34702578354beb</BmapFileChecksum>
<BlockMap><Range chksum="c93eee2d0db02f10acc7460d9576e122dcf8cd53c4bf8dfcae1b3e74ebcfff5a">0</Range></BlockMap></bmap>
"#;

#[tokio::test]
async fn a_block_map_beside_the_image_is_used_and_each_flash_can_be_verified() {
    let bench = Bench::of(
        "
metadata: {name: lab}
export:
  disk: {type: file-flasher, config: {path: disk.img}}
",
    )
    .await;
    let image = [vec![b'a'; 4096], vec![0; 4096]].concat();
    std::fs::write(bench.lab.path("os.img"), &image).unwrap();
    std::fs::write(bench.lab.path("os.bmap"), MAP).unwrap();
    let said = bench.j(&["disk", "flash", "os.img", "--verify"]).await;
    assert!(said.contains("using the block map os.bmap"), "{said}");
    assert_eq!(std::fs::read(bench.lab.path("disk.img")).unwrap(), image, "{said}");
    // What the map does not describe is no success, and changes nothing.
    std::fs::write(bench.lab.path("os.img"), [vec![b'b'; 4096], vec![0; 4096]].concat()).unwrap();
    for options in [&[][..], &["--bmap", "os.bmap"]] {
        let said = bench.j(&[&["disk", "flash", "os.img"], options].concat()).await;
        assert!(said.contains("bytes 0 to 4095") && said.contains("exit code 1"), "{said}");
        assert_eq!(std::fs::read(bench.lab.path("disk.img")).unwrap(), image);
    }
    let said = bench.j(&["disk", "flash", "os.img", "--no-bmap"]).await;
    assert!(!said.contains("exit code"), "{said}");
    assert_eq!(std::fs::read(bench.lab.path("disk.img")).unwrap()[0], b'b');
    let said = bench.j(&["disk", "flash", "os.img", "--bmap", "none.bmap"]).await;
    assert!(said.contains("reading the block map none.bmap"), "{said}");
}

#[tokio::test]
async fn a_block_map_beside_a_url_is_used() {
    let bench = Bench::of("export: {disk: {type: file-flasher, config: {path: disk.img}}}").await;
    let image = [vec![b'a'; 4096], vec![0; 4096]].concat();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a", server.local_addr().unwrap());
    let other = [vec![b'b'; 4096], vec![0; 4096]].concat();
    let body = image.clone();
    let (asked, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        loop {
            let (mut client, _) = server.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = client.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = match path.as_str() {
                "/a/os.img" | "/a/plain.img" => ("200 OK", body.as_slice()),
                "/a/other.img" => ("200 OK", other.as_slice()),
                "/a/os.bmap" | "/a/other.img.bmap" => ("200 OK", MAP.as_bytes()),
                // A page in the place of an error is no map.
                "/a/plain.img.bmap" => ("200 OK", &b"<html>not here</html>"[..]),
                _ => ("404 Not Found", &b""[..]),
            };
            asked.send(path).unwrap();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            client.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        }
    });
    let said = bench.j(&["disk", "flash", &format!("{url}/os.img")]).await;
    assert!(said.contains("using the block map os.bmap; --no-bmap ignores it"), "{said}");
    assert_eq!(std::fs::read(bench.lab.path("disk.img")).unwrap(), image, "{said}");
    let mut paths = Vec::new();
    while let Ok(path) = requests.try_recv() {
        paths.push(path);
    }
    assert_eq!(paths, ["/a/os.img.bmap", "/a/os.bmap", "/a/os.img"]);
    // It is checked, as one beside a file.
    let said = bench.j(&["disk", "flash", &format!("{url}/other.img")]).await;
    assert!(said.contains("bytes 0 to 4095") && said.contains("exit code 1"), "{said}");
    // Neither a page, nor one for a signed URL, nor one that is not wanted.
    for (name, options) in [("plain.img", &[][..]), ("os.img?a=b", &[]), ("os.img", &["--no-bmap"])]
    {
        let url = format!("{url}/{name}");
        let said = bench.j(&[&["disk", "flash", url.as_str()], options].concat()).await;
        let is_other = name.contains('?');
        assert!(!said.contains("block map") && (is_other || !said.contains("exit code")), "{said}");
    }
    serving.abort();
}
