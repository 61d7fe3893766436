//! Sends dead letters again through their sinks, and says of each what became of it.

mod bucket;
mod file;
mod place;
mod queue;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cloudtrail::{ObjectKey, Timestamp};
use futures_util::future::join_all;
use sinks::{DeadLetterStore, Lane, LaneState, Letter, Share};

use crate::app::App;
use crate::meter::{rfc3339, state_name};
use crate::sources::Stop;

pub use place::{Place, open, parse};

/// What becomes of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its event is delivered: the letter is not needed any more.
    Delivered,
    /// It was not asked for.
    Passed,
    /// It stays: the destination has refused the event again.
    Refused(String),
    /// It stays: the sink did not get that far.
    Undelivered(String),
    /// It stays: there is no event in it that could be sent.
    NoEvent(String),
}

impl Fate {
    /// Whether the letter stays where it is.
    pub fn stays(&self) -> bool {
        *self != Self::Delivered
    }
}

/// Which letters go where.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only the letters of this sink.
    pub only: Option<String>,
    /// To this sink instead of the one that the letter names.
    pub sink: Option<String>,
}

/// Stands in for the places of dead letters: what is refused again has its letter already.
#[derive(Default)]
pub struct RefusedAgain(Mutex<HashMap<Identity, String>>);

/// What tells letters apart: sink, bucket, key, version, position.
type Identity = (Option<String>, String, String, Option<String>, u64);

impl RefusedAgain {
    fn reason(&self, identity: &Identity) -> Option<String> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(identity).cloned()
    }
}

#[async_trait]
impl DeadLetterStore for RefusedAgain {
    async fn store(&self, letters: &[Letter]) -> io::Result<()> {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for letter in letters {
            let reason = format!("{}: {}", letter.reason_code, letter.reason);
            refused.insert(identity(letter, letter.sink.as_deref()), reason);
        }
        Ok(())
    }
}

fn identity(letter: &Letter, sink: Option<&str>) -> Identity {
    let sink = sink.map(str::to_owned);
    (sink, letter.bucket.clone(), letter.key.clone(), letter.version_id.clone(), letter.record_index)
}

/// Sends letters through the lanes of an agent.
pub struct Redrive {
    app: App,
    refused: Arc<RefusedAgain>,
    choice: Choice,
    /// Why lanes are of no use any more, by position.
    shut: BTreeMap<usize, String>,
}

/// A letter on its way.
struct Sent {
    /// Its position among those that were given.
    at: usize,
    lane: usize,
    share: Share,
    index: u64,
    identity: Identity,
}

impl Redrive {
    /// A redrive over an agent whose dead letters go to `refused`.
    pub fn new(app: App, refused: Arc<RefusedAgain>, choice: Choice) -> Self {
        Self { app, refused, choice, shut: BTreeMap::new() }
    }

