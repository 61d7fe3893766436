//! The stand-ins as processes, for tests that kill and restart the agent.

use std::io::{self, Write};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let ended = match args.next().as_deref() {
        Some("aws") => testkit::aws::serve(args).await,
        Some("destinations") => testkit::destinations::serve(args).await,
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "say what to run: aws or destinations")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Where the terminal is gone there is nobody to tell.
            let _ = writeln!(io::stderr(), "testkit: {e}");
            ExitCode::from(2)
        }
    }
}
