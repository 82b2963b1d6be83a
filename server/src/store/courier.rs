//! Carries answers from the writer to the workers, a group's worth at a time.
//!
//! Waking a task of another thread costs a system call. A group of 200 answers woken one by one would cost 200; carried
//! in one parcel for each worker, and handed out by a task of that worker, it costs one.

use std::cell::RefCell;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::store::command::Answer;

/// Parcels on their way to one worker. The writer sends one a group, and waits where a worker is that far behind.
const PARCELS_MAX: usize = 64;

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Courier>> = const { RefCell::new(None) };
}

/// The way back to a worker.
#[derive(Clone, Debug)]
pub struct Courier(Sender<Vec<Answer>>);

impl Courier {
    /// Employs a courier for this thread, whose runtime has to run the future that comes back.
    pub fn employ() -> impl Future<Output = ()> {
        let (sender, parcels) = channel(PARCELS_MAX);
        OF_THIS_THREAD.with_borrow_mut(|courier| *courier = Some(Self(sender)));
        hand_out(parcels)
    }

    /// The courier of this thread, if it has one.
    pub(crate) fn of_this_thread() -> Option<Self> {
        OF_THIS_THREAD.with_borrow(Clone::clone)
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }

    /// Sends a parcel; where the worker has ended, nobody waits for it any more.
    pub(crate) fn send(&self, parcel: Vec<Answer>) {
        drop(self.0.blocking_send(parcel));
    }
}

async fn hand_out(mut parcels: Receiver<Vec<Answer>>) {
    while let Some(parcel) = parcels.recv().await {
        parcel.into_iter().for_each(Answer::send);
    }
}
