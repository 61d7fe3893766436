//! What an operator can observe: a configuration goes in; requests, log lines and files come out of the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
mod bench;
mod config;

mod checks;
mod configuration;
mod crash;
mod denied_bucket;
#[cfg(target_os = "linux")]
mod disk_full;
mod edges;
mod elasticsearch;
mod everywhere;
mod full_run;
mod handoff;
mod http_sink;
mod isolation;
mod ledger;
mod loggly_sumo;
mod logstash;
#[cfg(target_os = "linux")]
mod memory;
mod odd_inputs;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "parquet")]
mod parquet_merge;
mod redrive;
mod reload;
mod rotation;
mod secret_grep;
mod secrets;
mod security;
mod shutdown;
mod slow;
#[cfg(target_os = "linux")]
mod soak;
mod splunk;
mod syslog;
mod trouble;
