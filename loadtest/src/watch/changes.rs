//! Changes at a steady rate: each slot asks for a new pod on its address, which ends the grant of the one before.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use podgate_proto::v1::{AuthorizeResponse, authorize_response::Outcome};
use prost::Message as _;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    bench::{
        BenchError,
        connection::{CallError, PreparedCall, Reply},
        mode::Mode,
        target::Target,
        workload::{Messages, Slot},
    },
    cli::WatchArgs,
    clock,
    watch::WatchError,
};

/// How often calls are sent.
const TICK: Duration = Duration::from_millis(2);
/// A new grant, and the end of the one before it.
const CHANGES_A_CALL: f64 = 2.0;

/// Grants that were made, by id, and when they were answered.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) answered_at: HashMap<String, std::time::Instant>,
    /// How long the changes were made for.
    pub(crate) lasted: Duration,
}

/// One call in flight, again and again.
struct Caller {
    call: PreparedCall,
    messages: Messages,
}

/// Makes changes at the rate and for the time that are asked for. Who is behind is not waited for: where the gateway does not
/// keep up, fewer are made, and the report says how many.
pub(crate) async fn make(
    args: &WatchArgs,
    gateway: &Target,
    slots: &[Vec<Slot>],
    made: Rc<RefCell<Made>>,
) -> Result<(), WatchError> {
    let broke = |source| BenchError::Call { server: "gateway", source };
    // In turn, so that each grant lives for a while: of one that is made and ended at once nobody is told.
    let mut idle = VecDeque::new();
    for (connection, slots) in gateway.connections.iter().zip(slots) {
        for slot in slots {
            let call = connection.prepared(Mode::Fresh.path()).map_err(broke)?;
            idle.push_back(Caller { call, messages: Mode::Fresh.messages(slot) });
        }
    }
    let calls_per_s = f64::from(args.changes.get()) / CHANGES_A_CALL;
    let (start, mut sent) = (Instant::now(), 0_u64);
    let mut busy = JoinSet::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while start.elapsed() < args.duration {
        tokio::select! {
            Some(ended) = busy.join_next() => idle.push_back(note(ended, &made, broke)?),
            _ = ticks.tick() => {
                let due = (start.elapsed().as_secs_f64() * calls_per_s) as u64;
                while sent < due && let Some(mut caller) = idle.pop_front() {
                    sent += 1;
                    busy.spawn_local(async move {
                        let reply = caller.call.call(caller.messages.next()).await;
                        (caller, reply)
                    });
                }
            }
        }
    }
    made.borrow_mut().lasted = start.elapsed();
    while let Some(ended) = busy.join_next().await {
        note(ended, &made, broke)?;
    }
    Ok(())
}

/// Notes the grant that a call was answered with.
fn note(
    ended: Result<(Caller, Result<Reply, CallError>), tokio::task::JoinError>,
    made: &Rc<RefCell<Made>>,
    broke: impl Fn(CallError) -> BenchError,
) -> Result<Caller, WatchError> {
    let (caller, reply) =
        ended.map_err(|panic| BenchError::io("calling the gateway")(std::io::Error::other(panic)))?;
    let reply = reply.map_err(broke)?;
    Mode::Fresh.check(&reply).map_err(WatchError::Refused)?;
    let response =
        AuthorizeResponse::decode(reply.message).map_err(|error| WatchError::Refused(error.to_string()))?;
    if let Some(Outcome::Granted(granted)) = response.outcome
        && let Some(lease) = granted.lease
    {
        made.borrow_mut().answered_at.insert(lease.grant_id, clock::now());
    }
    Ok(caller)
}
