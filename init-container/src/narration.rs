//! What the program says while it works: a line for every step, for whoever reads `kubectl logs`.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use podgate_client::{
    Answer, AuthorizeError, CallError, Decision, Explained, Failure, FailureKind, GiveUp, Granted, Lease,
    Origin, Ruling, Step, Verdict, Why,
};

use crate::{
    duration::spoken,
    settings::{Settings, named},
    utc,
};

/// Says each step as it happens, under the time of day.
pub(crate) struct Narrator<'a> {
    out: &'a mut dyn Write,
    now: &'a dyn Fn() -> SystemTime,
    /// Calls begun so far.
    pub(crate) calls: u32,
    telling: Telling,
}

/// How much is said of the steps of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// Each.
    Each,
    /// A turn that is booked, and the first failure: what is done every few minutes for days is no news.
    News,
    /// A turn that is booked: the first failure is told.
    Turns,
}

impl<'a> Narrator<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, now: &'a dyn Fn() -> SystemTime) -> Self {
        Self { out, now, calls: 0, telling: Telling::Each }
    }

    /// Says each step of the requests that follow.
    pub(crate) fn tell_each_step(&mut self) {
        self.telling = Telling::Each;
    }

    /// Says of the next request's steps what is news, and nothing of the others.
    pub(crate) fn tell_news(&mut self) {
        self.telling = Telling::News;
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.now)()
    }

    /// A line of the log.
    pub(crate) fn say(&mut self, line: &str) {
        let at = utc::clock_time(self.now());
        self.print(&format!("{at} {line}\n"));
    }

    /// A page or a line as it is. Where nobody listens, the work goes on.
    pub(crate) fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    /// What is asked for, of whom, and for how long.
    pub(crate) fn opening(&mut self, settings: &Settings, deed: &str) {
        let ask = &settings.ask;
        self.say(&format!("podgate-init {}: {} {deed} {}", version(), named(&ask.subject), ask.app));
        if ask.destinations.is_empty() {
            self.say("it asks for all that the app's profile allows");
        } else {
            self.say(&format!("it asks for {}", listed(ask.destinations.iter())));
        }
        let until = utc::rfc3339(self.now() + settings.wait);
        let gateways = listed(settings.endpoints.iter());
        self.say(&format!(
            "it waits until {until} ({}) at most; gateways: {gateways}",
            spoken(settings.wait)
        ));
    }

    /// That an earlier start was booked a turn, which is kept now.
    pub(crate) fn resuming(&mut self, due_in: Duration) {
        if due_in.is_zero() {
            self.say("an earlier start was booked a turn, which is due");
        } else {
            self.say(&format!("an earlier start was booked a turn, due in {}", spoken(due_in)));
        }
    }

    /// One step of the client.
    pub(crate) fn step(&mut self, step: &Step) {
        if let Step::Calling { call, .. } = step {
            self.calls = *call;
        }
        let is_turn = matches!(
            step,
            Step::Answered { answer: Answer::Deferred { .. }, .. }
                | Step::Waiting { why: Why::Appointment, .. }
        );
        let is_failure = matches!(step, Step::Answered { answer: Answer::Failed(_), .. });
        match self.telling {
            Telling::Each => self.tell(step),
            Telling::News if is_failure => {
                self.telling = Telling::Turns;
                self.tell(step);
            }
            Telling::News | Telling::Turns if is_turn => self.tell(step),
            Telling::News | Telling::Turns => {}
        }
    }

    fn tell(&mut self, step: &Step) {
        match step {
            Step::Connecting { endpoint } => self.say(&format!("connecting to {endpoint}")),
            Step::Calling { endpoint, call, .. } => self.say(&format!("call {call}: asking {endpoint}")),
            Step::Answered { latency, answer } => {
                let word = match answer {
                    Answer::Granted => "granted".to_owned(),
                    Answer::Denied => "denied".to_owned(),
                    Answer::Settled => "answered".to_owned(),
                    Answer::Deferred { delay, .. } => format!("a turn is booked in {}", spoken(*delay)),
                    Answer::Failed(failure) => failed(failure),
                };
                self.say(&format!("{word} ({})", spoken(*latency)));
            }
            Step::Waiting { delay, why, .. } => {
                let until = utc::clock_time(self.now() + *delay);
                let why = match why {
                    Why::Pushback => "as the gateway says",
                    Why::Appointment => "comes back for its turn then",
                    Why::OwnGuess => "the gateway did not say how long",
                    Why::Unreached => "no gateway was reached",
                };
                self.say(&format!("waiting {}, until {until}: {why}", spoken(*delay)));
            }
        }
    }

    /// The grant, and what each destination owes it to.
    pub(crate) fn granted(&mut self, granted: &Granted) {
        self.say(&summary(granted));
        self.decisions(&granted.decisions);
        if granted.shadow {
            self.say("the profile's mode is shadow: what it does not allow was let through all the same");
        }
    }

    /// Why there is no grant.
    pub(crate) fn refused(&mut self, error: &AuthorizeError, wait: Duration) {
        match error {
            AuthorizeError::Denied(denial) => {
                self.say(&format!("denied: {}", denial.explanation));
                self.decisions(&denial.decisions);
            }
            AuthorizeError::Failed(error) => self.say(&without_answer(error, wait)),
        }
    }

    /// What would be decided.
    pub(crate) fn explained(&mut self, explained: &Explained) {
        match explained.ruling {
            Ruling::Allowed => self.say(&format!("would be allowed: {}", explained.explanation)),
            Ruling::Denied(reason) => {
                self.say(&format!("would be denied: {}, {reason}", explained.explanation));
            }
        }
        self.decisions(&explained.decisions);
    }

    /// That a lease goes on.
    pub(crate) fn renewed(&mut self, lease: &Lease) {
        let mut line = format!("grant {} is renewed", lease.grant_id);
        if let Some(expires_at) = lease.expires_at {
            line.extend([", until ", &utc::rfc3339(expires_at)]);
        }
        self.say(&line);
    }

    fn decisions(&mut self, decisions: &[Decision]) {
        for Decision { destination, verdict, rule, document, explanation } in decisions {
            let line = match verdict {
                Verdict::Allowed => format!("  {destination} allowed by rule {rule} of {document}"),
                Verdict::Common => format!("  {destination} is a common port, by rule {rule} of {document}"),
                Verdict::Denied(reason) if explanation.is_empty() => {
                    format!("  {destination} denied: {reason}")
                }
                Verdict::Denied(reason) => format!("  {destination} denied: {reason}, {explanation}"),
            };
            self.say(&line);
        }
    }
}

