//! The gate of one bucket: open, or shut with one probe at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sinks::ports::Clock;
use tokio::sync::Notify;

/// Before the first probe; each failure doubles it.
const PROBE_MIN: Duration = Duration::from_secs(1);

/// Between two probes at most.
const PROBE_MAX: Duration = Duration::from_secs(60);

/// A probe that has not answered after so long has been given up by whoever sent it.
const PROBE_TIME: Duration = Duration::from_secs(60);

/// Where another object could be read within this time, a denial may be the object's own affair.
const WITNESS_TIME: Duration = Duration::from_secs(10);

/// Objects that are remembered to be denied by themselves.
const APART_MAX: usize = 1_000;

/// A bucket that is paused, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PausedBucket {
    /// Its name.
    pub bucket: String,
    /// What S3 said.
    pub text: String,
    /// What helps.
    pub remedy: &'static str,
    /// For how long it has been paused.
    pub age: Duration,
    /// Log files that wait for it.
    pub waiting: usize,
}

/// The gate of one bucket.
pub(super) struct Gate {
    source: String,
    bucket: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Wakes those who wait, in the order in which they came, for everything that they should know.
    changes: Notify,
}

#[derive(Default)]
struct State {
    pause: Option<Pause>,
    waiting: usize,
    /// When the last object was asked for that could be read.
    let_in_at: Option<Duration>,
    /// Keys that were denied while others were let in.
    apart: VecDeque<String>,
}

struct Pause {
    since: Duration,
    /// The object that was denied.
    key: String,
    text: String,
    kind: Kind,
    next_probe: Duration,
    delay: Duration,
    probe: Option<Probe>,
    /// The last that was tried.
    tried: String,
}

struct Probe {
    began: Duration,
}

/// What is wrong, by what S3 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Access,
    Key,
    NoBucket,
    Region,
}

impl Kind {
    /// Judges the text of a denial: `s3://bucket/key: Code (HTTP 403) message`.
    /// Sources: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/troubleshoot-403-errors.html>
    pub(super) fn of(text: &str) -> Self {
        // A key may hold anything, so it is not looked at.
        let (before, message) = text.rsplit_once(" (HTTP ").unwrap_or(("", text));
        let code = before.rsplit(' ').next().unwrap_or_default();
        if code == "NoSuchBucket" {
            Self::NoBucket
        } else if message.contains("the bucket is in") {
            Self::Region
        } else if code.to_ascii_lowercase().contains("kms") || message.to_ascii_lowercase().contains("kms") {
            Self::Key
        } else {
            Self::Access
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Key => "kms",
            Self::NoBucket => "no_such_bucket",
            Self::Region => "region",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Access => {
                "allow the role s3:GetObject there and see that the bucket's policy does not deny it; where `buckets` \
                 names an `owner`, the bucket has to be that account's"
            }
            Self::Key => {
                "allow the role kms:Decrypt with the trail's key, in its own policy and in the key's"
            }
            Self::NoBucket => "see that the trail still writes there, and the bucket's name in `buckets`",
            Self::Region => "set its `region` in `buckets`",
        }
    }
}

