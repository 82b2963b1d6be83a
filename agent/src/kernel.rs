//! The kernel's side: the sets by `nft`, connections by `conntrack`. The only module that starts programs.

mod flows;
mod listing;
mod program;
pub(crate) mod sets;

use std::path::PathBuf;

use podgate_engine::time::WallTime;
use tracing::info;

use crate::{
    books::Change,
    door::{Element, Family},
    kernel::{
        flows::{Closing, FLOWS_MAX},
        listing::ListingError,
        program::{ProgramError, run},
        sets::Sets,
    },
};

/// Whether connections are closed that are not allowed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Connections {
    /// By taking them out of the kernel's table of connections.
    Close,
    /// They stay as they are: the operator's rules look each packet up, or mean to let them go on.
    Keep,
}

/// Why the kernel is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// A program failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// What it lists makes no sense.
    #[error(transparent)]
    Listing(#[from] ListingError),
}

/// The firewall of this network namespace.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The sets.
    pub(crate) sets: Sets,
    /// The `nft` program.
    pub(crate) nft: PathBuf,
    /// The `conntrack` program.
    pub(crate) conntrack: PathBuf,
    /// What becomes of connections.
    pub(crate) connections: Connections,
}

impl Kernel {
    /// Makes the sets where they are not there, and finds out whether connections can be closed.
    pub(crate) async fn prepare(&self) -> Result<(), KernelError> {
        self.nft(&self.sets.creation()).await?;
        match self.connections {
            Connections::Close => {
                run(&self.conntrack, &["-C"], "").await?;
            }
            Connections::Keep => {}
        }
        Ok(())
    }

    /// What is in the sets.
    pub(crate) async fn list(&self, now: WallTime) -> Result<Vec<(Element, WallTime)>, KernelError> {
        let mut all = Vec::new();
        for family in Family::ALL {
            let (table, set) = (self.sets.table.to_string(), self.sets.name(family));
            let json = run(&self.nft, &["-j", "list", "set", "inet", &table, &set], "").await?;
            all.extend(listing::elements(&json, now)?);
        }
        Ok(all)
    }

    /// Makes a change, all of it or nothing.
    pub(crate) async fn apply(&self, change: &Change, now: WallTime) -> Result<(), KernelError> {
        self.nft(&self.sets.transaction(change, now)).await
    }

    /// Closes the connections of what is not open any more.
    pub(crate) async fn close(&self, elements: &[Element]) -> Result<(), KernelError> {
        match self.connections {
            Connections::Keep => return Ok(()),
            Connections::Close => {}
        }
        let closing = Closing::of(elements);
        for kind in closing.listings() {
            loop {
                let listed = run(&self.conntrack, &flows::listing(kind), "").await?;
                let flows = closing.among(kind, &listed);
                if flows.is_empty() {
                    break;
                }
                run(&self.conntrack, &["-R", "-"], &flows::deletion(&flows)).await?;
                info!(flows = flows.len(), "closed connections that are not allowed any more");
                if flows.len() < FLOWS_MAX {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn nft(&self, script: &str) -> Result<(), KernelError> {
        run(&self.nft, &["-f", "-"], script).await?;
        Ok(())
    }
}
