//! Channels in memory and over real sockets.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::error::ErrorKind;

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("it should not take this long")
}

fn socket_pair() -> (Channel, Channel) {
    let (left, right) = UnixStream::pair().unwrap();
    let channel = |socket: UnixStream| {
        let (reader, writer) = socket.into_split();
        Channel::from_split(reader, writer)
    };
    (channel(left), channel(right))
}

#[tokio::test]
async fn half_close_leaves_the_other_direction_open() {
    for (mut left, mut right) in [Channel::pair(Framing::Bytes), socket_pair()] {
        left.send("question").await.unwrap();
        left.finish().await.unwrap();
        left.finish().await.unwrap();
        assert_eq!(left.send("late").await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(within(right.receive()).await.unwrap().unwrap(), "question");
        assert_eq!(within(right.receive()).await.unwrap(), None);
        assert_eq!(within(right.receive()).await.unwrap(), None);
        right.send("answer").await.unwrap();
        assert_eq!(within(left.receive()).await.unwrap().unwrap(), "answer");
        drop(right);
        assert_eq!(within(left.receive()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn dropping_a_writer_ends_its_direction_only() {
    for (left, right) in [Channel::pair(Framing::Bytes), socket_pair()] {
        let (mut left_reader, left_writer) = left.split();
        let (mut right_reader, mut right_writer) = right.split();
        drop(left_writer);
        assert_eq!(within(right_reader.receive()).await.unwrap(), None);
        right_writer.send("on").await.unwrap();
        assert_eq!(within(left_reader.receive()).await.unwrap().unwrap(), "on");
    }
}

#[tokio::test]
async fn a_slow_reader_makes_the_writer_wait_and_loses_nothing() {
    let (mut left, mut right) = Channel::pair(Framing::Bytes);
    for index in 0..PAIR_FRAMES {
        left.send(vec![index as u8]).now_or_never().expect("there is room").unwrap();
    }
    assert!(left.send("too much").now_or_never().is_none());
    for index in 0..PAIR_FRAMES {
        assert_eq!(right.receive().await.unwrap().unwrap(), vec![index as u8]);
    }
    left.send("room again").now_or_never().expect("there is room").unwrap();
    assert_eq!(right.receive().await.unwrap().unwrap(), "room again");
}

#[tokio::test]
async fn a_cancelled_send_to_a_full_socket_keeps_the_order() {
    let (mut left, right) = socket_pair();
    let mut sent = 0;
    while left.send(vec![1; 100_000]).now_or_never().is_some() {
        sent += 100_000;
    }
    sent += 100_000; // The cancelled send was accepted, and partly sent.
    let mut right = right.into_io().unwrap();
    let mut all = Vec::new();
    let (result, ()) = within(async {
        tokio::join!(right.read_to_end(&mut all), async {
            left.send("end").await.unwrap();
            left.finish().await.unwrap();
        })
    })
    .await;
    assert_eq!(result.unwrap(), sent + 3);
    assert!(all[..sent].iter().all(|byte| *byte == 1) && all.ends_with(b"end"));
}

#[tokio::test]
async fn sending_fails_when_nobody_can_receive() {
    for (mut left, right) in [Channel::pair(Framing::Bytes), socket_pair()] {
        drop(right);
        assert_eq!(left.send("lost").await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_full_channel_fails_at_once_when_its_reader_goes() {
    let (mut left, right) = Channel::pair(Framing::Datagrams);
    let filling = async { while left.send("x").await.is_ok() {} };
    within(async { tokio::join!(filling, async { drop(right) }) }).await;
}

#[tokio::test]
async fn datagrams_stay_as_they_are() {
    let (mut left, mut right) = Channel::pair(Framing::Datagrams);
    for frame in ["a", "", "bc"] {
        left.send(frame).await.unwrap();
    }
    left.send(vec![7; 200_000]).await.unwrap();
    left.finish().await.unwrap();
    for frame in ["a", "", "bc"] {
        assert_eq!(right.receive().await.unwrap().unwrap(), frame);
    }
    assert_eq!(right.receive().await.unwrap().unwrap().len(), 200_000);
    assert_eq!(right.receive().await.unwrap(), None);
    assert_eq!(left.into_io().unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn an_empty_frame_is_not_the_end_of_the_view() {
    let (mut left, right) = Channel::pair(Framing::Bytes);
    for frame in ["", "one", "", "two"] {
        left.send(frame).await.unwrap();
    }
    left.finish().await.unwrap();
    let mut text = String::new();
    right.into_io().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "onetwo");
}

#[tokio::test]
async fn the_view_writes_and_half_closes() {
    for (left, right) in [Channel::pair(Framing::Bytes), socket_pair()] {
        let (mut left, mut right) = (left.into_io().unwrap(), right.into_io().unwrap());
        let data: Vec<u8> = (0..3_000_000_u32).map(|value| value as u8).collect();
        let mut back = Vec::new();
        within(async {
            tokio::join!(
                async {
                    left.write_all(&data).await.unwrap();
                    left.shutdown().await.unwrap();
                },
                async { right.read_to_end(&mut back).await.unwrap() }
            )
        })
        .await;
        assert!(back == data);
        assert_eq!(left.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn a_frame_passes_without_a_copy() {
    let (mut left, mut right) = Channel::pair(Framing::Bytes);
    let frame = Bytes::from(vec![1; 1000]);
    left.send(frame.clone()).await.unwrap();
    assert_eq!(right.receive().await.unwrap().unwrap().as_ptr(), frame.as_ptr());
}

#[tokio::test]
async fn a_copy_passes_data_and_ends_both_ways() {
    let ((mut client, first), (second, mut server)) =
        (socket_pair(), Channel::pair(Framing::Bytes));
    let counters = Counters::default();
    let copy = copy_both(first, second, Some(&counters));
    let talk = async {
        client.send("to the server").await.unwrap();
        client.finish().await.unwrap();
        assert_eq!(server.receive().await.unwrap().unwrap(), "to the server");
        assert_eq!(server.receive().await.unwrap(), None);
        server.send("back").await.unwrap();
        server.finish().await.unwrap();
        assert_eq!(client.receive().await.unwrap().unwrap(), "back");
        assert_eq!(client.receive().await.unwrap(), None);
    };
    let (copied, ()) = within(async { tokio::join!(copy, talk) }).await;
    assert_eq!(copied.unwrap(), Copied { first_to_second_bytes: 13, second_to_first_bytes: 4 });
    assert_eq!((counters.first_to_second(), counters.second_to_first()), (13, 4));
}

#[tokio::test]
async fn a_copy_refuses_to_mix_framings_and_closes_both_on_failure() {
    let (bytes, datagrams) = (Channel::pair(Framing::Bytes), Channel::pair(Framing::Datagrams));
    assert_eq!(
        copy_both(bytes.0, datagrams.0, None).await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );

    let ((mut client, first), (second, server)) =
        (Channel::pair(Framing::Bytes), Channel::pair(Framing::Bytes));
    drop(server.split().0); // The server reads nothing; its other direction ends, too.
    client.send("lost").await.unwrap();
    assert_eq!(
        within(copy_both(first, second, None)).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(within(client.receive()).await.unwrap(), None);
}

#[tokio::test]
async fn a_copy_goes_on_for_a_receiver_that_stopped_reading() {
    let ((mut client, first), (second, server)) =
        (Channel::pair(Framing::Bytes), Channel::pair(Framing::Bytes));
    let (server_reader, mut server_writer) = server.split();
    drop(server_reader);
    let talk = async {
        client.send("nobody reads this").await.unwrap();
        for _ in 0..100 {
            server_writer.send("still an answer").await.unwrap();
            assert_eq!(client.receive().await.unwrap().unwrap(), "still an answer");
        }
        server_writer.finish().await.unwrap();
        assert_eq!(client.receive().await.unwrap(), None);
    };
    let (copied, ()) = within(async { tokio::join!(copy_both(first, second, None), talk) }).await;
    assert_eq!(copied.unwrap_err().kind(), ErrorKind::Unavailable);
}
