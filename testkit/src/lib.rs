//! Everything the agent talks to, standing in for it: AWS, the destinations, log files, the ledger that judges,
//! and the ports for a simulation.

pub mod aws;
pub mod calendar;
pub mod destinations;
mod edge;
pub mod generate;
pub mod http;
pub mod ledger;
pub mod ports;
pub mod random;
pub mod time;
pub mod tls;

pub use edge::Moment;
