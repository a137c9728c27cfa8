//! Pictures from servers that the test is: the ways to log in, the encodings, and servers that do
//! not keep to the protocol.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use jumpstarter_driver_core::{Channel, ErrorKind, Framing, Result, Secret};
use jumpstarter_screen::{Picture, Screen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const WIDTH: u16 = 70;
const HEIGHT: u16 = 66;

/// What a server says, in pieces; it waits for so many bytes of the client before each.
type Script = Vec<(usize, Vec<u8>)>;

/// The beginning of a connection, without a password.
fn greeting() -> Script {
    let mut screen = [WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat();
    screen.extend([0; 16]);
    screen.extend([0, 0, 0, 3]);
    screen.extend(b"lab");
    vec![
        (0, b"RFB 003.008\n".to_vec()),
        (12, vec![1, 1]),
        (1, vec![0, 0, 0, 0]),
        (1, screen),
        // The wishes and the request for a picture.
        (4 + 16 + 4 + 16 + 10, Vec::new()),
    ]
}

/// A message with one rectangle.
fn rectangle(place: [u16; 4], encoding: i32, data: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 1];
    message.extend(place.iter().flat_map(|number| number.to_be_bytes()));
    message.extend(encoding.to_be_bytes());
    message.extend(data);
    message
}

fn colour(x: u16, y: u16) -> u32 {
    u32::from_be_bytes([0, (x * 3 % 256) as u8, (y * 2 % 256) as u8, ((x / 8 + y / 8) % 2) as u8])
}

fn expected() -> Vec<u32> {
    (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| colour(x, y))).collect()
}

fn raw() -> Vec<u8> {
    let pixels = expected().into_iter().flat_map(|pixel| (pixel | 0xaa00_0000).to_le_bytes());
    rectangle([0, 0, WIDTH, HEIGHT], 0, &pixels.collect::<Vec<u8>>())
}

/// Looks at a server that follows the script, and then leaves.
async fn look(script: Script, password: Option<&str>) -> Result<Picture> {
    let (ours, theirs) = Channel::pair(Framing::Bytes);
    let server = tokio::spawn(async move {
        let mut io = theirs.into_io().unwrap();
        for (wanted, answer) in script {
            let mut heard = vec![0; wanted];
            if io.read_exact(&mut heard).await.is_err() || io.write_all(&answer).await.is_err() {
                return;
            }
        }
    });
    let password = password.map(Secret::new);
    let looking = async { Screen::open(ours, password.as_ref()).await?.snapshot().await };
    let found = tokio::time::timeout(Duration::from_secs(20), looking).await.unwrap();
    server.await.unwrap();
    found
}

fn with(mut script: Script, more: Vec<u8>) -> Script {
    script.push((0, more));
    script
}

#[tokio::test]
async fn raw_pixels_are_a_picture() {
    let picture = look(with(greeting(), raw()), None).await.unwrap();
    assert_eq!((picture.width(), picture.height()), (WIDTH, HEIGHT));
    assert_eq!(picture.pixels(), expected());
}

#[tokio::test]
async fn other_messages_and_a_new_size_come_between() {
    let mut first = vec![2, 3, 0, 0, 0, 0, 0, 0, 2];
    first.extend(b"hi");
    first.extend([1, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9]);
    first.extend(rectangle([0, 0, 4, 2], -223, &[]));
    let mut script = with(greeting(), first);
    // Half of the screen, and the other half as a copy of the first.
    let half: Vec<u8> = (0..4).flat_map(|x: u8| [x, 2, 1, 0]).collect();
    script.push((10, rectangle([0, 0, 4, 1], 0, &half)));
    script.push((10, rectangle([0, 1, 4, 1], 1, &[0, 0, 0, 0])));
    let picture = look(script, None).await.unwrap();
    assert_eq!((picture.width(), picture.height()), (4, 2));
    let row = [0x01_02_00, 0x01_02_01, 0x01_02_02, 0x01_02_03];
    assert_eq!(picture.pixels(), [row, row].concat());
}

