//! The program; everything it does is in the library, so that a simulation can run it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    trailship::main()
}
