//! What the writer is asked to do, and how it answers.

use std::{net::IpAddr, sync::Arc, time::Duration};

use podgate_engine::{
    grant::{Grant, GrantId},
    lease::{Narrowing, NewGrant, Renewal},
};
use tokio::sync::oneshot;

use crate::store::{StoreError, courier::Courier, database::Kind};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Grant(Box<NewGrant>, Reply<Arc<Grant>>, Option<Courier>),
    Renew(Box<Extension>, Reply<Arc<Grant>>, Option<Courier>),
    Redecide(Vec<Redecided>, Reply<u32>),
    End(Ending, Reply<u32>),
    PutDocument(Kind, String, Vec<u8>, Reply<()>),
    DeleteDocument(Kind, String, Reply<()>),
    /// How far an app's slots may be told.
    Reserve(Arc<str>, Frontier, Reply<()>, Option<Courier>),
    /// The keys of tickets.
    PutKeys(Vec<u8>, Reply<()>),
    Forget(Vec<GrantId>, Reply<()>),
}

/// Nanoseconds on the kept clock, and T of the app's bucket.
pub(crate) type Frontier = (i64, Duration);

/// Who speaks of a grant as its holder.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The grant.
    pub id: GrantId,
    /// Uid of its holder; a grant of another is left alone.
    pub uid: String,
    /// The generation that the holder knows; 0: any.
    pub generation: u64,
    /// The address that the call comes from, where that has to be the grant's.
    pub from: Option<IpAddr>,
}

impl Claim {
    /// Whether the grant is the one meant, and its holder's, whatever its generation.
    pub(crate) fn is_of(&self, grant: &Grant) -> bool {
        self.id == grant.id
            && *grant.subject.kind.uid() == *self.uid
            && self.from.is_none_or(|from| from == grant.subject.address)
    }
}

/// A lease that is to be extended.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Whose.
    pub claim: Claim,
    /// By what.
    pub renewal: Renewal,
}

/// What another policy leaves of a grant.
#[derive(Clone, Debug)]
pub enum Redecided {
    /// So much.
    Narrowed(GrantId, Narrowing),
    /// Nothing of this generation.
    Ended(GrantId, u64),
}

/// Which grants are to end.
#[derive(Clone, Debug)]
pub enum Ending {
    /// The holder gives it back; a later generation than it knows is left alone.
    Release(Claim),
    /// Someone takes it back.
    Revoke(Target),
    /// Its time is over; at most so many at once.
    Expire(usize),
}

/// Whose grants are taken back.
#[derive(Clone, Debug)]
pub enum Target {
    /// This one.
    Grant(GrantId),
    /// All of an app.
    App(String),
    /// All on an address, whatever the cluster.
    Address(IpAddr),
}

#[derive(Debug)]
pub(crate) enum Answer {
    Granted(Arc<Grant>, Reply<Arc<Grant>>),
    Refused(StoreError, Reply<Arc<Grant>>),
    Ended(u32, Reply<u32>),
    Written(Reply<()>),
}

impl Answer {
    pub(crate) fn granted(result: Result<Arc<Grant>, StoreError>, reply: Reply<Arc<Grant>>) -> Self {
        match result {
            Ok(grant) => Self::Granted(grant, reply),
            Err(refusal) => Self::Refused(refusal, reply),
        }
    }

    // Whoever waited may have left; what is durable stays so.
    pub(crate) fn send(self) {
        match self {
            Self::Granted(grant, reply) => drop(reply.send(Ok(grant))),
            Self::Refused(refusal, reply) => drop(reply.send(Err(refusal))),
            Self::Ended(count, reply) => drop(reply.send(Ok(count))),
            Self::Written(reply) => drop(reply.send(Ok(()))),
        }
    }

    pub(crate) fn fail(self) {
        match self {
            Self::Granted(_, reply) | Self::Refused(_, reply) => {
                drop(reply.send(Err(StoreError::NotWritten)));
            }
            Self::Ended(_, reply) => drop(reply.send(Err(StoreError::NotWritten))),
            Self::Written(reply) => drop(reply.send(Err(StoreError::NotWritten))),
        }
    }
}
