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
mod settings;
mod tree;
mod units;
mod url;

pub(crate) use load::{ConfigSource, load};
pub(crate) use machine::Machine;
pub(crate) use model::*;
pub(crate) use problem::{ConfigError, Location, Problem};

#[cfg(test)]
mod tests;
