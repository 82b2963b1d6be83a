//! The last word, for `kubectl describe pod`: short JSON in the termination log.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use podgate_client::{Decision, Verdict};
use serde::Serialize;

/// The kubelet keeps so many bytes of a container's message.
const BYTES_MAX: usize = 4095;
/// Most denied destinations that are named.
const DENIED_MAX: usize = 16;

/// Where the last word goes.
#[derive(Debug)]
pub(crate) struct TerminationLog {
    path: PathBuf,
    presence: Presence,
}

/// Who makes the file.
#[derive(Debug)]
enum Presence {
    /// The kubelet, before the container starts; where there is no kubelet, there is no file, and nobody to read it.
    GivenOrNot,
    /// We do.
    Made,
}

/// How it ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Message {
    /// One word, stable.
    pub(crate) result: &'static str,
    /// For a person.
    pub(crate) reason: String,
    pub(crate) app: String,
    pub(crate) calls: u32,
    pub(crate) waited_s: f64,
    /// The first destinations that were denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) denied: Vec<DeniedDestination>,
    /// How many more were.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) denied_more: usize,
}

/// A destination that was denied.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeniedDestination {
    destination: String,
    reason: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl TerminationLog {
    /// The file that the kubelet made for this container.
    pub(crate) fn of_the_kubelet() -> Self {
        Self { path: "/dev/termination-log".into(), presence: Presence::GivenOrNot }
    }

    /// A file of the caller's choice; the kubelet's is the kubelet's even then.
    pub(crate) fn at(path: PathBuf) -> Self {
        let default = Self::of_the_kubelet();
        if path == default.path { default } else { Self { path, presence: Presence::Made } }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the message over whatever is there.
    pub(crate) fn write(&self, message: Message) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).truncate(true);
        let opened = match self.presence {
            Presence::Made => options.create(true).open(&self.path),
            Presence::GivenOrNot => match options.open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened,
            },
        };
        opened?.write_all(&message.fitted()?)
    }
}

impl Message {
    pub(crate) fn new(result: &'static str, reason: String, app: &str, calls: u32, waited: Duration) -> Self {
        let app = app[..app.floor_char_boundary(253)].to_owned();
        let waited_s = waited.as_millis() as f64 / 1000.0;
        Self { result, reason, app, calls, waited_s, denied: Vec::new(), denied_more: 0 }
    }

    /// The message with the denied ones among these decisions.
    pub(crate) fn with_denied(mut self, decisions: &[Decision]) -> Self {
        let mut denied = decisions.iter().filter_map(|decision| match decision.verdict {
            Verdict::Denied(reason) => {
                let destination = decision.destination.to_string();
                Some(DeniedDestination { destination, reason: reason.as_str() })
            }
            Verdict::Allowed | Verdict::Common => None,
        });
        self.denied = denied.by_ref().take(DENIED_MAX).collect();
        self.denied_more = denied.count();
        self
    }

    /// As JSON of at most 4,095 bytes: destinations go first, then the end of the reason.
    fn fitted(mut self) -> io::Result<Vec<u8>> {
        loop {
            let json = serde_json::to_vec(&self).map_err(io::Error::other)?;
            if json.len() <= BYTES_MAX {
                return Ok(json);
            }
            if self.denied.pop().is_some() {
                self.denied_more += 1;
            } else if self.reason.is_empty() {
                self.app.clear();
            } else {
                let half = self.reason.floor_char_boundary(self.reason.len() / 2);
                self.reason.truncate(half);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fitted(reason: &str, app: &str) -> String {
        let message = Message::new("denied", reason.to_owned(), app, 2, Duration::from_millis(3250));
        String::from_utf8(message.fitted().unwrap()).unwrap()
    }

    #[test]
    fn the_message_is_as_it_is() {
        assert_eq!(
            fitted("no rule allows \"mysql\"", "hotel-order"),
            r#"{"result":"denied","reason":"no rule allows \"mysql\"","app":"hotel-order","calls":2,"waited_s":3.25}"#
        );
    }

    #[test]
    fn destinations_give_way_before_the_reason() {
        let mut message = Message::new("denied", "because".to_owned(), "a", 1, Duration::ZERO);
        message.denied = (0..16)
            .map(|n| DeniedDestination {
                destination: format!("{}{n}:1", "h".repeat(500)),
                reason: "NO_PROFILE",
            })
            .collect();
        message.denied_more = 84;
        let json: serde_json::Value = serde_json::from_slice(&message.fitted().unwrap()).unwrap();
        let shown = json["denied"].as_array().unwrap().len();
        assert!((5..16).contains(&shown), "{shown}");
        assert_eq!(json["denied_more"], 100 - shown);
        assert_eq!(json["reason"], "because");
    }

    #[test]
    fn a_file_that_the_kubelet_did_not_make_is_not_made() {
        let log = TerminationLog { path: "/nonexistent/log".into(), presence: Presence::GivenOrNot };
        log.write(Message::new("granted", String::new(), "a", 1, Duration::ZERO)).unwrap();
        let made = TerminationLog::at("/nonexistent/log".into());
        assert!(made.write(Message::new("granted", String::new(), "a", 1, Duration::ZERO)).is_err());
        assert!(matches!(TerminationLog::at("/dev/termination-log".into()).presence, Presence::GivenOrNot));
    }

    proptest! {
        #[test]
        fn whatever_is_said_fits_and_parses(reason in "\\PC{0,50}|[\u{0}-\u{1f}]{0,50}", app in "\\PC{0,50}", times in 1usize..300) {
            let json = fitted(&reason.repeat(times), &app.repeat(times));
            prop_assert!(json.len() < 4096);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            let kept = value["reason"].as_str().unwrap();
            prop_assert!(reason.repeat(times).starts_with(kept));
        }
    }
}
