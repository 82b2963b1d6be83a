//! The virtual pods: each asks with the client library that real pods use.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
};

use podgate_client::{
    Ask, AuthorizeError, CallError, Client, ClientConfig, Destination, Pod, RetryPolicy, Subject, Tenure,
};
use tokio::time::Instant;

use crate::{
    cli::StormArgs,
    storm::{
        StormError,
        call_watch::CallWatch,
        documents,
        gateway::{Gateway, Reach},
        population::VirtualPod,
        tally::{Authorized, GaveUp, Tally},
    },
};

/// What pods share.
pub(crate) struct Crew {
    client: Client,
    destinations: Vec<Destination>,
    reach: Reach,
}

/// A client of its own with what it is to ask.
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) ask: Ask,
}

impl Crew {
    pub(crate) fn new(args: &StormArgs, gateway: &Gateway, retry: RetryPolicy) -> Result<Self, StormError> {
        let mut config = ClientConfig::new(vec![gateway.endpoint().clone()]);
        config.retry = retry;
        config.call_timeout = args.call_timeout;
        config.connect_timeout = config.connect_timeout.min(args.call_timeout);
        let destinations = documents::DESTINATIONS
            .iter()
            .take(usize::from(args.destinations))
            .map(|text| text.parse().map_err(|error| StormError::Client(format!("{text}: {error}"))))
            .collect::<Result<_, _>>()?;
        let client =
            Client::new(&config, args.seed).map_err(|error| StormError::Client(error.to_string()))?;
        Ok(Self { client, destinations, reach: gateway.reach() })
    }

    /// A pod of `app`, before its first call.
    pub(crate) fn caller(&self, app: String, uid: String, address: Ipv4Addr, seed: u64) -> Caller {
        let own = match self.reach {
            Reach::Loopback => Some(IpAddr::V4(address)),
            Reach::Network => None,
        };
        let ask = Ask {
            subject: Subject::Pod(Pod {
                namespace: documents::NAMESPACE.to_owned(),
                name: format!("{app}-{}", &uid[..8]),
                uid,
                service_account: app.clone(),
                node: "loadtest".to_owned(),
                addresses: own.into_iter().collect(),
                ..Pod::default()
            }),
            app,
            destinations: self.destinations.clone(),
            tenure: Tenure::Lasting,
        };
        Caller { client: self.client.sibling(own, seed), ask }
    }
}

/// One pod's whole life.
pub(crate) struct PodTask {
    caller: Caller,
    app: u32,
    arrival: Instant,
    start: Instant,
    tally: Rc<RefCell<Tally>>,
}

impl PodTask {
    /// A pod of a storm that begins at `start`.
    pub(crate) fn new(crew: &Crew, pod: VirtualPod, start: Instant, tally: Rc<RefCell<Tally>>) -> Self {
        let caller = crew.caller(documents::app_name(pod.app), pod.uid, pod.address, pod.seed);
        Self { caller, app: pod.app, arrival: start + pod.arrival, start, tally }
    }

    /// Asks until there is an end, and counts it.
    pub(crate) async fn run(self) {
        self.tally.borrow_mut().started(self.arrival.elapsed());
        let mut watch = CallWatch::new(self.arrival, self.start, Rc::clone(&self.tally));
        let Caller { client, ask } = &self.caller;
        let ended = client.authorize(ask, |step| watch.step(&step)).await;
        let mut tally = self.tally.borrow_mut();
        match ended {
            Ok(granted) => {
                let authorized = Authorized {
                    at: self.start.elapsed(),
                    waited: self.arrival.elapsed(),
                    admission: watch.admission(&granted),
                    grant_id: granted.lease.map(|lease| lease.grant_id),
                };
                tally.authorized(self.app, watch.calls, authorized);
            }
            Err(AuthorizeError::Denied(_)) => tally.denied(watch.calls),
            Err(AuthorizeError::Failed(error)) => {
                let why = match error {
                    CallError::Throttled(_) => GaveUp::Throttled,
                    CallError::Unavailable(_) => GaveUp::Unavailable,
                    CallError::Unauthenticated(_) => GaveUp::Unauthenticated,
                    // A load tester's pods do not share addresses in time: somebody has given it others' addresses.
                    CallError::Superseded(_) | CallError::Misconfigured(_) => GaveUp::Misconfigured,
                };
                tally.gave_up(why, &error.ended().reason, watch.calls);
            }
        }
    }
}
