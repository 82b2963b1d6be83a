//! What podgate decides, as pure code: no I/O, no async, no clock, no randomness. Time comes in as `now`, decisions
//! go out.
//!
//! In reading order:

pub mod time;

pub mod destination;
pub mod host;
pub mod port;
pub mod subject;
pub mod uid;

pub mod draft;
pub mod fault;

pub mod common_ports;
pub mod index;
pub mod name;
pub mod profile;

pub mod decision;
pub mod policy;

pub mod quota;

pub mod bucket;
mod meter;

pub mod rate_limiter;
pub mod rate_limits;

pub mod book;
pub mod calendar;
pub mod desk;
pub mod ticket;

pub mod grant;
pub mod guard;
pub mod lease;
pub mod shared;

pub mod digest;