/// The program's version.
pub(crate) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The grant in one line.
pub(crate) fn summary(granted: &Granted) -> String {
    let after = format!("after {} and {}", counted(granted.calls), spoken(granted.elapsed));
    let Some(lease) = &granted.lease else {
        return format!("granted {after}: common ports only, which need no grant");
    };
    let origin = match granted.origin {
        Origin::Repeated => "the living grant",
        Origin::Fresh | Origin::Common => "grant",
    };
    let mut line = format!("granted {after}: {origin} {}", lease.grant_id);
    if !lease.addresses.is_empty() {
        line.extend([" for ", &listed(lease.addresses.iter())]);
    }
    if let Some(expires_at) = lease.expires_at {
        line.extend([", until ", &utc::rfc3339(expires_at), " at the latest"]);
    }
    line
}

/// In one line why there is no grant, and what ended it.
pub(crate) fn without_grant(error: &AuthorizeError, wait: Duration) -> String {
    match error {
        AuthorizeError::Denied(denial) => denial.explanation.clone(),
        AuthorizeError::Failed(error) => without_answer(error, wait),
    }
}

/// In one line why there is no answer, and what ended it.
pub(crate) fn without_answer(error: &CallError, wait: Duration) -> String {
    let word = match error {
        CallError::Throttled(_) => "throttled",
        CallError::Unavailable(_) => "unavailable",
        CallError::Unauthenticated(_) => "not authenticated",
        CallError::Superseded(_) => "superseded",
        CallError::Misconfigured(_) => "misconfigured",
    };
    let ended = error.ended();
    let bound = match ended.bound {
        None => String::new(),
        Some(GiveUp::Budget) => format!("; the wait of {} leaves no time for another call", spoken(wait)),
        Some(GiveUp::TurnBeyondBudget) => {
            format!("; the gateway's turn comes only after the wait of {}", spoken(wait))
        }
        Some(GiveUp::Attempts | GiveUp::Calls) => "; no more calls are allowed".to_owned(),
    };
    let after = format!("after {} and {}", counted(ended.calls), spoken(ended.elapsed));
    format!("{word} {after}: {}{bound}", ended.reason)
}

fn failed(failure: &Failure) -> String {
    let word = match failure.kind {
        FailureKind::Unreached => "not reached",
        FailureKind::Unavailable => "no decision",
        FailureKind::Throttled => "throttled",
        FailureKind::Unauthenticated => "not authenticated",
        FailureKind::Superseded => "superseded",
        FailureKind::Misconfigured => "refused",
    };
    format!("{word}: {}", failure.reason)
}

fn counted(calls: u32) -> String {
    if calls == 1 { "1 call".to_owned() } else { format!("{calls} calls") }
}

