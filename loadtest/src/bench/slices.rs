//! The measurement: slices of time, in turn on the gateway and on the echo, so that what else happens on the machine
//! happens to both.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::task::JoinSet;

use crate::{
    bench::{
        BenchError,
        connection::{CallError, PreparedCall},
        mode::Mode,
        target::Target,
        workload::{Messages, Slot},
    },
    cli::BenchArgs,
    clock,
    figures::Durations,
    process,
};

/// Length of a slice.
const SLICE: Duration = Duration::from_secs(2);
/// Length of the first slice of each server, which is thrown away.
const WARM_UP: Duration = Duration::from_millis(500);
/// Beyond a slice's end, a server that has not answered by then has stalled.
const STALL: Duration = Duration::from_secs(15);
/// Every so many answers of a slot, one is decoded and looked at; the status of every one is.
const LOOK_EVERY: u64 = 64;

/// What happened in one slice.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// Calls that were answered rightly.
    pub(crate) calls: u64,
    /// Calls that were not, and what the first of them was told.
    pub(crate) wrong: u64,
    pub(crate) wrong_example: Option<String>,
    /// From send to answer.
    pub(crate) latency: Durations,
    /// How long it took.
    pub(crate) wall: Duration,
    /// CPU time of the server.
    pub(crate) server_cpu: Duration,
    /// CPU time of the generator.
    pub(crate) generator_cpu: Duration,
}

/// All slices of a mode: those of the gateway, and those of the echo, each of which follows its own of the gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slices {
    pub(crate) gateway: Vec<Slice>,
    pub(crate) echo: Vec<Slice>,
}

/// Measures for the time asked for on each server.
pub(crate) async fn measure(
    args: &BenchArgs,
    mode: Mode,
    gateway: &Target,
    echo: Option<&Target>,
    slots: &[Vec<Slot>],
) -> Result<Slices, BenchError> {
    let (count, length) = division(args.duration);
    let mut gateway_side = Side::new(gateway, mode, slots)?;
    let mut echo_side = echo.map(|echo| Side::new(echo, mode, slots)).transpose()?;
    gateway_side.slice(WARM_UP).await?;
    if let Some(echo) = &mut echo_side {
        echo.slice(WARM_UP).await?;
    }
    let mut slices = Slices::default();
    for _ in 0..count {
        slices.gateway.push(gateway_side.slice(length).await?);
        if let Some(echo) = &mut echo_side {
            slices.echo.push(echo.slice(length).await?);
        }
    }
    Ok(slices)
}

/// Into how many slices of what length a duration is divided: as near to [`SLICE`] as it goes.
fn division(duration: Duration) -> (u32, Duration) {
    let count = (duration.as_secs_f64() / SLICE.as_secs_f64()).round().max(1.0) as u32;
    (count, duration / count)
}

/// One server's side: its calls in flight, which keep their state from slice to slice.
struct Side<'a> {
    target: &'a Target,
    mode: Mode,
    callers: Vec<Caller>,
}

/// One call in flight.
struct Caller {
    call: PreparedCall,
    messages: Messages,
    calls: u64,
}

/// What all callers of a slice count into.
#[derive(Default)]
struct Count {
    calls: u64,
    wrong: u64,
    wrong_example: Option<String>,
    latency: Durations,
}

impl<'a> Side<'a> {
    fn new(target: &'a Target, mode: Mode, slots: &[Vec<Slot>]) -> Result<Self, BenchError> {
        let mut callers = Vec::new();
        for (connection, slots) in target.connections.iter().zip(slots) {
            for slot in slots {
                let call = connection.prepared(mode.path()).map_err(|source| broke(target, source))?;
                callers.push(Caller { call, messages: mode.messages(slot), calls: 0 });
            }
        }
        Ok(Self { target, mode, callers })
    }

    /// Keeps all calls in flight for so long.
    async fn slice(&mut self, length: Duration) -> Result<Slice, BenchError> {
        let server_before =
            process::cpu_time(self.target.child.pid).map_err(BenchError::io("reading CPU time"))?;
        let own_before = process::cpu_time(std::process::id()).map_err(BenchError::io("reading CPU time"))?;
        let began = clock::now();
        let count = Rc::new(RefCell::new(Count::default()));
        let mut running = JoinSet::new();
        for caller in self.callers.drain(..) {
            running.spawn_local(caller.run(self.mode, began + length, Rc::clone(&count)));
        }
        while let Some(caller) =
            tokio::time::timeout(length + STALL, running.join_next()).await.map_err(|_| {
                BenchError::Stalled { server: self.target.name, seconds: (length + STALL).as_secs() }
            })?
        {
            let caller = caller.map_err(|panic| BenchError::io("a caller")(std::io::Error::other(panic)))?;
            self.callers.push(caller.map_err(|source| broke(self.target, source))?);
        }
        let wall = clock::now() - began;
        let server_after =
            process::cpu_time(self.target.child.pid).map_err(BenchError::io("reading CPU time"))?;
        let own_after = process::cpu_time(std::process::id()).map_err(BenchError::io("reading CPU time"))?;
        let count = count.take();
        Ok(Slice {
            calls: count.calls,
            wrong: count.wrong,
            wrong_example: count.wrong_example,
            latency: count.latency,
            wall,
            server_cpu: server_after.saturating_sub(server_before),
            generator_cpu: own_after.saturating_sub(own_before),
        })
    }
}

fn broke(target: &Target, source: CallError) -> BenchError {
    BenchError::Call { server: target.name, source }
}

impl Caller {
    /// Calls until the time is over.
    async fn run(
        mut self,
        mode: Mode,
        until: std::time::Instant,
        count: Rc<RefCell<Count>>,
    ) -> Result<Self, CallError> {
        let mut sent = clock::now();
        while sent < until {
            let reply = self.call.call(self.messages.next()).await?;
            let received = clock::now();
            let looked = if self.calls.is_multiple_of(LOOK_EVERY) || reply.code != mode.code() {
                mode.check(&reply)
            } else {
                Ok(())
            };
            self.calls += 1;
            let mut count = count.borrow_mut();
            match looked {
                Ok(()) => count.calls += 1,
                Err(reason) => {
                    count.wrong += 1;
                    count.wrong_example.get_or_insert(reason);
                }
            }
            count.latency.record(received - sent);
            sent = received;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divides_into_slices_of_about_two_seconds() {
        let second = Duration::from_secs(1);
        assert_eq!(division(10 * second), (5, 2 * second));
        assert_eq!(division(second), (1, second));
        assert_eq!(division(5 * second), (3, 5 * second / 3));
        assert_eq!(division(Duration::ZERO), (1, Duration::ZERO));
    }
}