#[tokio::test]
async fn every_kind_of_zrle_tile_is_read() {
    // The tiles of a screen of 70 by 66 are 64x64, 6x64, 64x2 and 6x2.
    let mut plain = vec![1, 3, 2, 1];
    plain.push(128);
    plain.extend([[7, 8, 9].as_slice(), &[255, 128]].concat());
    plain.push(130);
    plain.extend([1, 1, 1, 2, 2, 2]);
    plain.extend([0, 0x81, 126]);
    plain.push(3);
    plain.extend([1, 0, 0, 2, 0, 0, 3, 0, 0]);
    plain.extend([0b00_01_10_00, 0b01_10_00_00, 0b10_10_10_10, 0b00_00_00_00]);
    let send = |plain: &[u8]| {
        let mut deflater = flate2::Compress::new(flate2::Compression::default(), true);
        let mut deflated = Vec::with_capacity(4096);
        let flush = flate2::FlushCompress::Sync;
        deflater.compress_vec(plain, &mut deflated, flush).unwrap();
        let data = [&(deflated.len() as u32).to_be_bytes(), &deflated[..]].concat();
        rectangle([0, 0, WIDTH, HEIGHT], 16, &data)
    };
    let picture = look(with(greeting(), send(&plain)), None).await.unwrap();
    let at = |x, y| picture.pixel(x, y).unwrap();
    assert_eq!((at(0, 0), at(63, 63)), (0x01_02_03, 0x01_02_03));
    assert_eq!((at(64, 0), at(69, 63)), (0x09_08_07, 0x09_08_07));
    assert_eq!((at(0, 64), at(1, 64), at(63, 65)), (0x01_01_01, 0x02_02_02, 0x02_02_02));
    let last: Vec<u32> =
        (64..66).flat_map(|y| (64..70).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect();
    assert_eq!(last, [1, 2, 3, 1, 2, 3, 3, 3, 3, 3, 1, 1]);

    let refused = async |plain: &[u8], why: &str| {
        let error = look(with(greeting(), send(plain)), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:#}");
        assert!(format!("{error:#}").contains(why), "{error:#}");
    };
    refused(&[17], "a tile is of the unknown kind 17").await;
    refused(&[2, 0, 0], "a tile is cut off").await;
    refused(
        &[
            128, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
            255, 255, 255, 255, 1,
        ],
        "a run is longer than its tile",
    )
    .await;
    refused(&[131, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], "a colour is not in its palette").await;
    refused(&vec![0; 4 << 20], "expands beyond its pixels").await;
}

#[tokio::test]
async fn passwords_and_older_versions() {
    let screen = greeting().swap_remove(3);
    let wishes = (4 + 16 + 4 + 16 + 10, raw());
    let asked = |version: &[u8], verdict: Vec<u8>| {
        let mut script = vec![(0, version.to_vec()), (12, vec![2, 1, 2]), (1, vec![9; 16])];
        script.extend([(16, verdict), screen.clone(), wishes.clone()]);
        script
    };
    let right = vec![0, 0, 0, 0];
    assert!(look(asked(b"RFB 003.008\n", right.clone()), Some("hush")).await.is_ok());
    assert!(look(asked(b"RFB 003.889\n", right.clone()), Some("hush")).await.is_ok());
    assert!(look(asked(b"RFB 003.007\n", right.clone()), Some("hush")).await.is_ok());
    let wrong = [&[0, 0, 0, 1, 0, 0, 0, 5][..], b"wrong"].concat();
    let error = look(asked(b"RFB 003.008\n", wrong), Some("hush")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(
        format!("{error:#}"),
        "connecting to the screen: the VNC server refuses the login: wrong"
    );

    let only = vec![(0, b"RFB 003.008\n".to_vec()), (12, vec![1, 2])];
    let error = look(only, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(format!("{error:#}").contains("asks for a password"), "{error:#}");
    let other = vec![(0, b"RFB 003.008\n".to_vec()), (12, vec![1, 19])];
    assert_eq!(look(other, None).await.unwrap_err().kind(), ErrorKind::Unimplemented);
    let none = vec![(0, b"RFB 003.008\n".to_vec()), (12, b"\0\0\0\0\x08too many".to_vec())];
    let error = look(none, None).await.unwrap_err();
    assert!(format!("{error:#}").contains("refuses the connection: too many"), "{error:#}");

    // The server decides, and there is no result without a login.
    let old = vec![(0, b"RFB 003.003\n".to_vec()), (12, vec![0, 0, 0, 1]), screen, wishes];
    assert!(look(old, None).await.is_ok());
}

#[tokio::test]
async fn what_is_no_screen_is_refused() {
    let check = async |script: Script, kind: ErrorKind, why: &str| {
        let error = look(script, None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:#}");
        assert!(format!("{error:#}").contains(why), "{error:#}");
    };
    let refused = ErrorKind::FailedPrecondition;
    check(vec![(0, b"SSH-2.0-OpenSSH_9\r\n".to_vec())], refused, "it does not speak VNC").await;
    check(Vec::new(), ErrorKind::Unavailable, "the VNC server ended the connection").await;
    check(greeting(), ErrorKind::Unavailable, "the VNC server ended the connection").await;
    let mut huge = greeting();
    huge[3].1[..4].copy_from_slice(&[0xff; 4]);
    check(huge, ErrorKind::ResourceExhausted, "65535 by 65535 pixels").await;
    let beyond = rectangle([1, 0, WIDTH, 1], 0, &[]);
    check(with(greeting(), beyond), ErrorKind::DataLoss, "beyond the screen").await;
    let beyond = rectangle([0, 0, 1, 1], 1, &[0, 70, 0, 0]);
    check(with(greeting(), beyond), ErrorKind::DataLoss, "beyond the screen").await;
    check(with(greeting(), vec![9]), ErrorKind::DataLoss, "message 9 is unknown").await;
    let unasked = rectangle([0, 0, 1, 1], 5, &[]);
    check(with(greeting(), unasked), ErrorKind::DataLoss, "encoding 5 was not asked for").await;
    let long = rectangle([0, 0, 1, 1], 16, &[0xff; 4]);
    check(with(greeting(), long), ErrorKind::DataLoss, "too long").await;
    let empty = rectangle([0, 0, 0, 0], -223, &[]);
    check(with(greeting(), empty), ErrorKind::Unavailable, "").await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_picture_ends_the_connection() {
    let (ours, theirs) = Channel::pair(Framing::Bytes);
    let server = tokio::spawn(async move {
        let mut io = theirs.into_io().unwrap();
        for (wanted, answer) in greeting() {
            let mut heard = vec![0; wanted];
            io.read_exact(&mut heard).await.unwrap();
            io.write_all(&answer).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let mut screen = Screen::open(ours, None).await.unwrap();
    assert_eq!(screen.name(), "lab");
    assert_eq!(screen.snapshot().await.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(screen.snapshot().await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    server.abort();
}

/// Anything that a server may send instead: no panic, no endless wait, no memory beyond the
/// screen.
#[tokio::test]
async fn damaged_servers_are_errors_or_pictures() {
    let mut random = fastrand::Rng::with_seed(7);
    let data: Vec<u8> = (0..60).map(|_| random.u8(..)).collect();
    let zrle = rectangle([0, 0, WIDTH, HEIGHT], 16, &[&[0, 0, 0, 60], &data[..]].concat());
    for round in 0..4000 {
        let mut script = greeting();
        let message = if round % 2 == 0 { raw() } else { zrle.clone() };
        script.push((0, message));
        for _ in 0..random.usize(1..6) {
            let piece = random.usize(..script.len());
            let bytes = &mut script[piece].1;
            if bytes.is_empty() {
                continue;
            }
            // The beginnings hold the lengths.
            let place = random.usize(..bytes.len().min(24));
            bytes[place] = random.u8(..);
        }
        // Waiting for what a confused client does not send would take until the time limit.
        let script = vec![(0, script.into_iter().flat_map(|(_, bytes)| bytes).collect())];
        if let Ok(picture) = look(script, None).await {
            assert!(picture.pixels().len() <= 7680 * 4320);
        }
    }
}
