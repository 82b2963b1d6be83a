//! How the pods of a storm arrive.

use std::{num::NonZeroU32, time::Duration};

use crate::{cli::storm::BURST_MAX, quantity::Rate};

/// How pods arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// So many within a time.
    Storm {
        /// How many.
        pods: NonZeroU32,
        /// Within which time.
        spread: Duration,
    },
    /// More than can be admitted, for a time.
    Overload(Overload),
}

/// More pods than can be admitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overload {
    /// Pods by what the capacity admits.
    pub factor: f64,
    /// The capacity that all apps share.
    pub capacity: Rate,
    /// For how long they arrive.
    pub duration: Duration,
}

impl Arrivals {
    /// Pods in all.
    pub fn pods(&self) -> NonZeroU32 {
        match self {
            Self::Storm { pods, .. } => *pods,
            Self::Overload(overload) => overload.pods(),
        }
    }

    /// Time within which they arrive.
    pub fn spread(&self) -> Duration {
        match self {
            Self::Storm { spread, .. } => *spread,
            Self::Overload(overload) => overload.duration,
        }
    }
}

impl Overload {
    /// Pods in all, at least one.
    pub fn pods(&self) -> NonZeroU32 {
        let pods = self.factor * self.capacity.per_s() * self.duration.as_secs_f64();
        // Saturates.
        NonZeroU32::new(pods.round() as u32).unwrap_or(NonZeroU32::MIN)
    }

    /// What the capacity admits in one second, rounded up: its burst.
    pub fn capacity_burst(&self) -> u32 {
        (self.capacity.per_s().ceil() as u32).clamp(1, BURST_MAX)
    }
}
