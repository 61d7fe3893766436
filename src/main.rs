//! Ships AWS CloudTrail from S3 to the systems that security teams search.

// Until the commands use all of them.
#![allow(dead_code, unused_imports)]

mod admin;
mod cli;
mod config;

fn main() {}
