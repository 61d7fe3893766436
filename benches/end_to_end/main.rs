//! What the agent's process costs: CPU time for a million events, memory, and the size of the binary.
//!
//! The release binary reads from the stand-ins for SQS and S3 and delivers to an Elasticsearch that only counts.
//! `cargo bench --bench end_to_end -- small huge` measures only what is named so: idle, typical, small, large, huge.
#![allow(clippy::print_stdout, reason = "it prints")]

mod agent;
mod destination;
mod huge;
mod stage;

use std::time::Duration;

use anyhow::ensure;

use agent::Agent;
use stage::{Load, Stage};

/// Each load runs so often; the median of the CPU time counts, and the highest memory.
const ROUNDS: usize = 3;

/// How long the agent has nothing to do before its idle memory is read.
const IDLE: Duration = Duration::from_secs(10);

/// What one log file of any size may make of the process.
const PEAK_BYTES_MAX: u64 = 96 << 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Cargo adds options of its own.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
    println!("binary: {:.1} MB\n", std::fs::metadata(agent::BINARY)?.len() as f64 / 1e6);
    if is_wanted("idle") {
        idle().await?;
    }
    for load in [
        Load { name: "typical log files, 400 events each", files: 2500, events_each: 400, distinct: 100 },
        Load { name: "small log files, 20 events each", files: 10_000, events_each: 20, distinct: 1000 },
        Load { name: "large log files, 50,000 events each", files: 20, events_each: 50_000, distinct: 2 },
    ] {
        if is_wanted(load.name) {
            measure(&load).await?;
        }
    }
    if is_wanted("huge") {
        huge().await?;
    }
    Ok(())
}

/// An agent without traffic.
async fn idle() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let agent = Agent::run(&stage).await?;
    let before = agent.cpu_time()?;
    tokio::time::sleep(IDLE).await;
    let (resident, cpu) = (agent.resident_bytes()?, agent.cpu_time()? - before);
    println!("idle for {} s: {} of memory, {} ms of CPU\n", IDLE.as_secs(), mib(resident), cpu.as_millis());
    Ok(())
}

async fn measure(load: &Load) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let (mut peak, mut rate) = (0, 0.0);
    let files = load.generate();
    for _ in 0..ROUNDS {
        let stage = Stage::set().await?;
        stage.store(load, &files)?;
        let mut agent = Agent::run(&stage).await?;
        let (before, started) = (agent.cpu_time()?, tokio::time::Instant::now());
        stage.announce(load)?;
        stage.wait_for(load.events(), &mut agent).await?;
        times.push(agent.cpu_time()? - before);
        rate = f64::max(rate, load.events() as f64 / started.elapsed().as_secs_f64());
        peak = peak.max(agent.peak_bytes()?);
    }
    times.sort_unstable();
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("{}, {} events of {} bytes", load.name, load.events(), load.json_bytes_each(&files));
    println!("  {:>8.2} CPU s for a million events", median.as_secs_f64() * 1e6 / load.events() as f64);
    println!("  {:>8.0} CPU µs for a log file", median.as_secs_f64() * 1e6 / load.files as f64);
    println!("  {:>8.0} k events/s at best, all on one machine", rate / 1e3);
    println!("  {:>8} of memory at the peak\n", mib(peak));
    Ok(())
}

/// One log file that inflates to 1 GiB, by both ways in.
async fn huge() -> anyhow::Result<()> {
    let file = huge::LogFile::generate(1 << 30)?;
    println!("one log file of 1 GiB, {} events, {} compressed", file.events, mib(file.gz_bytes()?));
    let stage = Stage::set().await?;
    let shipped = Agent::ship(file.path())?;
    ensure!(shipped.lines == file.events, "{} lines for {} events", shipped.lines, file.events);
    println!("  {:>8} of memory at the peak: `ship` to a file", mib(shipped.peak_bytes));
    stage.store_file(file.path())?;
    let mut agent = Agent::run(&stage).await?;
    stage.announce_file()?;
    stage.wait_for(file.events, &mut agent).await?;
    let peak = agent.peak_bytes()?;
    println!("  {:>8} of memory at the peak: SQS and S3 to Elasticsearch", mib(peak));
    let worst = peak.max(shipped.peak_bytes);
    ensure!(
        worst <= PEAK_BYTES_MAX,
        "{} of memory at the peak are more than {}",
        mib(worst),
        mib(PEAK_BYTES_MAX)
    );
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
