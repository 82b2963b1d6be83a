//! A gateway's HTTP pages, got by a bare HTTP/1.1 request.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// An answer.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its status code.
    pub status: u16,
    /// Its status line and headers.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// Gets a page.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Page> {
    ask(TcpStream::connect(address).await?, address, path).await
}

/// Gets a page, from an address of one's choice.
pub async fn get_from(from: IpAddr, address: SocketAddr, path: &str) -> io::Result<Page> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    ask(socket.connect(address).await?, address, path).await
}

async fn ask(mut stream: TcpStream, address: SocketAddr, path: &str) -> io::Result<Page> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Page { status, head: head.to_owned(), body: body.to_owned() })
}

impl Page {
    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(mine, _)| mine.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// Panics if it is none.
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {}", self.body),
        }
    }

    /// The sum of a metric's samples whose labels hold `label`; none if there is no such sample.
    pub fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let samples = self.body.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let labels = series.strip_prefix(name)?;
            let is_series = labels.is_empty() || labels.starts_with('{');
            (is_series && labels.contains(label)).then(|| value.parse::<f64>().ok())?
        });
        samples.reduce(|sum, value| sum + value)
    }
}
