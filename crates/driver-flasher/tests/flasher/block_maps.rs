//! Block maps of the real `bmaptool`.

use crate::devices::{Loop, ones};
use crate::support::{Bench, DEADLINE, tool};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{WriteOptions, WriteReport, write_image};
use jumpstarter_supervise::{Command, run_blocking};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;

/// An image of 4 MiB with data at both ends of its holes, and its map; `None` after a skip.
fn mapped(bench: &Bench) -> Option<(PathBuf, String)> {
    let path = bench.path("os.img");
    let file = std::fs::File::create(&path).unwrap();
    for (offset, length) in [(0, 70_000), (MIB, 300_000), (3 * MIB, MIB - 1000)] {
        let data: Vec<u8> = (0..length).map(|number| (number * 7 / 3) as u8 | 1).collect();
        file.write_all_at(&data, offset as u64).unwrap();
    }
    file.sync_all().unwrap();
    let map = bench.path("os.bmap");
    let create = Command::new("bmaptool").arg("create");
    match run_blocking(create.arg(&path).arg("-o").arg(&map), DEADLINE) {
        Ok(_) => Some((path, std::fs::read_to_string(map).unwrap())),
        Err(error) => {
            jumpstarter_driver_testkit::skip(&format!("bmaptool does not run: {error}"));
            None
        }
    }
}

async fn flash(source: ImageSource, to: &Path, map: &str) -> Result<WriteReport> {
    write_image(source.with_block_map(map), to, WriteOptions::default()).await
}

#[tokio::test]
async fn only_mapped_blocks_are_written() {
    let bench = Bench::new();
    let Some((path, map)) = mapped(&bench) else { return };
    let image = std::fs::read(&path).unwrap();
    let packed = tool("gzip", &[], &path);
    let backing = ones(&bench, 5);
    let Some(device) = Loop::new(&backing) else { return };
    for source in [
        ImageSource::path(&path),
        ImageSource::bytes(image.clone()),
        ImageSource::bytes(packed).verify(),
    ] {
        let whole = vec![0xff; 5 * MIB];
        std::fs::write(&device.path, &whole).unwrap();
        flash(source, device.path.as_ref(), &map).await.unwrap();
        let now = std::fs::read(&device.path).unwrap();
        assert!(
            now[..70_000] == image[..70_000] && now[3 * MIB..4 * MIB - 1000] == image[3 * MIB..]
        );
        // The rest of the image is discarded, and nothing behind it.
        let are = |range: std::ops::Range<usize>, value| now[range].iter().all(|it| *it == value);
        assert!(are(MIB / 2..MIB, 0) && are(2 * MIB..3 * MIB, 0) && are(4 * MIB..5 * MIB, 0xff));
        let stored = std::fs::metadata(&backing).unwrap().blocks() * 512;
        assert!(stored < 5 * MIB as u64 / 2 + 300_000, "{stored} bytes are stored");
    }
    // What bmaptool makes of it is the same, where the map names blocks.
    let ours = std::fs::read(&device.path).unwrap();
    std::fs::write(&device.path, vec![0xff; 5 * MIB]).unwrap();
    let copy = Command::new("bmaptool").args(["copy", "--bmap"]).arg(bench.path("os.bmap"));
    run_blocking(copy.arg(&path).arg(&device.path), DEADLINE).unwrap();
    let theirs = std::fs::read(&device.path).unwrap();
    for range in [0..70_000, MIB..MIB + 300_000, 3 * MIB..4 * MIB - 1000, 4 * MIB..5 * MIB] {
        assert!(ours[range.clone()] == theirs[range.clone()], "{range:?}");
    }
    // A file has holes there.
    let disk = bench.disk();
    flash(ImageSource::bytes(image.clone()), &disk, &map).await.unwrap();
    assert!(std::fs::read(&disk).unwrap() == image);
    assert!(std::fs::metadata(&disk).unwrap().blocks() * 512 < 2 << 20);
}

#[tokio::test]
async fn an_image_that_its_map_does_not_describe_is_no_success() {
    let bench = Bench::new();
    let Some((path, map)) = mapped(&bench) else { return };
    let image = std::fs::read(&path).unwrap();
    let check = async |image: Vec<u8>, expected: &str| {
        let error = flash(ImageSource::bytes(image), &bench.disk(), &map).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:?}");
        assert!(error.report().contains(expected), "{error:?}");
        bench.assert_untouched();
    };
    let mut damaged = image.clone();
    damaged[MIB + 77] ^= 1;
    check(damaged.clone(), "bytes 1048576 to 1351679 of the image are not those of its block map")
        .await;
    check(image[..image.len() - 1].to_vec(), "shorter than the 4193304 bytes").await;
    check([&image[..], b"x"].concat(), "longer than the 4193304 bytes").await;
    // What no range covers is not compared.
    let mut other = image.clone();
    other[MIB / 2] ^= 1;
    flash(ImageSource::bytes(other), &bench.disk(), &map).await.unwrap();
    let Some(device) = Loop::new(&ones(&bench, 4)) else { return };
    let torn = flash(ImageSource::bytes(damaged), device.path.as_ref(), &map).await.unwrap_err();
    assert!(torn.report().contains("is torn now"), "{torn:?}");
    let Some(small) = Loop::new(&bench.file("small", &vec![0xff; 3 * MIB])) else { return };
    let packed = tool("gzip", &[], &path);
    let error = flash(ImageSource::bytes(packed), small.path.as_ref(), &map).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(std::fs::read(&small.path).unwrap().iter().all(|byte| *byte == 0xff), "{error:?}");
}

#[tokio::test]
async fn a_damaged_map_is_refused_before_the_image_is_read() {
    let bench = Bench::new();
    let Some((_, map)) = mapped(&bench) else { return };
    let missing = ImageSource::path(bench.path("nowhere"));
    let error = flash(missing, &bench.disk(), &map.replace("256-", "255-")).await.unwrap_err();
    assert!(error.report().contains("reading the block map: its checksum is"), "{error:?}");
}
