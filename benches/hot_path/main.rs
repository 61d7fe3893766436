//! How fast one core takes log files from gzip to a compressed Elasticsearch body, beside what gzip alone costs.
#![allow(clippy::print_stdout, reason = "it prints")]

mod cpu;
mod limit;
mod pipeline;

use std::time::Duration;

use anyhow::bail;
use testkit::generate::Generator;

use pipeline::{Pipeline, Stage};

/// Both sides take turns so often; the median counts.
const ROUNDS: usize = 9;

/// JSON that one side takes in one round, at least: the kernel accounts for CPU time in ticks of some ms.
const ROUND_BYTES: u64 = 100_000_000;

/// Log files of one size.
struct Workload {
    name: &'static str,
    files: Vec<Vec<u8>>,
    events: u64,
    json_bytes: u64,
}

impl Workload {
    fn generate(name: &'static str, files: usize, events_each: usize) -> Self {
        let mut generator = Generator::new(7);
        let mut made = Self { name, files: Vec::new(), events: 0, json_bytes: 0 };
        for _ in 0..files {
            let file = generator.log_file(events_each);
            made.events += file.issued.len() as u64;
            made.json_bytes += file.json.len() as u64;
            made.files.push(file.gz);
        }
        made
    }
}

fn main() -> anyhow::Result<()> {
    println!("One core, CPU time, median of {ROUNDS} rounds; MB are 10^6 bytes of inflated JSON.\n");
    for workload in [
        Workload::generate("typical log files, 400 events each", 100, 400),
        Workload::generate("small log files, 20 events each", 2000, 20),
        Workload::generate("a large log file, 50,000 events", 1, 50_000),
    ] {
        measure(&workload)?;
    }
    Ok(())
}

fn measure(workload: &Workload) -> anyhow::Result<()> {
    let pipeline = Pipeline::new()?;
    let passes = ROUND_BYTES.div_ceil(workload.json_bytes);
    let mut bodies = Vec::new();
    pipeline.run(&workload.files, Stage::Encode, |body| bodies.push(body.flatten()))?;
    let (mut limits, mut limits_of_bodies) = (Vec::new(), Vec::new());
    let mut stages = vec![Vec::new(); Stage::ALL.len()];
    let (mut body_bytes, mut sent_bytes) = (0, 0);
    for _ in 0..ROUNDS {
        limits.push(cpu::measure(passes, || limit::recompress(&workload.files))?);
        limits_of_bodies.push(cpu::measure(passes, || limit::compress(&workload.files, &bodies))?);
        for (stage, times) in Stage::ALL.iter().zip(&mut stages) {
            times.push(cpu::measure(passes, || {
                let done = pipeline.run(&workload.files, *stage, |_| {})?;
                if done.events != workload.events {
                    bail!("{} events came out of {}", done.events, workload.events);
                }
                (body_bytes, sent_bytes) = (done.body_bytes, done.sent_bytes);
                Ok(())
            })?);
        }
    }
    let limits = [median(limits), median(limits_of_bodies)];
    let stages: Vec<Duration> = stages.into_iter().map(median).collect();
    report(workload, limits, &stages, (body_bytes, sent_bytes));
    Ok(())
}

fn report(workload: &Workload, limits: [Duration; 2], stages: &[Duration], (body, sent): (u64, u64)) {
    let line = |name: &str, took: Duration| {
        let speed = workload.json_bytes as f64 / 1e6 / took.as_secs_f64();
        let rate = workload.events as f64 / 1e3 / took.as_secs_f64();
        println!("  {name:<44} {speed:>6.0} MB/s {rate:>6.0} k events/s");
    };
    let whole = stages.last().copied().unwrap_or_default();
    let each = workload.json_bytes / workload.events;
    println!("{}, {} events of {each} bytes", workload.name, workload.events);
    line("gzip to compressed Elasticsearch body", whole);
    for (name, limit) in
        ["gunzip and gzip 1 of the same JSON", "gunzip and gzip 1 of the same bodies"].iter().zip(limits)
    {
        line(name, limit);
        println!("    ratio {:.2}", limit.as_secs_f64() / whole.as_secs_f64());
    }
    let mut before = Duration::ZERO;
    for (stage, took) in Stage::ALL.iter().zip(stages) {
        let alone = took.saturating_sub(before);
        let nanos = alone.as_nanos() / u128::from(workload.events);
        let share = 100.0 * alone.as_secs_f64() / whole.as_secs_f64();
        println!("    {:<42} {share:>6.0} %    {nanos:>6} ns an event", stage.name());
        before = *took;
    }
    let (growth, ratio) = (body as f64 / workload.json_bytes as f64, body as f64 / sent as f64);
    println!(
        "  bodies have {growth:.2} times the bytes of the JSON, and are sent {ratio:.1} times smaller\n"
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