    /// The sink that a letter is for, as far as it has an event at all.
    ///
    /// # Errors
    /// What becomes of it without being sent.
    pub fn sink_of<'a>(&'a self, text: &str) -> Result<(Letter, &'a Arc<Lane>), Fate> {
        let letter = Letter::read(text).map_err(Fate::NoEvent)?;
        if self.choice.only.is_some() && self.choice.only != letter.sink {
            return Err(Fate::Passed);
        }
        if letter.stage.is_some() {
            return Err(Fate::NoEvent(unread(&letter)));
        }
        if letter.record_omitted {
            let text = format!(
                "its record did not fit; it is event {} of {}",
                letter.record_index,
                place_of(&letter)
            );
            return Err(Fate::NoEvent(text));
        }
        let name = self.choice.sink.as_ref().or(letter.sink.as_ref());
        let name = name.ok_or_else(|| Fate::NoEvent("it names no sink: say --sink".to_owned()))?;
        let lanes = self.app.plan.lanes.all();
        match lanes.iter().find(|lane| lane.config().name == *name) {
            Some(lane) => Ok((letter, lane)),
            None => Err(Fate::NoEvent(format!("there is no [sinks.{name}]: say --sink, or add it"))),
        }
    }

    /// Sends the letters in `texts`, and waits until each has its fate, or `stop`.
    pub async fn send(&mut self, texts: &[String], stop: &Stop) -> Vec<Fate> {
        let mut fates = vec![Fate::Undelivered("told to stop".to_owned()); texts.len()];
        let mut sent = Vec::new();
        for (at, (text, fate)) in texts.iter().zip(&mut fates).enumerate() {
            let offered = tokio::select! {
                biased;
                () = stop.asked() => break,
                offered = self.offer(text, at) => offered,
            };
            match offered {
                Ok(one) => sent.push(one),
                Err(other) => *fate = other,
            }
        }
        let lanes: HashSet<usize> = sent.iter().map(|one| one.lane).collect();
        let waits = lanes.into_iter().map(|lane| self.wait_for(lane, &sent));
        let shut = tokio::select! {
            biased;
            shut = join_all(waits) => shut,
            () = stop.asked() => Vec::new(),
        };
        self.shut.extend(shut.into_iter().flatten());
        for one in sent {
            if let Some(fate) = fates.get_mut(one.at) {
                *fate = self.fate_of(&one, fate);
            }
        }
        fates
    }

    /// Gives one letter's event to its lane.
    async fn offer(&self, text: &str, at: usize) -> Result<Sent, Fate> {
        let (letter, lane) = self.sink_of(text)?;
        let plan = &self.app.plan;
        let position = plan.lanes.position(&lane.config().name).unwrap_or_default();
        if let Some(why) = self.shut.get(&position) {
            return Err(Fate::Undelivered(why.clone()));
        }
        let minute = ObjectKey::parse(&letter.key).minute.map(Timestamp::to_rfc3339_millis);
        let parcel = letter
            .parcel(rfc3339(plan.clock.now()), &self.app.config.agent.labels, minute, &plan.settings.fronts)
            .map_err(Fate::NoEvent)?;
        let charge = plan.lanes.charge(parcel.memory_bytes(1)).await;
        let parcel = Arc::new(parcel.with_charge(Some(charge)));
        let share = Share::new();
        lane.offer(&parcel, &share);
        let identity = identity(&letter, Some(&lane.config().name));
        Ok(Sent { at, lane: position, share, index: letter.record_index, identity })
    }

    /// Waits until a lane holds none of its letters, or is shut: then why.
    async fn wait_for(&self, position: usize, sent: &[Sent]) -> Option<(usize, String)> {
        let lane = self.app.plan.lanes.all().get(position)?;
        lane.flush();
        lane.hurry();
        let own = sent.iter().filter(|one| one.lane == position);
        let idle = join_all(own.map(|one| one.share.idle()));
        let state = tokio::select! {
            biased;
            _ = idle => lane.health().state(),
            shut = lane.health().wait_for(LaneState::is_shut) => shut,
        };
        match state.is_shut() {
            true => Some((position, self.why_shut(lane, &state).await)),
            false => None,
        }
    }

    /// Why a lane is shut. It may hold letters to probe with, one of which may open it again; that is not waited for.
    async fn why_shut(&self, lane: &Lane, state: &LaneState) -> String {
        // What is on its way settles meanwhile.
        self.app.plan.clock.sleep(Duration::from_millis(100)).await;
        let why = match state {
            LaneState::Unavailable(why) | LaneState::Denied(why) => why.to_string(),
            _ => String::new(),
        };
        format!("sink {} is {}: {why}", lane.config().name, state_name(state))
    }

    fn fate_of(&self, one: &Sent, otherwise: &Fate) -> Fate {
        if !one.share.account().settled.contains(one.index) {
            return match self.shut.get(&one.lane) {
                Some(why) => Fate::Undelivered(why.clone()),
                None => otherwise.clone(),
            };
        }
        match self.refused.reason(&one.identity) {
            Some(reason) => Fate::Refused(reason),
            None => Fate::Delivered,
        }
    }

    /// Ends the lanes.
    pub async fn finish(&self) {
        self.app.plan.lanes.finish(Duration::from_secs(5)).await;
    }
}

/// What helps where a log file could not be read.
fn unread(letter: &Letter) -> String {
    if letter.record.is_some() || letter.record_base64.is_some() {
        return format!("{} could not be read; all that came of it stands in the letter", letter.key);
    }
    let from = letter.record_index;
    format!(
        "{} could not be read from event {from} on: fetch it again and `trailship ship` it",
        place_of(letter)
    )
}

fn place_of(letter: &Letter) -> String {
    let version =
        letter.version_id.as_ref().map_or_else(String::new, |version| format!(" (version {version})"));
    match letter.bucket.as_str() {
        "file" => letter.key.clone(),
        bucket => format!("s3://{bucket}/{}{version}", letter.key),
    }
}