impl Gate {
    pub(super) fn new(source: &str, bucket: &str, clock: Arc<dyn Clock>) -> Self {
        let (source, bucket) = (source.to_owned(), bucket.to_owned());
        Self { source, bucket, clock, state: Mutex::default(), changes: Notify::new() }
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// How long it has been shut, if it is.
    pub(super) fn paused_for(&self) -> Option<Duration> {
        self.lock().pause.as_ref().map(|pause| self.now().saturating_sub(pause.since))
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// What is to be said of it, if it is shut.
    pub(super) fn pause(&self) -> Option<PausedBucket> {
        let state = self.lock();
        state.pause.as_ref().map(|pause| PausedBucket {
            bucket: self.bucket.clone(),
            text: pause.text.clone(),
            remedy: pause.kind.remedy(),
            age: self.now().saturating_sub(pause.since),
            waiting: state.waiting,
        })
    }

    /// An object was let in that was asked for at this time; true if that opens the gate.
    pub(super) fn let_in(&self, key: &str, asked_at: Duration) -> bool {
        let mut state = self.lock();
        state.let_in_at = state.let_in_at.max(Some(asked_at));
        state.apart.retain(|apart| apart != key);
        // What was asked for before says nothing of now.
        if state.pause.as_ref().is_none_or(|pause| asked_at < pause.since) {
            return false;
        }
        let Some(pause) = state.pause.take() else { return false };
        if pause.key != key {
            state.set_apart(&pause.key);
        }
        drop(state);
        let paused_seconds = self.now().saturating_sub(pause.since).as_secs();
        tracing::info!(
            code = "bucket_open",
            source = self.source,
            bucket = self.bucket,
            paused_seconds,
            "the bucket lets us in: what has waited for it goes on"
        );
        self.changed();
        true
    }

    /// An object was denied that was asked for at `asked_at`, and for the first time at `first_at`; true if that shuts
    /// the gate.
    pub(super) fn denied(
        &self,
        key: &str,
        text: &str,
        asked_at: Duration,
        first_at: Duration,
        probes: bool,
    ) -> bool {
        let mut state = self.lock();
        if state.apart.iter().any(|apart| apart == key) && state.pause.is_none() {
            return false;
        }
        if let Some(pause) = &mut state.pause {
            if probes {
                let now = self.now();
                pause.delay = (pause.delay * 2).min(PROBE_MAX);
                (pause.next_probe, pause.probe) = (now + pause.delay, None);
                (pause.kind, pause.text) = (Kind::of(text), text.to_owned());
                drop(state);
                self.changed();
            }
            return false;
        }
        match state.let_in_at {
            Some(at) if at > first_at => {
                // Others come through: it is this object's own affair.
                state.set_apart(key);
                return false;
            }
            // The next try tells.
            Some(at) if first_at == asked_at && asked_at.saturating_sub(at) < WITNESS_TIME => return false,
            _ => {}
        }
        let (now, kind) = (self.now(), Kind::of(text));
        state.pause = Some(Pause {
            since: now,
            key: key.to_owned(),
            text: text.to_owned(),
            kind,
            next_probe: now + PROBE_MIN,
            delay: PROBE_MIN,
            probe: None,
            tried: key.to_owned(),
        });
        drop(state);
        tracing::error!(
            code = "bucket_denied",
            source = self.source,
            bucket = self.bucket,
            kind = kind.as_str(),
            why = text,
            remedy = kind.remedy(),
            "the trail or the role is misconfigured: the bucket's log files wait until it lets us in; nothing is lost"
        );
        self.changed();
        true
    }

    /// The probe came to nothing that says anything.
    pub(super) fn probe_said_nothing(&self) {
        let mut state = self.lock();
        if let Some(pause) = &mut state.pause {
            (pause.next_probe, pause.probe) = (self.now() + pause.delay, None);
        }
        drop(state);
        self.changed();
    }

    /// Waits until the gate is open, or until it is this object's turn to be the probe; true for the latter.
    pub(super) async fn opened_or_probe(&self, key: &str) -> bool {
        let _place = Place::take(self);
        loop {
            // Registered before the look, so that no change falls between the two.
            let changed = self.changes.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let at = match self.turn(key) {
                Turn::Open => return false,
                Turn::Probe => return true,
                Turn::Wait(at) => at,
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = self.clock.sleep(at.saturating_sub(self.now())) => {}
            }
        }
    }

    fn turn(&self, key: &str) -> Turn {
        let now = self.now();
        let mut state = self.lock();
        let is_alone = state.waiting <= 1;
        let Some(pause) = &mut state.pause else { return Turn::Open };
        if let Some(probe) = &pause.probe
            && now < probe.began + PROBE_TIME
        {
            return Turn::Wait(probe.began + PROBE_TIME);
        }
        // One bad object must not keep the gate shut: another one has its turn first.
        let polite = if pause.tried == key && !is_alone { PROBE_MIN } else { Duration::ZERO };
        let at = pause.next_probe + polite;
        if now < at {
            return Turn::Wait(at);
        }
        pause.probe = Some(Probe { began: now });
        pause.tried.clear();
        pause.tried.push_str(key);
        Turn::Probe
    }

    fn changed(&self) {
        self.changes.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_apart(&mut self, key: &str) {
        if self.apart.iter().any(|apart| apart == key) {
            return;
        }
        if self.apart.len() >= APART_MAX {
            self.apart.pop_front();
        }
        self.apart.push_back(key.to_owned());
    }
}

enum Turn {
    Open,
    Probe,
    Wait(Duration),
}

/// A place among those that wait.
struct Place<'a>(&'a Gate);

impl<'a> Place<'a> {
    fn take(gate: &'a Gate) -> Self {
        gate.lock().waiting += 1;
        Self(gate)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
    }
}
