//! Logstash's beats input: windows of events over a connection, and an acknowledgement of how far they are stored.
//!
//! <https://www.elastic.co/docs/reference/logstash/plugins/plugins-inputs-beats>

pub(crate) mod document;
mod exchange;
mod frames;
mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::{
    Built, Carrier, CommonSettings, Defaults, Destination, Endpoint, Finding, Invalid, Reach, SinkPorts,
    StreamEndpoint,
};
use crate::http::not_encoded;
use crate::ports::{Clock, Compute, Dialer, Stream, run_on};
use crate::{
    Attempt, Compression, Encoded, Event, Judgement, Reason, ReasonCode, Redactor, Shape, Sink, Verdict,
};
use exchange::{Connection, Failed, Knock};
use window::WindowSize;

/// The port that Logstash's documentation uses.
const PORT: u16 = 5044;

/// Logstash closes a connection that was idle for 60 s (`client_inactivity_timeout`): one that was idle for nearly as
/// long is not used again.
const IDLE_MAX: Duration = Duration::from_secs(50);

/// How long `check` waits for an answer to an empty window: not every server gives one.
const KNOCK_PATIENCE: Duration = Duration::from_secs(3);

/// Larger windows only make more to send again.
const WINDOW_MAX: u32 = 65_536;

/// Settings of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `tls://host:5044`, or `tcp://` without encryption. The first is used, the next after a failure.
    endpoints: Vec<String>,
    /// Events that are sent until an acknowledgement is waited for. Default 2048.
    #[serde(default = "window")]
    window: u32,
    /// `"deflate"` (level 1), `"deflate:6"` or `"none"`. Default `"deflate"`.
    #[serde(default = "compression")]
    compression: String,
}

fn window() -> u32 {
    2048
}

fn compression() -> String {
    "deflate".into()
}

impl Destination for Settings {
    const DEFAULTS: Defaults = Defaults {
        batch_bytes: 4 << 20,
        // Logstash holds a compressed frame whole, packed and unpacked.
        batch_bytes_limit: 64 << 20,
        // As one window.
        batch_events: 2048,
        batch_age: Duration::from_secs(1),
        concurrency_max: 4,
        // It compresses itself: whole windows, by a key of its own.
        compression: Compression::None,
        idle_connection_max: None,
        reach: Reach::Stream,
    };

    fn build(self, common: &CommonSettings) -> Result<Built, Invalid> {
        if self.endpoints.is_empty() {
            return Err(Invalid::new("endpoints", "the list is empty: name at least one address"));
        }
        let parse = |text: &String| Endpoint::parse_stream("endpoints", text, PORT);
        let endpoints: Vec<StreamEndpoint> = self.endpoints.iter().map(parse).collect::<Result<_, _>>()?;
        if !(1..=WINDOW_MAX).contains(&self.window) {
            return Err(Invalid::new("window", format!("from 1 to {WINDOW_MAX}")));
        }
        let compression = compression_of(&self.compression)?;
        let origins = endpoints.iter().map(|endpoint| endpoint.origin.clone()).collect();
        let common = common.clone();
        let assemble = move |ports: &SinkPorts| {
            let sink: Arc<dyn Sink> = Arc::new(Logstash {
                format: Arc::new(Format { common, compression }),
                endpoints,
                window: WindowSize::new(self.window),
                at: AtomicUsize::new(0),
                kept: Mutex::default(),
                dialer: Arc::clone(&ports.dialer),
                compute: Arc::clone(&ports.compute),
                clock: Arc::clone(&ports.clock),
                timeout: ports.timeout,
            });
            Ok(sink)
        };
        Ok(Built {
            carrier: Carrier::Own(Box::new(assemble)),
            endpoints: origins,
            defaults: Self::DEFAULTS,
            probe: None,
            signing: None,
            identity: None,
            redactor: Redactor::new(),
        })
    }
}

fn compression_of(text: &str) -> Result<Compression, Invalid> {
    let level = match text {
        "none" => return Ok(Compression::None),
        "deflate" => Some(1),
        text => text.strip_prefix("deflate:").and_then(|level| level.parse().ok()),
    };
    let level = level.filter(|level| (1..=9).contains(level));
    let wrong =
        || Invalid::new("compression", "use \"deflate\", \"deflate:1\" to \"deflate:9\", or \"none\"");
    level.map(Compression::Deflate).ok_or_else(wrong)
}

/// How events are written.
struct Format {
    common: CommonSettings,
    compression: Compression,
}

struct Logstash {
    format: Arc<Format>,
    endpoints: Vec<StreamEndpoint>,
    window: WindowSize,
    /// The endpoint that was reached last.
    at: AtomicUsize,
    /// The connections between batches, one for each of the lane's slots.
    kept: Mutex<HashMap<u32, Kept>>,
    dialer: Arc<dyn Dialer>,
    compute: Arc<dyn Compute>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

struct Kept {
    connection: Connection<Box<dyn Stream>>,
    since: Duration,
}

/// What a connection was closed over, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Nothing,
    /// A window that the next will be smaller than.
    LargeWindow,
    /// A window of a single event, of which nothing was acknowledged.
    OneEvent,
}

