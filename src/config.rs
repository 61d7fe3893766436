//! The configuration: one TOML document with overlays and variables from the environment, checked once.

mod check;
mod de;
mod interpolate;
mod load;
mod machine;
mod model;
mod overlay;
mod problem;
mod raw;
mod remote;
mod settings;
mod tree;
mod units;
pub(crate) mod url;

pub use load::{ConfigSource, Draft, load};
pub use machine::Machine;
pub use model::*;
pub use problem::ConfigError;
pub use remote::{RemoteSecret, SecretPlace, SecretSource, SecretTexts};

#[cfg(test)]
mod tests;
