//! The whole agent in a simulated world: virtual time, a network and disks that fail by a seed, and the ledger as judge.
//!
//! A seed that fails is printed, and replays exactly: `make simulate FIRST=seed SEEDS=1 TRACE=1` shows all of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod disk;
mod faults;
mod network;
mod outage;
mod run;
mod stage;
mod time;
mod trace;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use run::{Outcome, run};

/// As many seeds as every run of the tests takes.
const SEEDS: u64 = 50;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// As many log files as come during the outage in every run of the tests.
const OUTAGE_FILES: u64 = 3_000;

/// Runs a seed; what panicked is an error as well.
fn attempt(seed: u64, shown: bool) -> Result<Outcome, String> {
    let text = |panic: Box<dyn std::any::Any + Send>| match panic.downcast::<String>() {
        Ok(text) => format!("panic: {text}"),
        Err(panic) => format!("panic: {}", panic.downcast::<&str>().map_or("?", |text| *text)),
    };
    catch_unwind(AssertUnwindSafe(|| run(seed, shown))).unwrap_or_else(|panic| Err(text(panic)))
}

/// How many seeds went.
#[derive(Default)]
struct Runs {
    good: Vec<(u64, Outcome)>,
    bad: Vec<(u64, String)>,
}

/// Runs many seeds, on all processors.
fn run_all(seeds: std::ops::Range<u64>, shown: bool) -> Runs {
    let next = AtomicU64::new(seeds.start);
    let fails_fast = variable("TRAILSHIP_SIMULATION_FAIL_FAST", 0) > 0;
    let runs = Mutex::new(Runs::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Where one failure is enough, no seed is begun after it.
                while !fails_fast || runs.lock().unwrap().bad.is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match attempt(seed, shown) {
                        Ok(outcome) => runs.lock().unwrap().good.push((seed, outcome)),
                        Err(error) => {
                            eprintln!("seed {seed}: {error}");
                            runs.lock().unwrap().bad.push((seed, error));
                        }
                    }
                }
            });
        }
    });
    runs.into_inner().unwrap()
}

#[test]
fn whatever_fails_nothing_is_lost_or_invented_and_every_duplicate_has_a_cause() {
    let (first, count) =
        (variable("TRAILSHIP_SIMULATION_FIRST", 0), variable("TRAILSHIP_SIMULATION_SEEDS", SEEDS));
    let shown = variable("TRAILSHIP_SIMULATION_TRACE", 0) > 0;
    let Runs { good, bad } = run_all(first..first + count, shown);
    let mut struck: BTreeMap<&str, u64> = faults::names().into_iter().map(|name| (name, 0)).collect();
    for (_, outcome) in &good {
        outcome.struck.iter().for_each(|(name, times)| *struck.entry(name).or_default() += times);
    }
    let virtual_s: u64 = good.iter().map(|(_, outcome)| outcome.took.as_secs()).sum();
    let slowest = good.iter().map(|(_, outcome)| outcome.recovered_after.as_secs()).max().unwrap_or(0);
    let events: u64 = good.iter().map(|(_, outcome)| outcome.report.sinks[0].issued).sum();
    eprintln!(
        "{} seeds, {events} events, {virtual_s} s of virtual time, recovered within {slowest} s",
        good.len()
    );
    eprintln!("struck: {struck:#?}");
    eprintln!("fingerprint {}", fingerprint(&good));
    let failed: Vec<u64> = bad.iter().map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "seeds that failed: {failed:?}; {}", bad[0].1);
    if count >= SEEDS {
        let never: Vec<_> = struck.iter().filter(|(_, times)| **times == 0).collect();
        assert!(never.is_empty(), "faults that never struck: {never:?}");
    }
}

/// Of many runs: the same whenever the same seeds are run.
fn fingerprint(runs: &[(u64, Outcome)]) -> String {
    let all: BTreeMap<u64, &str> =
        runs.iter().map(|(seed, outcome)| (*seed, outcome.fingerprint.hash.as_str())).collect();
    trace::digest(format!("{all:?}").as_bytes())
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 4, 5] {
        let fingerprints = [run(seed, false), run(seed, false)]
            .map(|outcome| outcome.map_or_else(|error| panic!("{error}"), |outcome| outcome.fingerprint));
        assert_eq!(fingerprints[0], fingerprints[1], "seed {seed}");
        assert!(fingerprints[0].lines > 100);
    }
}

#[test]
fn a_sink_that_is_down_for_two_hours_delays_no_other_and_gets_everything_in_the_end() {
    let files = outage::log_files(variable("TRAILSHIP_OUTAGE_FILES", OUTAGE_FILES) as usize);
    let [up, down] = [false, true].map(|is_down| {
        outage::play(&files, is_down).unwrap_or_else(|error| panic!("down {is_down}: {error}"))
    });
    for (name, played) in [("up", &up), ("down", &down)] {
        eprintln!(
            "{name}: {} log files in waves that took {:?}, recovered after {:?}, {:?} bytes in flight, {} notifications \
             held, {} messages of hand-offs, {:?}, {} requests unanswered\n{}",
            files.len(),
            played.waves,
            played.recovered_after,
            played.memory,
            played.held_max,
            played.handoffs,
            played.requests,
            played.struck,
            played.report
        );
    }
    assert!(down.struck > 0, "the sink was never down");
    // One long poll after the other where nothing comes, and one for ten messages where something does.
    let polls = up.requests["ReceiveMessage"];
    assert!(polls <= 2 * 7200 / 20 + files.len() as u64, "{polls} requests for messages");
    for played in [&up, &down] {
        let (most, budget) = played.memory;
        assert!(most > 0 && most <= budget, "{most} bytes in flight with a budget of {budget}");
        assert!(played.report.passes(), "{}", played.report);
        let again =
            |name: &&str| played.report.sink(name).is_none_or(|sink| sink.stored_again + sink.conflicts > 0);
        let twice: Vec<&str> = outage::HEALTHY.map(stage::Sink::name).into_iter().filter(again).collect();
        assert!(twice.is_empty(), "got an event twice: {twice:?}\n{}", played.report);
    }
    let seconds =
        |waves: &[std::time::Duration]| waves.iter().map(std::time::Duration::as_secs_f64).sum::<f64>();
    let (without, with) = (seconds(&up.waves), seconds(&down.waves));
    assert!(with <= without * 1.1, "all waves took {with} s, not {without} s");
    // In the first, the agent has to find out that the sink is down.
    for (wave, (without, with)) in up.waves.iter().zip(&down.waves).enumerate().skip(1) {
        assert!(
            with.as_secs_f64() <= without.as_secs_f64() * 1.1,
            "wave {wave} took {with:?}, not {without:?}"
        );
    }
}
