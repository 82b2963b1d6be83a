//! The open appointment as a file, so that it outlives a restart of this container.
//!
//! Losing it costs a wait and no more. So whatever is wrong with the file is said, and nothing fails for it.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use podgate_client::{Appointment, Ask, Subject, Ticket};
use serde::{Deserialize, Serialize};

use crate::{utc, whole_file::WholeFile};

/// Its name beside a grant file.
const NAME: &str = "podgate-ticket.json";
/// For us alone: the ticket is worth nothing to others, but it is nobody else's business either.
const MODE: u32 = 0o600;
/// Largest file that is read: room for every destination that one request may have.
const BYTES_MAX: u64 = 128 << 10;
/// A turn so long past is over.
const OVERDUE_MAX: Duration = Duration::from_mins(10);
/// No gateway books so far ahead: one of the clocks is wrong.
const AHEAD_MAX: Duration = Duration::from_hours(1);

/// A place where an appointment can be kept.
#[derive(Debug)]
pub(crate) struct TicketFile(WholeFile);

#[derive(Serialize, Deserialize)]
struct Document {
    request: RequestDocument,
    /// In base64.
    ticket: String,
    /// By the wall clock, in milliseconds.
    due_at: String,
}

/// Whose appointment it is, and for what.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RequestDocument {
    app: String,
    /// Absent for a machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_uid: Option<String>,
    /// In order, whatever the order in which they were named.
    destinations: Vec<String>,
}

impl TicketFile {
    pub(crate) fn at(path: PathBuf) -> io::Result<Self> {
        WholeFile::at(path, MODE).map(Self)
    }

