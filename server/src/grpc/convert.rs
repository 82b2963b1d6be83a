//! Wire types into domain types, and back.

pub mod decision;
pub mod document;
pub mod fields;
pub mod grant;
pub mod request;
