//! `incident`: the collapse and the cure side by side, on real sockets, before the same slow backend.
//!
//! Each way is a storm of the same pods. In two of them the pods ask a plain ACL service and retry after a timeout, at
//! once or with full jitter; in the third they ask podgate, behind which the backend stands as its upstream.

pub mod backend;
mod counts;
pub mod plain_acl;
pub mod report;
mod serial;
mod way;

use std::{io, net::SocketAddr};

use crate::{
    child::{ChildError, Confinement, ServerChild, ServerCommand},
    cli::incident::IncidentArgs,
    console, descriptors,
    incident::{
        report::{IncidentReport, Run},
        way::Way,
    },
    storm::{self, StormError},
};

/// Why an incident could not be made or finished.
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    /// One of the storms could not.
    #[error(transparent)]
    Storm(#[from] StormError),
    /// The backend or the plain service could not be started, or died.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A file, a process or the backend's counts could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A storm refuses the command line that was made for it.
    #[error("a storm cannot be set up: {0}")]
    Setup(String),
}

impl IncidentError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Runs all three, one after the other. To be called on the main thread, inside a `LocalRuntime`.
pub async fn run(args: &IncidentArgs) -> Result<IncidentReport, IncidentError> {
    // The servers inherit what is raised here, and need it as much as the pods.
    descriptors::ensure(u64::from(args.pods.get())).map_err(StormError::from)?;
    let immediate = run_way(args, Way::Immediate).await?;
    let jitter = run_way(args, Way::Jitter).await?;
    let podgate = run_way(args, Way::Podgate).await?;
    Ok(IncidentReport { immediate, jitter, podgate, backend_time: args.backend_time })
}

async fn run_way(args: &IncidentArgs, way: Way) -> Result<Run, IncidentError> {
    console::remark(way.announcement());
    let directory = tempfile::Builder::new()
        .prefix("podgate-incident-")
        .tempdir()
        .map_err(IncidentError::io("making a temporary directory"))?;
    let child = |name, flag: &str, value: String| ServerCommand {
        name,
        arguments: vec![flag.into(), value.into()],
        directory: directory.path().to_owned(),
        confinement: Confinement::default(),
    };
    let work = format!("{}ms", args.backend_time.as_millis());
    let mut backend = child("backend", "--work", work).start().await?;
    let mut plain = match way {
        Way::Immediate | Way::Jitter => {
            let backend = backend.addresses.grpc.to_string();
            Some(child("plain-acl", "--backend", backend).start().await?)
        }
        Way::Podgate => None,
    };
    let asked = plain.as_ref().map_or(backend.addresses.grpc, |plain| plain.addresses.grpc);
    let storm_args = way.storm(args, asked)?;
    let storm::Storm { report, timeline } = tokio::select! {
        ended = storm::run(&storm_args) => ended?,
        death = backend.death() => return Err(death.into()),
        death = death_of(&mut plain) => return Err(death.into()),
    };
    let counts = counts::read(told_at(&backend)?).await.map_err(IncidentError::io("asking the backend"))?;
    for child in std::iter::once(&mut backend).chain(&mut plain) {
        child.kill().await.map_err(IncidentError::io("ending a server"))?;
    }
    directory.close().map_err(IncidentError::io("removing the temporary directory"))?;
    Ok(Run::new(args, report, timeline, counts))
}

/// Waits until it dies by itself; for ever where there is none.
async fn death_of(child: &mut Option<ServerChild>) -> ChildError {
    match child {
        Some(child) => child.death().await,
        None => std::future::pending().await,
    }
}

fn told_at(backend: &ServerChild) -> Result<SocketAddr, IncidentError> {
    let missing = || io::Error::other("the backend has not said where it tells its counts");
    backend.addresses.http.ok_or_else(missing).map_err(IncidentError::io("asking the backend"))
}