    /// Where it is unless another place is named.
    pub(crate) fn beside(grant_file: &Path) -> PathBuf {
        grant_file.with_file_name(NAME)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The appointment that an earlier start left for this request, if any; an error says why what is there is of no
    /// use, and nothing of the ticket.
    pub(crate) fn read(&self, ask: &Ask, now: SystemTime) -> Result<Option<Appointment>, String> {
        let Some(json) = self.0.read(BYTES_MAX).map_err(|error| format!("it can't be read: {error}"))? else {
            return Ok(None);
        };
        appointment(&json, ask, now).map(Some)
    }

    /// Keeps an appointment in place of any earlier one. One that would not be used again is not kept.
    pub(crate) fn write(
        &self,
        ask: &Ask,
        ticket: &Ticket,
        delay: Duration,
        now: SystemTime,
    ) -> io::Result<()> {
        if delay > AHEAD_MAX {
            return self.remove();
        }
        let document = Document {
            request: RequestDocument::of(ask),
            ticket: BASE64_STANDARD.encode(ticket.as_bytes()),
            due_at: utc::rfc3339_millis(now + delay),
        };
        let mut text = serde_json::to_vec_pretty(&document).map_err(io::Error::other)?;
        text.push(b'\n');
        self.0.write(&text)
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        self.0.remove()
    }
}

impl RequestDocument {
    fn of(ask: &Ask) -> Self {
        let mut destinations: Vec<String> = ask.destinations.iter().map(ToString::to_string).collect();
        destinations.sort_unstable();
        let pod_uid = match &ask.subject {
            Subject::Pod(pod) => Some(pod.uid.clone()),
            Subject::StaticHost(_) => None,
        };
        Self { app: ask.app.clone(), pod_uid, destinations }
    }
}

fn appointment(json: &[u8], ask: &Ask, now: SystemTime) -> Result<Appointment, String> {
    // serde_json's own words may repeat what they can't read, and that may be the ticket.
    let document: Document = serde_json::from_slice(json).map_err(|error| {
        format!("it is not what this program writes (line {}, column {})", error.line(), error.column())
    })?;
    if document.request != RequestDocument::of(ask) {
        return Err("it is of another request".to_owned());
    }
    let ticket = BASE64_STANDARD.decode(&document.ticket).ok().and_then(Ticket::new);
    let ticket = ticket.ok_or("it holds no ticket")?;
    let due_at = utc::parse_millis(&document.due_at).ok_or("its time is not one that this program writes")?;
    let (due_in, overdue) = match due_at.duration_since(now) {
        Ok(due_in) => (due_in, Duration::ZERO),
        Err(past) => (Duration::ZERO, past.duration()),
    };
    if overdue > OVERDUE_MAX {
        return Err(format!("it was due at {}, too long ago", document.due_at));
    }
    if due_in > AHEAD_MAX {
        return Err(format!("it is due only at {}: one of the clocks is wrong", document.due_at));
    }
    Ok(Appointment { ticket, due_in })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use podgate_client::{Pod, StaticHost};
    use proptest::prelude::*;

    use super::*;

    const DUE: Duration = Duration::from_millis(12_345);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_798_761_599_001)
    }

    fn ask() -> Ask {
        Ask {
            app: "hotel-order".to_owned(),
            subject: Subject::Pod(Pod { uid: "u-1".to_owned(), ..Pod::default() }),
            destinations: ["redis:6379-6381", "mysql:3306"].map(|text| text.parse().unwrap()).to_vec(),
            tenure: podgate_client::Tenure::Lasting,
        }
    }

    fn ticket() -> Ticket {
        Ticket::new(vec![0, 127, 255]).unwrap()
    }

    /// What is written for this request, due in 12.345 s.
    fn written() -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = TicketFile::at(directory.path().join("ticket")).unwrap();
        file.write(&ask(), &ticket(), DUE, now()).unwrap();
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn the_file_is_as_it_is() {
        assert_eq!(
            written(),
            r#"{
  "request": {
    "app": "hotel-order",
    "pod_uid": "u-1",
    "destinations": [
      "mysql:3306",
      "redis:6379-6381"
    ]
  },
  "ticket": "AH//",
  "due_at": "2027-01-01T00:00:11.346Z"
}
"#
        );
    }

    #[test]
    fn an_appointment_comes_back_while_it_is_of_use() {
        let json = written();
        let due_in = |now| appointment(json.as_bytes(), &ask(), now).map(|kept| kept.due_in);
        let kept = appointment(json.as_bytes(), &ask(), now()).unwrap();
        assert_eq!(kept, Appointment { ticket: ticket(), due_in: DUE });
        let due_at = now() + DUE;
        assert_eq!(due_in(due_at - Duration::from_millis(1)), Ok(Duration::from_millis(1)));
        assert_eq!(due_in(due_at), Ok(Duration::ZERO));
        assert_eq!(due_in(due_at + OVERDUE_MAX), Ok(Duration::ZERO));
        assert_eq!(due_in(due_at - AHEAD_MAX), Ok(AHEAD_MAX));
        let millisecond = Duration::from_millis(1);
        assert_eq!(
            due_in(due_at + OVERDUE_MAX + millisecond).unwrap_err(),
            "it was due at 2027-01-01T00:00:11.346Z, too long ago"
        );
        assert_eq!(
            due_in(due_at - AHEAD_MAX - millisecond).unwrap_err(),
            "it is due only at 2027-01-01T00:00:11.346Z: one of the clocks is wrong"
        );
    }

    #[test]
    fn it_is_for_this_request_alone() {
        let json = written();
        let of = |ask: &Ask| appointment(json.as_bytes(), ask, now());
        let reversed = Ask { destinations: ask().destinations.into_iter().rev().collect(), ..ask() };
        assert!(of(&reversed).is_ok());
        let pod = Pod { uid: "u-2".to_owned(), ..Pod::default() };
        for other in [
            Ask { app: "hotel".to_owned(), ..ask() },
            Ask { subject: Subject::Pod(pod), ..ask() },
            Ask { subject: Subject::StaticHost(StaticHost::default()), ..ask() },
            Ask { destinations: Vec::new(), ..ask() },
        ] {
            assert_eq!(of(&other).unwrap_err(), "it is of another request");
        }
    }

    #[test]
    fn what_is_broken_is_told_without_the_ticket() {
        let of = |json: &str| appointment(json.as_bytes(), &ask(), now()).unwrap_err();
        assert_eq!(of(""), "it is not what this program writes (line 1, column 0)");
        assert_eq!(of(&written()[..150]), "it is not what this program writes (line 10, column 8)");
        let wordy = written().replace("\"AH//\"", "{\"AH//\": 1}");
        assert_eq!(of(&wordy), "it is not what this program writes (line 10, column 12)");
        assert_eq!(of(&written().replace("AH//", "AH/")), "it holds no ticket");
        assert_eq!(of(&written().replace("AH//", "")), "it holds no ticket");
        assert_eq!(of(&written().replace("AH//", &"AH//".repeat(171))), "it holds no ticket");
        assert_eq!(of(&written().replace(".346Z", "Z")), "its time is not one that this program writes");
    }

    #[test]
    fn a_turn_that_nobody_would_use_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = TicketFile::at(directory.path().join("ticket")).unwrap();
        file.write(&ask(), &ticket(), DUE, now()).unwrap();
        file.write(&ask(), &ticket(), Duration::MAX, now()).unwrap();
        assert_eq!(file.read(&ask(), now()), Ok(None));
    }

    proptest! {
        #[test]
        fn every_ticket_comes_back(bytes in proptest::collection::vec(any::<u8>(), 1..=512), delay_ms in 0u64..=3_600_000) {
            let directory = tempfile::tempdir().unwrap();
            let file = TicketFile::at(directory.path().join("ticket")).unwrap();
            let (ticket, due_in) = (Ticket::new(bytes).unwrap(), Duration::from_millis(delay_ms));
            file.write(&ask(), &ticket, due_in, now()).unwrap();
            prop_assert_eq!(file.read(&ask(), now()), Ok(Some(Appointment { ticket, due_in })));
        }

        #[test]
        fn no_content_is_too_strange(at in 0usize..250, with in proptest::collection::vec(any::<u8>(), 0..8)) {
            let mut json = written().into_bytes();
            let at = at.min(json.len());
            json.splice(at..(at + with.len()).min(json.len()), with);
            if let Err(why) = appointment(&json, &ask(), now()) {
                prop_assert!(!why.contains("AH//"), "{why}");
            }
        }
    }
}
