//! The virtual pods: each asks with the client library that real pods use.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use podgate_client::{
    Ask, AuthorizeError, Client, ClientConfig, Destination, Granted, Pod, RetryPolicy, Step, Subject,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

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

/// Pods that dial at once. Each real pod has a processor of its own and has asked as soon as it is connected; ours share
/// one, and if all of them dialed side by side, hardly one would have asked before all were connected.
const DIALING_MAX: usize = 64;
/// How long one keeps the others waiting at most: its call may be parked.
const DIALING_WITHIN: Duration = Duration::from_millis(12);

/// What pods share.
pub(crate) struct Crew {
    client: Client,
    destinations: Vec<Destination>,
    reach: Reach,
    dialing: Arc<Semaphore>,
}

/// A client of its own with what it is to ask.
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) ask: Ask,
    dialing: Arc<Semaphore>,
}

impl Caller {
    /// Asks until there is an end; in turn with the other pods until its first call is on its way.
    pub(crate) async fn authorize(&self, mut observe: impl FnMut(&Step)) -> Result<Granted, AuthorizeError> {
        // Nobody closes it.
        let place = Cell::new(self.dialing.acquire().await.ok());
        let observe = |step: Step| {
            observe(&step);
            if matches!(step, Step::Answered { .. }) {
                place.take();
            }
        };
        let mut asking = pin!(self.client.authorize(&self.ask, observe));
        if let Ok(ended) = timeout(DIALING_WITHIN, asking.as_mut()).await {
            return ended;
        }
        place.take();
        asking.await
    }
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
        let dialing = Arc::new(Semaphore::new(DIALING_MAX));
        Ok(Self { client, destinations, reach: gateway.reach(), dialing })
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
        };
        Caller { client: self.client.sibling(own, seed), ask, dialing: Arc::clone(&self.dialing) }
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
        let ended = self.caller.authorize(|step| watch.step(step)).await;
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
            Err(error @ AuthorizeError::Throttled(_)) => {
                tally.gave_up(GaveUp::Throttled, error.reason(), watch.calls);
            }
            Err(error @ AuthorizeError::Unavailable(_)) => {
                tally.gave_up(GaveUp::Unavailable, error.reason(), watch.calls);
            }
            Err(error @ AuthorizeError::Unauthenticated(_)) => {
                tally.gave_up(GaveUp::Unauthenticated, error.reason(), watch.calls);
            }
            Err(error @ AuthorizeError::Misconfigured(_)) => {
                tally.gave_up(GaveUp::Misconfigured, error.reason(), watch.calls);
            }
        }
    }
}
