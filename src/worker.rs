//! One log file, from its first byte to the last outcome at the last sink.

pub mod fetch;
mod job;
mod pass;
#[cfg(test)]
mod tests;

pub use job::{JobEnd, JobObserver, LogFileJob, Owed, Plan};
pub use pass::{PassError, PassObserver, ReadSettings};
