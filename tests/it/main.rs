//! What an operator can observe: a configuration goes in; requests, log lines and files come out of the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;
mod bench;
mod config;

mod crash;
mod full_run;
mod isolation;
mod odd_inputs;
mod shutdown;
