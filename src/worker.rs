//! One log file, from its first byte to the last outcome at the last sink.

pub mod fetch;
mod handoff;
mod job;
mod owed;
mod pass;
mod plan;
#[cfg(test)]
mod tests;

pub use handoff::{HandOffError, HandOffs, Parting};
pub use job::LogFileJob;
pub use owed::{Bundle, Owed};
pub use pass::{PassError, PassObserver, ReadSettings};
pub use plan::{JobEnd, JobObserver, Plan, Remains};
