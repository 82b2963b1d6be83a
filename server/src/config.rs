//! Settings: what they are called everywhere, where each value came from, and what they mean together.

pub mod layers;
pub mod setting;
pub mod upstream;
pub mod values;

pub use layers::{Layers, Origin};
pub use setting::{SETTINGS, Setting};
pub use upstream::Upstream;
pub use values::Config;
