//! What an operator can observe: a configuration goes in; requests, log lines and files come out of the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
mod bench;
mod config;

mod checks;
mod configuration;
mod crash;
mod elasticsearch;
mod full_run;
mod isolation;
mod loggly_sumo;
#[cfg(target_os = "linux")]
mod memory;
mod odd_inputs;
mod redrive;
mod rotation;
mod secrets;
mod shutdown;
mod splunk;