impl Logstash {
    /// The slot's connection if it is still good, else a new one; whether it is a kept one.
    async fn connection(&self, attempt: &Attempt) -> Result<(Connection<Box<dyn Stream>>, bool), Reason> {
        let kept = self.kept().remove(&attempt.slot);
        if let Some(mut kept) = kept
            && self.clock.monotonic().saturating_sub(kept.since) < IDLE_MAX
            && kept.connection.is_ready().await
        {
            return Ok((kept.connection, true));
        }
        let turn = self.at.load(Ordering::Relaxed).wrapping_add(attempt.number as usize);
        let at = turn % self.endpoints.len().max(1);
        let Some(endpoint) = self.endpoints.get(at) else {
            return Err(Reason::new(ReasonCode::Other, "there is no endpoint"));
        };
        let stream = self
            .dialer
            .dial(&endpoint.address)
            .await
            .map_err(|why| Reason { text: format!("{}: {}", endpoint.origin, why.text), ..why })?;
        self.at.store(at, Ordering::Relaxed);
        Ok((Connection::new(stream), false))
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<u32, Kept>> {
        // Every change is complete before anything can panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a failure after `acked` acknowledged events of `count` comes to.
    fn judge(count: usize, acked: usize, failed: Failed, over: Over) -> Judgement {
        if acked == 0 && over == Over::Nothing {
            return Judgement::Unavailable { why: failed.why, retry_after: None };
        }
        // What is judged event by event is encoded anew: from the first that is not stored on, in windows as large as
        // they may be by now.
        let mut verdicts = vec![Verdict::Delivered; acked];
        if over == Over::OneEvent {
            verdicts.push(Verdict::HungUp(failed.why.clone()));
        }
        verdicts.resize(count, Verdict::Retry(failed.why));
        Judgement::Each(verdicts)
    }
}

#[async_trait]
impl Sink for Logstash {
    fn encoded_len(&self, event: &Event) -> usize {
        frames::encoded_len(&self.format.common, event)
    }

    async fn encode(&self, events: &Arc<[Event]>, _: Shape) -> Result<Encoded, Reason> {
        let (format, events, window) = (Arc::clone(&self.format), Arc::clone(events), self.window.now());
        let encode = move || frames::encode(&format.common, &events, window as usize, format.compression);
        run_on(&*self.compute, encode).await.flatten().ok_or_else(not_encoded)
    }

    async fn send(&self, events: &[Event], encoded: &Encoded, attempt: &Attempt) -> Judgement {
        let whole = |windows: &Vec<frames::Window>| {
            windows.iter().map(|window| window.count as usize).sum::<usize>() == events.len()
        };
        let Some(windows) = frames::windows(&encoded.bytes).filter(whole) else {
            return Judgement::Unavailable { why: not_encoded(), retry_after: None };
        };
        let (mut connection, is_kept) = match self.connection(attempt).await {
            Ok(found) => found,
            Err(why) => return Judgement::Unavailable { why, retry_after: None },
        };
        let mut acked = 0;
        for window in &windows {
            match connection.send(&encoded.bytes, window, &*self.clock, self.timeout).await {
                Ok(()) => {
                    acked += window.count as usize;
                    self.window.taken();
                }
                Err(failed) => {
                    // A kept connection may have been closed for its age. A new one that is closed over its first
                    // large window is taken for a server with a limit, which has no other way to say so.
                    let is_suspect = failed.is_closed && failed.acked == 0 && (!is_kept || acked > 0);
                    let is_large = !is_kept && window.count > connection.largest;
                    let over = match window.count {
                        1 if is_suspect => Over::OneEvent,
                        count if is_suspect && is_large && self.window.refused(count) => Over::LargeWindow,
                        _ => Over::Nothing,
                    };
                    let acked = acked + failed.acked as usize;
                    return Self::judge(events.len(), acked, failed, over);
                }
            }
        }
        let kept = Kept { connection, since: self.clock.monotonic() };
        self.kept().insert(attempt.slot, kept);
        Judgement::all(events.len(), &Verdict::Delivered)
    }

    async fn check(&self) -> Vec<(String, Finding)> {
        let mut findings = Vec::new();
        for endpoint in &self.endpoints {
            let knock = async {
                let mut connection = Connection::new(self.dialer.dial(&endpoint.address).await?);
                connection.knock(&*self.clock, KNOCK_PATIENCE).await
            };
            let finding = match knock.await {
                Ok(Knock::Answered) => Finding::good("a beats input answers"),
                Ok(Knock::Silent) => {
                    Finding::good("connected; whether it is a beats input shows with the first event")
                }
                Err(why) => Finding::failed(why.to_string()),
            };
            findings.push((endpoint.origin.clone(), finding));
        }
        findings
    }
}

#[cfg(test)]
mod tests;
