//! Ships AWS CloudTrail from S3 to the systems that security teams search.

#![allow(
    unreachable_pub,
    reason = "nothing but `main` and `simulation` can be reached: `pub` says what the rooms offer each other"
)]

mod admin;
mod app;
mod aws;
mod cli;
mod commands;
mod config;
mod dead_letters;
mod lanes;
mod ledger;
mod meter;
mod objects;
mod ports;
mod redrive;
mod secrets;
pub mod simulation;
mod sources;
mod status;
mod telemetry;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

/// The program: reads the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(16).build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(commands::run(cli));
            // What still runs has nothing to say any more: a resolver, a destination that hangs.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => {
            commands::complain(&format!("the system has no threads for the runtime: {error}"));
            ExitCode::from(cli::EXIT_FAILED)
        }
    }
}
