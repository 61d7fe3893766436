//! One log file, from its first byte to the last outcome at the last sink.

pub mod fetch;
mod job;
mod pass;

pub use job::{JobEnd, LogFileJob, Owed, Plan};
pub use pass::ReadSettings;
