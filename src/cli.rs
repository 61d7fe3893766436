//! What can be said on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Exit status: done.
pub const EXIT_DONE: u8 = 0;
/// Exit status: it did not work, or did not work in full.
pub const EXIT_FAILED: u8 = 1;
/// Exit status: the command line or the configuration is wrong. clap uses it as well.
pub const EXIT_USAGE: u8 = 2;

const AFTER_HELP: &str = "\
Begin here:
  trailship demo                                    see it work, without any account
  trailship run --config config.example.toml        ship a folder of log files to another
  trailship check                                   say what is wrong with a configuration

Without --config the configuration is what the variable TRAILSHIP_CONFIG_TOML holds, else the file that
TRAILSHIP_CONFIG names, else trailship.toml.

Exit status: 0 done, 1 failed, 2 wrong command line or configuration.";

/// Ships AWS CloudTrail from S3 to the systems that security teams search.
#[derive(Debug, Parser)]
#[command(name = "trailship", version, about, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration; "-" is standard input
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ship what the sources bring, until told to stop (SIGTERM or ctrl-C)
    Run,
    /// Say what is wrong: the configuration first, then queues, buckets and every sink, live
    Check(Check),
    /// Ship log files from this machine, once, to the sinks of the configuration
    ///
    /// Ends when every required sink has every event. What cannot be delivered is tried again for the sink's
    /// retry.give_up_after; then the command names what is owed, and fails. No queue is read.
    Ship(Ship),
    /// Send dead letters again, through the sinks that refused them
    ///
    /// Takes the letters from every place that the configuration has for them. A letter whose event is delivered is
    /// taken away; one that is refused again, or cannot be delivered, stays. Events keep their ids: a destination that
    /// takes ids does not store one twice. A running agent need not be stopped. What cannot be delivered is tried again
    /// for the sink's retry.give_up_after. A letter about a log file that could not be read holds no event: it is told,
    /// and stays.
    ///
    /// Exit status: 0 no letter stays but those that --only passes by, 1 some do, 2 wrong command line or
    /// configuration.
    Redrive(Redrive),
    /// Write synthetic log files, as CloudTrail would have written them
    Sample(Sample),
    /// Run everything in this one process: the agent, a queue, a bucket, and stand-ins for the destinations
    ///
    /// Needs no account, no configuration and no network. Prints what arrives and where to look.
    Demo(Demo),
    /// Ask a running agent whether it is alive (its /livez); for containers that have no shell
    Healthcheck(Healthcheck),
}

/// How to check.
#[derive(Args, Debug)]
pub struct Check {
    /// Look at the configuration alone: nothing is connected to
    #[arg(long)]
    pub offline: bool,
    /// Print the configuration in effect, with defaults and without secrets
    #[arg(long)]
    pub print: bool,
    /// Let warnings fail as well
    #[arg(long)]
    pub strict: bool,
    /// Set up what a destination needs, such as index templates
    #[arg(long, conflicts_with = "offline")]
    pub apply: bool,
    /// Send one event that says it is a test to every sink, and report what becomes of it
    #[arg(long, conflicts_with = "offline")]
    pub send_test_event: bool,
}

/// What to ship.
#[derive(Args, Debug)]
pub struct Ship {
    /// Log files (.json.gz or .json), or folders of them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Which letters to send, and where.
#[derive(Args, Debug)]
pub struct Redrive {
    /// Take letters from here instead: a file, s3://bucket/prefix, or a queue's address; may be repeated
    #[arg(long, value_name = "PLACE")]
    pub from: Vec<String>,
    /// Only the letters of this sink
    #[arg(long, value_name = "SINK")]
    pub only: Option<String>,
    /// Deliver to this sink instead of the one that a letter names
    #[arg(long, value_name = "SINK")]
    pub sink: Option<String>,
    /// Send nothing: delete what this sink, which is no longer configured, was still owed (hand-offs on the queue)
    #[arg(long, value_name = "SINK", conflicts_with_all = ["from", "only", "sink"])]
    pub forget: Option<String>,
    /// Say what would be sent; send and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What to write.
#[derive(Args, Debug)]
pub struct Sample {
    /// The folder to write to, with CloudTrail's own folders below it
    #[arg(long, value_name = "DIR", default_value = "samples")]
    pub out: PathBuf,
    /// How many log files
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub files: u32,
    /// How many events at most in a log file
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub events: u32,
    /// The same number gives the same log files
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// How to demonstrate.
#[derive(Args, Debug)]
pub struct Demo {
    /// End after so many seconds; without it, at ctrl-C
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// The port of the status page; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 7464)]
    pub port: u16,
    /// The same number gives the same events
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Keep the folder with what was written, and print where it is
    #[arg(long)]
    pub keep: bool,
}

/// Whom to ask.
#[derive(Args, Debug)]
pub struct Healthcheck {
    /// The agent's address; without it, agent.listen of the configuration
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(words.split(' '))
    }

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_can_be_named_before_and_behind_the_command() {
        for words in ["trailship --config a.toml run", "trailship run --config a.toml"] {
            assert_eq!(parse(words).unwrap().config, Some(PathBuf::from("a.toml")), "{words}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for words in [
            "trailship",
            "trailship shipp",
            "trailship ship",
            "trailship check --offline --apply",
            "trailship check --offline --send-test-event",
            "trailship redrive letters.ndjson",
            "trailship sample --files 0",
            "trailship healthcheck --address nowhere",
        ] {
            assert_eq!(parse(words).unwrap_err().exit_code(), i32::from(EXIT_USAGE), "{words}");
        }
    }

    #[test]
    fn commands_take_their_options() {
        let Command::Sample(sample) =
            parse("trailship sample --out d --files 3 --events 4 --seed 5").unwrap().command
        else {
            unreachable!()
        };
        assert_eq!((sample.out.to_str(), sample.files, sample.events, sample.seed), (Some("d"), 3, 4, 5));
        let Command::Ship(ship) = parse("trailship ship a b").unwrap().command else { unreachable!() };
        assert_eq!(ship.paths.len(), 2);
    }
}
