//! Counters of a gateway: a plain GET of its /metrics, and of what is there the few lines that are needed.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Time for the whole exchange. A gateway that is about to be killed is asked first, and the hour should not pass.
const LIMIT: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const BYTES_MAX: u64 = 16 << 20;

/// Reads the page of metrics at `http`.
pub async fn fetch(http: SocketAddr) -> io::Result<String> {
    tokio::time::timeout(LIMIT, get(http)).await?
}

async fn get(http: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(http).await?;
    let request =
        format!("GET /metrics HTTP/1.1\r\nhost: {http}\r\nconnection: close\r\naccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).map_err(|_| invalid("an answer that is no UTF-8 text"))?;
    body(&answer).map(str::to_owned)
}

/// The body of an HTTP/1.1 answer that came as a whole.
fn body(answer: &str) -> io::Result<&str> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| invalid("an answer without a body"))?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(invalid(&format!("{status:?} instead of 200")));
    }
    let mut lengths = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    // Without a length it would be in chunks, or cut off without anybody's knowing.
    match lengths.next_back() {
        Some(Ok(length)) if length == body.len() => Ok(body),
        _ => Err(invalid("an answer that is not as long as it says")),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/metrics gave {what}"))
}

/// One line of the text format: a value, by its labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    labels: &'a str,
    /// The value.
    pub value: f64,
}

impl<'a> Sample<'a> {
    /// The value of a label, as it is written: without its quotes, with its escapes.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        while !rest.is_empty() {
            let (label, behind) = rest.split_once("=\"")?;
            let end = closing_quote(behind)?;
            if label.trim_start_matches([',', ' ']).trim_end() == name {
                return Some(&behind[..end]);
            }
            rest = &behind[end + 1..];
        }
        None
    }
}

/// The samples of one metric, in the order of the page. Lines that are none of it, or of no form, are passed over.
pub fn samples<'a>(page: &'a str, metric: &str) -> impl Iterator<Item = Sample<'a>> {
    page.lines().filter_map(move |line| sample(line.strip_prefix(metric)?))
}

/// What follows a metric's name: `{turn="now"} 12`, or ` 12`; a time may stand behind the value.
fn sample(rest: &str) -> Option<Sample<'_>> {
    let (labels, value) = match rest.strip_prefix('{') {
        Some(inside) => {
            let end = closing_brace(inside)?;
            (&inside[..end], &inside[end + 1..])
        }
        None => ("", rest.strip_prefix(' ')?),
    };
    let value = value.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { labels, value })
}

/// The first brace that is in no label's value.
fn closing_brace(inside: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + inside[at..].find(['"', '}'])?;
        if inside[next..].starts_with('}') {
            return Some(next);
        }
        at = next + 1 + closing_quote(&inside[next + 1..])? + 1;
    }
}

/// The first quote that no backslash stands before.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "# HELP podgate_turns_total Turns.\n\
                        # TYPE podgate_turns_total counter\n\
                        podgate_turns_total{turn=\"now\"} 12\n\
                        podgate_turns_total{lane=\"a\\\"}b\", turn=\"parked\"} 3 1700000000\n\
                        podgate_turns_total_more{turn=\"now\"} 99\n\
                        podgate_turns_total{turn=\"bro\n\
                        podgate_parked 4\n";

    #[test]
    fn reads_the_lines_of_one_metric() {
        let turns: Vec<_> =
            samples(PAGE, "podgate_turns_total").map(|one| (one.label("turn"), one.value)).collect();
        assert_eq!(turns, [(Some("now"), 12.0), (Some("parked"), 3.0)]);
        let parked: Vec<_> =
            samples(PAGE, "podgate_parked").map(|one| (one.label("turn"), one.value)).collect();
        assert_eq!(parked, [(None, 4.0)]);
        assert_eq!(samples(PAGE, "podgate_tickets_total").count(), 0);
    }

    #[test]
    fn an_answer_is_taken_only_whole() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab").unwrap(), "ab");
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\n",
        ] {
            assert!(body(answer).is_err(), "{answer}");
        }
    }

    #[tokio::test]
    async fn asks_as_http_1_1_and_takes_what_comes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{PAGE}", PAGE.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        let (page, asked) = tokio::join!(fetch(http), serve);
        assert_eq!(page.unwrap(), PAGE);
        assert!(asked.starts_with(&format!("GET /metrics HTTP/1.1\r\nhost: {http}\r\n")), "{asked}");
    }

    proptest! {
        #[test]
        fn any_page_is_read_or_passed_over(page in "(m(\\{[a-z=\"\\\\,}]{0,12}\\}?)? ?[0-9]{0,3}\n|\\PC{0,20}\n){0,6}") {
            for sample in samples(&page, "m") {
                let _ = sample.label("a");
            }
        }
    }
}
