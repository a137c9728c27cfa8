//! Clients that are killed in the middle of a port forward: the exporter has nothing left of them.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::{Bench, eventually, line};

/// What an exporter holds, by kind.
fn holds(bench: &Bench) -> [(&'static str, usize); 3] {
    let process = PathBuf::from(format!("/proc/{}", bench.exporter.pid()));
    let tasks: Vec<_> = std::fs::read_dir(process.join("task")).unwrap().flatten().collect();
    let children = tasks.iter().map(|task| std::fs::read_to_string(task.path().join("children")));
    let children = children.flatten().map(|list| list.split_whitespace().count()).sum();
    let files = std::fs::read_dir(process.join("fd")).unwrap().count();
    [("files", files), ("threads", tasks.len()), ("children", children)]
}

/// Starts a forward with connections on which bytes go both ways, and kills it there.
async fn kill_in_the_middle(bench: &Bench, connections: usize) {
    let (client, mut lines) = bench.start(&["echo", "forward-tcp"]).await;
    let address = line(&mut lines, &client).await;
    let mut open = Vec::new();
    for number in 0..connections {
        let mut connection = TcpStream::connect(&address).await.unwrap();
        connection.write_all(&[7; 1 << 16]).await.unwrap();
        // Of some it has answers, and others have not read any when they go.
        if number % 2 == 0 {
            connection.read_exact(&mut [0; 1 << 15]).await.unwrap();
        }
        open.push(connection);
    }
    client.kill();
    client.wait().await;
    drop(open);
}

#[cfg(target_os = "linux")] // /proc shows what a process holds.
#[tokio::test]
async fn killed_port_forwards_leave_nothing() {
    let bench = Bench::everything().await;
    // What an exporter makes once is there after the first clients, which end in order.
    assert_eq!(bench.j_with(&["stream", "echo"], b"first").await, "first\n");
    assert_eq!(bench.j(&["power", "on"]).await, "");
    let before = holds(&bench);
    for _ in 0..100 {
        kill_in_the_middle(&bench, 4).await;
    }
    // At once, not when what is left of the others was noticed.
    assert_eq!(bench.j_with(&["stream", "echo"], b"next").await, "next\n");
    assert_eq!(bench.j(&["power", "on"]).await, "");
    eventually("everything is as before", async || {
        let now = holds(&bench);
        let grown = now.iter().zip(before).any(|((_, now), (_, before))| *now > before);
        (!grown).then_some(())
    })
    .await;
}
