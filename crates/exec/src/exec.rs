//! `exec`: runs a program through the server, with this process's standard streams.

use std::io;

use jumpstarter_supervise::{Command, Input, Launcher, Sink};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Returns the program's exit code; 1 if a signal killed it.
pub(crate) fn run(launcher: Launcher, argv: Vec<String>) -> io::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let command = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Input::Piped)
            .stdout(Sink::Piped)
            .stderr(Sink::Piped)
            .through(launcher);
        let child = command.spawn().await.map_err(io::Error::other)?;
        let stdin = child.take_stdin();
        tokio::spawn(async move { copy(Some(tokio::io::stdin()), stdin).await });
        let (stdout, stderr) = tokio::join!(
            copy(child.take_stdout(), Some(tokio::io::stdout())),
            copy(child.take_stderr(), Some(tokio::io::stderr())),
        );
        stdout.and(stderr)?;
        Ok(child.wait().await.code().unwrap_or(1))
    });
    // A thread that reads standard input would be waited for.
    runtime.shutdown_background();
    code
}

/// Copies each piece at once.
async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    to: Option<impl AsyncWrite + Unpin>,
) -> io::Result<()> {
    let (Some(mut from), Some(mut to)) = (from, to) else { return Ok(()) };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            count => {
                to.write_all(&buffer[..count]).await?;
                to.flush().await?;
            }
        }
    }
}
