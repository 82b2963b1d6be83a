//! What the backend did so far: told to whoever connects, and read by the load tester.

use std::{io, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Time for everything.
const TIME_MAX: Duration = Duration::from_secs(5);
/// The longest text, in bytes.
const BYTES_MAX: u64 = 1024;

/// What the backend did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Grants that it put in force, each with its work.
    pub(crate) done: u64,
    /// Grants that it was given and has not come to yet.
    pub(crate) waiting: u64,
}

/// Tells everyone who connects, one after the other, until the process ends.
pub(crate) async fn tell(listener: TcpListener, mut look: impl FnMut() -> Counts) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let text = serde_json::to_vec(&look())?;
        // Who leaves before the end has wanted nothing.
        let _ = timeout(TIME_MAX, async {
            stream.write_all(&text).await?;
            stream.shutdown().await
        })
        .await;
    }
}

/// Asks the backend.
pub(crate) async fn read(address: SocketAddr) -> io::Result<Counts> {
    let asked = async {
        let mut text = Vec::new();
        TcpStream::connect(address).await?.take(BYTES_MAX).read_to_end(&mut text).await?;
        Ok(serde_json::from_slice(&text)?)
    };
    timeout(TIME_MAX, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_each_who_asks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut done = 0;
        let telling = tell(listener, || {
            done += 1;
            Counts { done, waiting: 7 }
        });
        let asking = async {
            assert_eq!(read(address).await.unwrap(), Counts { done: 1, waiting: 7 });
            assert_eq!(read(address).await.unwrap(), Counts { done: 2, waiting: 7 });
        };
        tokio::select! {
            ended = telling => panic!("{ended:?}"),
            () = asking => {}
        }
    }
}
