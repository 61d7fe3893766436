//! What an operator can observe: a configuration goes in; requests, log lines and files come out of the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
mod bench;
mod config;

mod checks;
mod configuration;
mod crash;
mod elasticsearch;
mod everywhere;
mod full_run;
mod handoff;
mod http_sink;
mod isolation;
mod loggly_sumo;
mod logstash;
#[cfg(target_os = "linux")]
mod memory;
mod odd_inputs;
#[cfg(feature = "parquet")]
mod parquet;
mod redrive;
mod rotation;
mod secrets;
mod shutdown;
mod splunk;
mod syslog;
