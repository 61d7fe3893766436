//! `trailship redrive`: sends dead letters again through their sinks.

mod forget;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Failure, complain, load_config, say, stop_at_signals};
use crate::app::{App, AppPorts, Choices};
use crate::cli::{Cli, EXIT_DONE, EXIT_FAILED, Redrive as Options};
use crate::config::{Config, DeadLetter};
use crate::redrive::{Choice, Fate, Place, Redrive, RefusedAgain, open, parse};
use crate::sources::Stop;
use crate::telemetry::Metrics;

/// The name under which metrics count what `redrive` reads.
const SOURCE: &str = "redrive";

/// Letters that stay are told one by one up to this number.
const TOLD_MAX: usize = 20;

/// What came of it.
#[derive(Default)]
struct Tally {
    delivered: u64,
    passed: u64,
    stay: u64,
    /// Letters that would be sent, by sink and the code of their reason.
    waiting: BTreeMap<(String, String), u64>,
    /// Whether a place could not be read or put in order.
    broken: bool,
}

/// Sends the letters.
pub async fn redrive(cli: &Cli, options: &Options) -> Result<u8, Failure> {
    let config = load_config(cli).await?;
    let (_ask, stop) = stop_at_signals();
    if let Some(sink) = &options.forget {
        return forget::forget(&config, sink, options.dry_run, &stop).await;
    }
    let places = places(&config, options)?;
    if let Some(name) =
        options.sink.as_ref().filter(|name| !config.sinks.iter().any(|sink| sink.name == **name))
    {
        return Err(Failure::Usage(format!("--sink {name}: there is no [sinks.{name}]")));
    }
    let sinks: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
    let metrics = Arc::new(Metrics::new(&[SOURCE.to_owned()], &sinks));
    let refused = Arc::new(RefusedAgain::default());
    let identities = places.iter().filter_map(|place| place.identity().map(str::to_owned)).collect();
    let choices = Choices { dead_letters: Some(refused.clone()), identities };
    let app = App::build_on(AppPorts::system()?, choices, config, metrics).await?;
    let identities = Arc::clone(&app.identities);
    let choice = Choice { only: options.only.clone(), sink: options.sink.clone() };
    let mut redrive = Redrive::new(app, refused, choice);
    let mut tally = Tally::default();
    for place in &places {
        let done = match open(place, &identities, options.dry_run).await {
            Ok(open) => take_from(open, &mut redrive, options.dry_run, &mut tally, &stop).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tally.broken = true;
            complain(&format!("{error:#}"));
        }
    }
    redrive.finish().await;
    Ok(report(&tally, options.dry_run, stop.is_asked()))
}

/// Where letters are taken from: what the command line names, else all that the configuration has.
fn places(config: &Config, options: &Options) -> Result<Vec<DeadLetter>, Failure> {
    let known = config.dead_letters();
    let places: Vec<DeadLetter> = match options.from.as_slice() {
        [] => known.into_iter().cloned().collect(),
        named => named
            .iter()
            .map(|text| parse(text, &known))
            .collect::<anyhow::Result<_>>()
            .map_err(|error| Failure::Usage(format!("--from {error}")))?,
    };
    if places.is_empty() {
        let text =
            "there are no dead letters: the configuration has no [dead_letter]; name a place with --from";
        return Err(Failure::Usage(text.to_owned()));
    }
    Ok(places)
}

/// Sends the letters of one place.
async fn take_from(
    mut place: Box<dyn Place>,
    redrive: &mut Redrive,
    dry_run: bool,
    tally: &mut Tally,
    stop: &Stop,
) -> anyhow::Result<()> {
    let mut result = Ok(());
    while !stop.is_asked() {
        let texts = match place.next().await {
            Ok(Some(texts)) => texts,
            Ok(None) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        let fates = if dry_run {
            texts.iter().map(|text| tally.look_at(redrive, text)).collect()
        } else {
            redrive.send(&texts, stop).await
        };
        for (text, fate) in texts.iter().zip(&fates) {
            tally.add(text, fate);
        }
        let stays: Vec<bool> = fates.iter().map(Fate::stays).collect();
        if let Err(error) = place.settle(&stays).await {
            result = Err(error);
            break;
        }
    }
    // Also after an error: what was taken aside has to be put back.
    let finished = place.finish().await;
    result.and(finished)
}

impl Tally {
    /// Counts a letter that would be sent.
    fn look_at(&mut self, redrive: &Redrive, text: &str) -> Fate {
        match redrive.sink_of(text) {
            Ok((letter, lane)) => {
                let key = (lane.config().name.clone(), letter.reason_code);
                *self.waiting.entry(key).or_default() += 1;
                Fate::Passed
            }
            Err(fate) => fate,
        }
    }

    fn add(&mut self, text: &str, fate: &Fate) {
        let why = match fate {
            Fate::Delivered => {
                self.delivered += 1;
                return;
            }
            Fate::Passed => {
                self.passed += 1;
                return;
            }
            Fate::Refused(why) => format!("refused again: {why}"),
            Fate::Undelivered(why) => format!("not delivered: {why}"),
            Fate::NoEvent(why) => why.clone(),
        };
        self.stay += 1;
        match self.stay {
            told if told <= TOLD_MAX as u64 => complain(&format!("{}: {why}", name_of(text))),
            next if next == TOLD_MAX as u64 + 1 => complain("and so on: further letters are only counted"),
            _ => {}
        }
    }
}

/// What a letter is called towards a person.
fn name_of(text: &str) -> String {
    match sinks::Letter::read(text) {
        Ok(letter) => {
            let sink = letter.sink.as_deref().unwrap_or("-");
            let event = letter.event_id.unwrap_or_else(|| format!("event {}", letter.record_index));
            format!("{sink} {event} of {}", letter.key)
        }
        Err(_) => {
            let start: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
            format!("{start}…")
        }
    }
}

/// Says what came of it; the exit status.
fn report(tally: &Tally, dry_run: bool, stopped: bool) -> u8 {
    if dry_run {
        for ((sink, code), count) in &tally.waiting {
            say(&format!("{sink}: {count} letters, refused as {code}"));
        }
        let all: u64 = tally.waiting.values().sum();
        say(&format!("{all} letters would be sent, {} could not be; nothing was changed", tally.stay));
    } else {
        say(&format!(
            "{} letters delivered and taken away, {} stay",
            tally.delivered,
            tally.stay + tally.passed
        ));
    }
    if stopped {
        complain("told to stop: what was not delivered stays");
    }
    if tally.stay == 0 && !tally.broken && !stopped { EXIT_DONE } else { EXIT_FAILED }
}
