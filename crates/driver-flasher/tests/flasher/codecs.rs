//! Every codec: whole files of the real tools are taken, anything else is refused.

use crate::support::{Bench, image, tool};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{Compression, WriteOptions, write_image};

/// Each codec with the tool that makes it.
const TOOLS: [(Compression, &str, &[&str]); 8] = [
    (Compression::Gzip, "gzip", &[]),
    (Compression::Xz, "xz", &["-1"]),
    (Compression::Bzip2, "bzip2", &[]),
    (Compression::Zstd, "zstd", &["-q"]),
    (Compression::Lz4, "lz4", &["-q"]),
    (Compression::Lz4, "lz4", &["-q", "-B4", "-BD", "-BX", "--content-size"]),
    (Compression::Zstd, "zstd", &["-q", "--no-check", "--long=27"]),
    (Compression::Lz4, "lz4", &["-q", "--no-frame-crc"]),
];

async fn flash(bench: &Bench, bytes: &[u8]) -> Result<Vec<u8>> {
    let source = ImageSource::bytes(bytes.to_vec());
    write_image(source, &bench.disk(), WriteOptions::default()).await?;
    Ok(std::fs::read(bench.disk()).unwrap())
}

#[tokio::test]
async fn what_the_tools_write_is_read() {
    let bench = Bench::new();
    let plain = image(3 * 1024 * 1024 + 77);
    let file = bench.file("plain", &plain);
    for (compression, program, arguments) in TOOLS {
        let compressed = tool(program, arguments, &file);
        assert_eq!(Compression::detect(&compressed), compression);
        let path = bench.file("compressed", &compressed);
        let report = write_image(ImageSource::path(&path), &bench.disk(), WriteOptions::default())
            .await
            .unwrap();
        assert!(std::fs::read(bench.disk()).unwrap() == plain, "{program}");
        assert_eq!(report.compression, compression);
        assert_eq!(
            (report.bytes_read, report.bytes_written),
            (compressed.len() as u64, plain.len() as u64)
        );
        // Several members, as `cat a.gz b.gz` and the parallel compressors make them.
        let twice = [&compressed[..], &compressed[..]].concat();
        assert!(
            flash(&bench, &twice).await.unwrap() == [&plain[..], &plain[..]].concat(),
            "{program}, two members"
        );
    }
}