fn listed<T: ToString>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use podgate_client::{Ended, Ticket};

    use super::*;

    #[test]
    fn every_step_has_its_line() {
        let mut out = Vec::new();
        let now = || UNIX_EPOCH + Duration::from_hours(12);
        let endpoint = || "http://gateway:7420".parse().unwrap();
        let failure = |kind| {
            let failure = Failure { kind, reason: "because".to_owned(), retry_after: None };
            Step::Answered { latency: Duration::from_millis(12), answer: Answer::Failed(failure) }
        };
        let waiting = |why| Step::Waiting { delay: Duration::from_millis(3250), until: Duration::ZERO, why };
        let mut narrator = Narrator::new(&mut out, &now);
        for step in [
            Step::Connecting { endpoint: endpoint() },
            failure(FailureKind::Unreached),
            waiting(Why::Unreached),
            Step::Calling { endpoint: endpoint(), call: 3, attempt: 2 },
            failure(FailureKind::Throttled),
            waiting(Why::Pushback),
            failure(FailureKind::Unavailable),
            waiting(Why::OwnGuess),
            Step::Answered {
                latency: Duration::from_millis(12),
                answer: Answer::Deferred {
                    delay: Duration::from_millis(12_345),
                    ticket: Ticket::new(b"secret".to_vec()).unwrap(),
                },
            },
            waiting(Why::Appointment),
            failure(FailureKind::Unauthenticated),
            failure(FailureKind::Superseded),
            failure(FailureKind::Misconfigured),
            Step::Answered { latency: Duration::from_secs(2), answer: Answer::Granted },
            Step::Answered { latency: Duration::from_secs(2), answer: Answer::Denied },
        ] {
            narrator.step(&step);
        }
        assert_eq!(narrator.calls, 3);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
12:00:00Z connecting to http://gateway:7420
12:00:00Z not reached: because (12ms)
12:00:00Z waiting 3.2s, until 12:00:03Z: no gateway was reached
12:00:00Z call 3: asking http://gateway:7420
12:00:00Z throttled: because (12ms)
12:00:00Z waiting 3.2s, until 12:00:03Z: as the gateway says
12:00:00Z no decision: because (12ms)
12:00:00Z waiting 3.2s, until 12:00:03Z: the gateway did not say how long
12:00:00Z a turn is booked in 12.3s (12ms)
12:00:00Z waiting 3.2s, until 12:00:03Z: comes back for its turn then
12:00:00Z not authenticated: because (12ms)
12:00:00Z superseded: because (12ms)
12:00:00Z refused: because (12ms)
12:00:00Z granted (2s)
12:00:00Z denied (2s)
"
        );
    }

    #[test]
    fn what_is_no_news_is_not_told() {
        let mut out = Vec::new();
        let now = || UNIX_EPOCH;
        let mut narrator = Narrator::new(&mut out, &now);
        let endpoint = || "http://gateway:7420".parse().unwrap();
        let latency = Duration::from_millis(12);
        let failed = || {
            let (kind, reason) = (FailureKind::Unreached, "because".to_owned());
            let failure = Failure { kind, reason, retry_after: None };
            Step::Answered { latency, answer: Answer::Failed(failure) }
        };
        for round in 0..2 {
            narrator.tell_news();
            for step in [
                Step::Connecting { endpoint: endpoint() },
                failed(),
                Step::Waiting { delay: latency, until: latency, why: Why::Unreached },
                failed(),
                Step::Calling { endpoint: endpoint(), call: 7 + round, attempt: 1 },
                Step::Waiting { delay: latency, until: latency, why: Why::Appointment },
                Step::Answered { latency, answer: Answer::Settled },
            ] {
                narrator.step(&step);
            }
        }
        assert_eq!(narrator.calls, 8);
        let round = "00:00:00Z not reached: because (12ms)\n\
                     00:00:00Z waiting 12ms, until 00:00:00Z: comes back for its turn then\n";
        assert_eq!(String::from_utf8(out).unwrap(), round.repeat(2));
    }

    #[test]
    fn every_bound_is_explained() {
        let ended = |bound| {
            AuthorizeError::Failed(CallError::Throttled(Ended {
                reason: "the rate is spent [APP_RATE]".to_owned(),
                calls: 2,
                elapsed: Duration::from_secs(5),
                bound,
            }))
        };
        let wait = Duration::from_mins(9);
        for (bound, line) in [
            (None, "throttled after 2 calls and 5s: the rate is spent [APP_RATE]"),
            (
                Some(GiveUp::Budget),
                "throttled after 2 calls and 5s: the rate is spent [APP_RATE]; \
                 the wait of 9m leaves no time for another call",
            ),
            (
                Some(GiveUp::TurnBeyondBudget),
                "throttled after 2 calls and 5s: the rate is spent [APP_RATE]; \
                 the gateway's turn comes only after the wait of 9m",
            ),
            (
                Some(GiveUp::Calls),
                "throttled after 2 calls and 5s: the rate is spent [APP_RATE]; no more calls are allowed",
            ),
        ] {
            assert_eq!(without_grant(&ended(bound), wait), line);
        }
    }
}
