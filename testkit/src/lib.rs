//! Everything the agent talks to, standing in for it: AWS, the destinations, log files, and the ledger that judges.

pub mod aws;
pub mod calendar;
pub mod generate;
pub mod http;
pub mod random;