#[tokio::test]
async fn truncated_files_are_refused_at_every_offset() {
    let bench = Bench::new();
    let file = bench.file("plain", &image(200_000));
    for (_, program, arguments) in TOOLS {
        let compressed = tool(program, arguments, &file);
        // One byte may be some other, raw file.
        let offsets = (2..40)
            .chain((40..compressed.len()).step_by(compressed.len() / 40))
            .chain([compressed.len() - 1]);
        for offset in offsets {
            let error = flash(&bench, &compressed[..offset]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{program}, {offset} bytes: {error:?}");
            bench.assert_untouched();
        }
        // The second of two members.
        let twice = [&compressed[..], &compressed[..compressed.len() / 2]].concat();
        let error = flash(&bench, &twice).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{program}: {error:?}");
        bench.assert_untouched();
    }
}

#[tokio::test]
async fn flipped_bits_are_found() {
    let bench = Bench::new();
    let plain = image(150_000);
    let file = bench.file("plain", &plain);
    // Without its checksum zstd cannot find every flip.
    for (_, program, arguments) in &TOOLS[..6] {
        let compressed = tool(program, arguments, &file);
        for offset in (12..compressed.len()).step_by(compressed.len() / 60) {
            let mut damaged = compressed.clone();
            damaged[offset] ^= 0x10;
            match flash(&bench, &damaged).await {
                // A few header bits carry nothing that the image depends on.
                Ok(flashed) => assert!(flashed == plain, "{program}, bit in byte {offset}"),
                Err(error) => {
                    assert_eq!(
                        error.kind(),
                        ErrorKind::DataLoss,
                        "{program}, byte {offset}: {error:?}"
                    );
                    bench.assert_untouched();
                }
            }
            std::fs::write(bench.disk(), "old").unwrap();
        }
    }
}

#[tokio::test]
async fn trailing_garbage_is_refused_and_padding_is_not() {
    let bench = Bench::new();
    let plain = image(100_000);
    let file = bench.file("plain", &plain);
    for (_, program, arguments) in TOOLS {
        let compressed = tool(program, arguments, &file);
        for garbage in ["x", "some more text that is no image"] {
            let error =
                flash(&bench, &[&compressed, garbage.as_bytes()].concat()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{program}: {error:?}");
            bench.assert_untouched();
        }
    }
    for program in ["gzip", "xz", "bzip2"] {
        let padded = [&tool(program, &[], &file)[..], &[0; 512]].concat();
        let error = flash(&bench, &[&padded[..], b"x"].concat()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{program}: {error:?}");
        assert!(flash(&bench, &padded).await.unwrap() == plain, "{program}");
        std::fs::write(bench.disk(), "old").unwrap();
    }
}

#[tokio::test]
async fn windows_that_take_too_much_are_refused() {
    let bench = Bench::new();
    let plain = image(1 << 20);
    let file = bench.file("plain", &plain);
    // From a pipe, so that the size does not shrink the window.
    let script =
        format!("cat '{0}' | zstd -q -1 --single-thread --long=31 -c > '{0}.zst'", file.display());
    jumpstarter_supervise::run_blocking(
        jumpstarter_supervise::Command::new("sh").args(["-c", &script]),
        crate::support::DEADLINE,
    )
    .unwrap();
    let packed = std::fs::read(bench.path("plain.zst")).unwrap();
    let error = flash(&bench, &packed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(error.report().contains("JMP_DECODER_MEMORY=2048MiB"), "{error:?}");
    bench.assert_untouched();
}

#[tokio::test]
async fn nothing_is_no_image() {
    let bench = Bench::new();
    let empty = bench.file("empty", b"");
    let mut sources = vec![ImageSource::bytes(""), ImageSource::path(&empty)];
    for (_, program, arguments) in TOOLS {
        sources.push(ImageSource::bytes(tool(program, arguments, &empty)));
    }
    for source in sources {
        let error = write_image(source, &bench.disk(), WriteOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:?}");
        bench.assert_untouched();
    }
}

#[tokio::test]
async fn a_compressed_file_can_be_kept_as_it_is() {
    let bench = Bench::new();
    let compressed = tool("gzip", &[], &bench.file("plain", &image(5000)));
    let options = WriteOptions::default().compression(Compression::Raw);
    write_image(ImageSource::bytes(compressed.clone()), &bench.disk(), options).await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), compressed);
}

#[tokio::test]
async fn a_compression_bomb_stops_at_the_limit() {
    let bench = Bench::new();
    let compressed = tool("zstd", &["-q"], &bench.file("zeros", &vec![0; 8 << 20]));
    let options = WriteOptions::default().limit_bytes(1 << 20);
    let error =
        write_image(ImageSource::bytes(compressed), &bench.disk(), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    bench.assert_untouched();
}

#[tokio::test]
async fn android_sparse_images_are_expanded_also_inside_a_compression() {
    let bench = Bench::new();
    let sparse = include_bytes!("../../../codec/tests/foreign/image.simg");
    let packed = tool("gzip", &[], &bench.file("sparse", sparse));
    let flashed = flash(&bench, sparse).await.unwrap();
    assert_eq!(flashed.len(), 7 * 4096);
    assert!(flashed[4096..3 * 4096].chunks(4).all(|word| word == b"abcd"));
    assert!(flash(&bench, &packed).await.unwrap() == flashed);
    std::fs::write(bench.disk(), "old").unwrap();
    let error = flash(&bench, &sparse[..sparse.len() - 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:?}");
    bench.assert_untouched();
}
