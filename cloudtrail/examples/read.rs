//! Reads log files, says what they hold and who acted, and how fast one core reads them from memory.
//!
//! `cargo run --release -p cloudtrail --example read -- FILE…`
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "it prints, and measures real time")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cloudtrail::{ConsoleFrontEnds, Limits, LogFileEnd, LogFileReader, ReadError, classify};

/// How long each file is read again and again.
const MEASURED: Duration = Duration::from_secs(2);

/// The fetcher's slices have about this size.
const SLICE_BYTES: usize = 64 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut actors = BTreeMap::new();
    let mut events = 0;
    for path in std::env::args().skip(1) {
        let object = std::fs::read(&path)?;
        let end =
            read(&object, |kind, on_behalf_of| *actors.entry((kind, on_behalf_of)).or_insert(0u64) += 1)?;
        events += end.events;
        // The best of many passes: whatever else the machine does can only make a pass slower.
        let started = Instant::now();
        let mut seconds = f64::INFINITY;
        while started.elapsed() < MEASURED {
            let pass = Instant::now();
            read(&object, |_, _| {})?;
            seconds = seconds.min(pass.elapsed().as_secs_f64());
        }
        let megabytes = end.inflated_bytes as f64 / 1e6;
        println!(
            "{path}: {} with {} events, {megabytes:.1} MB at {:.0} MB/s",
            end.content.as_str(),
            end.events,
            megabytes / seconds
        );
    }
    println!("{events} events");
    for ((kind, on_behalf_of), count) in actors {
        println!("{count:>8} {kind}{}", if on_behalf_of { " (on behalf of)" } else { "" });
    }
    Ok(())
}

fn read(object: &[u8], mut seen: impl FnMut(&'static str, bool)) -> Result<LogFileEnd, ReadError> {
    let fronts = ConsoleFrontEnds::default();
    let mut reader = LogFileReader::new(Limits::default());
    let mut chunks = Vec::new();
    let mut look = |chunks: &mut Vec<cloudtrail::Chunk>| {
        for chunk in chunks.drain(..) {
            for event in chunk.events() {
                let actor = classify(&event, &fronts);
                seen(actor.kind.as_str(), actor.on_behalf_of);
            }
        }
    };
    for slice in object.chunks(SLICE_BYTES) {
        reader.push(slice, &mut chunks)?;
        look(&mut chunks);
    }
    let end = reader.finish(&mut chunks)?;
    look(&mut chunks);
    Ok(end)
}
