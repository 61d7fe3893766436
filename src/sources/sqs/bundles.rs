//! Hand-offs on their way to a queue: gathered into few messages, and acknowledged once the queue has them.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_sqs::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_sqs::operation::send_message::SendMessageError;
use cloudtrail::{Handoff, Timestamp};
use futures_util::future::join_all;
use sinks::{Delays, LaneState, RetryConfig};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

use crate::sources::Stop;
use crate::worker::{Bundle as Known, HandOffError, HandOffs, Plan};

/// The most bytes of a message: what every queue takes unless it was told otherwise, less some room.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
const BODY_BYTES_MAX: usize = (256 << 10) - 1024;

/// A queue that takes less than this takes no hand-offs.
const BODY_BYTES_MIN: usize = 16 << 10;

/// How long the first hand-offs of log files gather, and how many log files: leases wait for them.
const FIRST_TIME: Duration = Duration::from_secs(1);
const FIRST_FILES_MAX: usize = 10;

/// How long hand-offs gather that are sent on: the fewer messages, the less an outage costs.
const AGAIN_TIME: Duration = Duration::from_secs(10);

/// The same at a shutdown, when all comes at once.
const LAST_TIME: Duration = Duration::from_millis(50);

/// When a hand-off is seen again: the first time, and at most. SQS delays a message by 15 minutes at most.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-delay-queues.html>
const DELAY_MIN_S: u32 = 15;
const DELAY_MAX_S: u32 = 900;

/// How long sending is not tried where it was not permitted.
const FORBIDDEN_TIME: Duration = Duration::from_secs(300);

/// How long after it was visible again a message counts as owed by this agent.
const KNOWN_TIME: Duration = Duration::from_secs(2 * 3600);

/// Bytes of messages that wait to be sent on, at once.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Why hand-offs are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The agent ends.
    Last,
    /// A log file's events are handed off here.
    First,
    /// What came from the queue goes back to it.
    Again,
}

impl Kind {
    fn time(self) -> Duration {
        match self {
            Self::Last => LAST_TIME,
            Self::First => FIRST_TIME,
            Self::Again => AGAIN_TIME,
        }
    }

    /// Seconds until the message is seen again, its hand-offs having been handed off so often before.
    fn delay(self, attempts: u32) -> u32 {
        match self {
            Self::Last => 0,
            Self::First | Self::Again => (DELAY_MIN_S << attempts.min(8)).min(DELAY_MAX_S),
        }
    }
}

/// One hand-off as it stands in a message.
#[derive(Debug)]
struct Item {
    text: String,
    attempts: u32,
    first_seen: Timestamp,
    /// Whether it is the first of its log file.
    counts: bool,
}

/// Hand-offs for one sink that are acknowledged together.
#[derive(Debug)]
struct Order {
    sink: String,
    kind: Kind,
    items: Vec<Item>,
    done: oneshot::Sender<Result<(), Failed>>,
}

#[derive(Debug)]
enum Failed {
    NotPermitted(String),
    /// The queue takes smaller messages only.
    TooLarge(Vec<Item>),
}

/// A message under construction.
struct Bundle {
    due: Duration,
    bytes: usize,
    orders: Vec<Order>,
}

/// The hand-offs of one source, on their way to its queue.
pub struct Bundles {
    client: aws_sdk_sqs::Client,
    queue_url: String,
    source: String,
    plan: Arc<Plan>,
    stop: Stop,
    orders: mpsc::UnboundedSender<Order>,
    body_bytes_max: AtomicUsize,
    /// Until when sending is not tried, after it was not permitted.
    forbidden: Mutex<Option<Duration>>,
    waiting: Semaphore,
}

#[async_trait]
impl HandOffs for Bundles {
    async fn hand_off(&self, list: Vec<Handoff>) -> Result<(), HandOffError> {
        self.enqueue(list, Kind::First).await
    }
}

impl Bundles {
    /// Bundles for a queue; starts the task that gathers.
    #[must_use]
    pub fn start(
        client: aws_sdk_sqs::Client,
        queue_url: String,
        source: &str,
        plan: &Arc<Plan>,
        stop: Stop,
    ) -> Arc<Self> {
        let (orders, queue) = mpsc::unbounded_channel();
        let bundles = Arc::new(Self {
            client,
            queue_url,
            source: source.to_owned(),
            plan: Arc::clone(plan),
            stop,
            orders,
            body_bytes_max: AtomicUsize::new(BODY_BYTES_MAX),
            forbidden: Mutex::default(),
            waiting: Semaphore::new(WAITING_BYTES_MAX),
        });
        tokio::spawn(gather(Arc::downgrade(&bundles), Arc::clone(plan), queue));
        bundles
    }

    /// Sends on what came from the queue and cannot be delivered now.
    ///
    /// # Errors
    /// As [`hand_off`](HandOffs::hand_off).
    pub async fn send_on(&self, list: Vec<Handoff>) -> Result<(), HandOffError> {
        self.enqueue(list, Kind::Again).await
    }

    /// Room for a message of so many bytes among those that are sent on.
    pub fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let bytes = u32::try_from(bytes.clamp(1, WAITING_BYTES_MAX)).ok()?;
        self.waiting.try_acquire_many(bytes).ok()
    }

    async fn enqueue(&self, list: Vec<Handoff>, kind: Kind) -> Result<(), HandOffError> {
        self.permitted()?;
        let kind = if self.stop.is_asked() { Kind::Last } else { kind };
        let mut rest: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        let mut before = None;
        for handoff in list {
            let file = (handoff.sink.clone(), handoff.bucket.clone(), handoff.key.clone());
            let counts = before.as_ref() != Some(&file);
            before = Some(file);
            // Left out, its events would count as handed off and stand nowhere.
            let text = handoff.write()?;
            let Handoff { sink, attempts, first_seen, .. } = handoff;
            rest.entry(sink).or_default().push(Item { text, attempts, first_seen, counts });
        }
        while !rest.is_empty() {
            let mut answers = Vec::new();
            for (sink, items) in std::mem::take(&mut rest) {
                for items in split(items, self.body_bytes_max.load(Ordering::Relaxed)) {
                    let (done, answer) = oneshot::channel();
                    let _ = self.orders.send(Order { sink: sink.clone(), kind, items, done });
                    let sink = sink.clone();
                    answers.push(async move { (sink, answer.await) });
                }
            }
            for (sink, answer) in join_all(answers).await {
                match answer {
                    Ok(Ok(())) => {}
                    Ok(Err(Failed::NotPermitted(why))) => return Err(HandOffError::NotPermitted(why)),
                    Ok(Err(Failed::TooLarge(items))) => rest.entry(sink).or_default().extend(items),
                    Err(_) => return Err(HandOffError::Ended),
                }
            }
        }
        Ok(())
    }

    fn permitted(&self) -> Result<(), HandOffError> {
        let forbidden = *self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        match forbidden {
            Some(until) if self.plan.clock.monotonic() < until => {
                Err(HandOffError::NotPermitted("tried lately".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Sends one message, for as long as it takes.
    async fn send(self: Arc<Self>, sink: String, kind: Kind, bundle: Bundle) {
        let items = || bundle.orders.iter().flat_map(|order| &order.items);
        let body = Handoff::join(&items().map(|item| item.text.as_str()).collect::<Vec<_>>());
        let attempts = items().map(|item| item.attempts).max().unwrap_or(0);
        let delay = kind.delay(attempts);
        let mut delays = Delays::new(&RetryConfig::default());
        loop {
            let request = self.client.send_message().queue_url(&self.queue_url).message_body(&body);
            let error = match request.delay_seconds(i32::try_from(delay).unwrap_or(0)).send().await {
                Ok(answer) => {
                    self.sent(&sink, answer.message_id().unwrap_or_default(), delay, items());
                    bundle.orders.into_iter().for_each(|order| _ = order.done.send(Ok(())));
                    return;
                }
                Err(error) => error,
            };
            match judge(&error) {
                Trouble::Passes => {}
                Trouble::TooLarge if body.len() > BODY_BYTES_MIN => {
                    self.body_bytes_max.fetch_min((body.len() / 2).max(BODY_BYTES_MIN), Ordering::Relaxed);
                    for Order { items, done, .. } in bundle.orders {
                        let _ = done.send(Err(Failed::TooLarge(items)));
                    }
                    return;
                }
                Trouble::TooLarge | Trouble::NotPermitted => {
                    let why = crate::aws::describe(&error);
                    self.forbid(&why);
                    for order in bundle.orders {
                        let _ = order.done.send(Err(Failed::NotPermitted(why.clone())));
                    }
                    return;
                }
            }
            tracing::info!(
                code = "handoff_not_sent",
                source = self.source,
                sink,
                error = crate::aws::describe(&error),
                "hand-offs could not be sent; they are sent again"
            );
            self.plan.clock.sleep(delays.next(None, &*self.plan.random)).await;
            // Sent for somebody who has lost his lease, they would only add work.
            if bundle.orders.iter().all(|order| order.done.is_closed()) {
                return;
            }
        }
    }

    fn sent<'a>(&self, sink: &str, message: &str, delay: u32, items: impl Iterator<Item = &'a Item>) {
        *self.forbidden.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let Some(lane) = self.plan.lanes.position(sink) else { return };
        let (mut log_files, mut first_seen) = (0, i64::MAX);
        for item in items {
            log_files += u64::from(item.counts);
            first_seen = first_seen.min(item.first_seen.millis());
        }
        let until = self.plan.clock.monotonic() + Duration::from_secs(delay.into()) + KNOWN_TIME;
        let first_seen = UNIX_EPOCH + Duration::from_millis(u64::try_from(first_seen).unwrap_or(0));
        if self.plan.owed.handed_off(lane, message, Known { log_files, first_seen, until })
            && !self.stop.is_asked()
        {
            let state = self.plan.lanes.all().get(lane).map(|lane| lane.health().state());
            let why = match state {
                Some(LaneState::Unavailable(why) | LaneState::Denied(why)) => why.to_string(),
                _ => "it cannot be waited for".to_owned(),
            };
            tracing::warn!(
                code = "handoff_begun",
                source = self.source,
                sink,
                why,
                remedy = format!("see sinks.{sink}; nothing is lost meanwhile"),
                "what the sink owes is written down on the queue until it is well again"
            );
        }
    }

    fn forbid(&self, why: &str) {
        let until = self.plan.clock.monotonic() + FORBIDDEN_TIME;
        let before = self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).replace(until);
        if before.is_none() {
            tracing::warn!(
                code = "handoff_not_permitted",
                source = self.source,
                queue = self.queue_url,
                why,
                remedy = "allow the role sqs:SendMessage on this queue",
                "what a sink owes cannot be handed off: its messages are held instead, for twelve hours at most"
            );
        }
    }
}

/// Puts orders together, and sends each message once it is full or due.
async fn gather(bundles: Weak<Bundles>, plan: Arc<Plan>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut open: BTreeMap<(Kind, String), Bundle> = BTreeMap::new();
    loop {
        let now = plan.clock.monotonic();
        let due = open.values().map(|bundle| bundle.due).min();
        let wait = due.map_or(Duration::from_secs(3600), |due| due.saturating_sub(now));
        let order = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(order) => Some(order),
                None => return,
            },
            () = plan.clock.sleep(wait) => None,
        };
        let Some(bundles) = bundles.upgrade() else { return };
        let send = |(kind, sink): (Kind, String), bundle: Bundle| {
            tokio::spawn(Arc::clone(&bundles).send(sink, kind, bundle));
        };
        let now = plan.clock.monotonic();
        if let Some(order) = order {
            let key = (order.kind, order.sink.clone());
            let bytes = order.items.iter().map(|item| item.text.len() + 1).sum::<usize>();
            let most = bundles.body_bytes_max.load(Ordering::Relaxed);
            if open.get(&key).is_some_and(|bundle| bundle.bytes + bytes > most)
                && let Some(full) = open.remove(&key)
            {
                send(key.clone(), full);
            }
            let new = || Bundle { due: now + key.0.time(), bytes: 2, orders: Vec::new() };
            let bundle = open.entry(key.clone()).or_insert_with(new);
            bundle.bytes += bytes;
            bundle.orders.push(order);
            if key.0 == Kind::First && bundle.orders.len() >= FIRST_FILES_MAX {
                bundle.due = now;
            }
        }
        let due: Vec<_> =
            open.iter().filter(|(_, bundle)| bundle.due <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            if let Some(bundle) = open.remove(&key) {
                send(key, bundle);
            }
        }
    }
}

/// Parts of at most so many bytes each, a larger item by itself.
fn split(items: Vec<Item>, bytes_max: usize) -> Vec<Vec<Item>> {
    let mut parts: Vec<Vec<Item>> = Vec::new();
    let mut bytes = usize::MAX;
    for item in items {
        let more = item.text.len() + 1;
        match parts.last_mut() {
            Some(part) if bytes + more <= bytes_max => {
                bytes += more;
                part.push(item);
            }
            _ => {
                bytes = 2 + more;
                parts.push(vec![item]);
            }
        }
    }
    parts
}

/// What a failed send means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Passes,
    NotPermitted,
    TooLarge,
}

fn judge(error: &SdkError<SendMessageError>) -> Trouble {
    let code = error.code().unwrap_or_default();
    let status = error.raw_response().map(|response| response.status().as_u16());
    trouble(status, code, error.message().unwrap_or_default())
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>,
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>
fn trouble(status: Option<u16>, code: &str, message: &str) -> Trouble {
    let names = |words: &[&str]| words.iter().any(|word| code.contains(word));
    // New credentials, or a right clock, come by themselves.
    if names(&["ExpiredToken", "Expired", "TimeTooSkewed", "Throttl"]) {
        return Trouble::Passes;
    }
    if message.contains("must be shorter than") {
        return Trouble::TooLarge;
    }
    let lasting =
        ["AccessDenied", "NonExistentQueue", "QueueDoesNotExist", "InvalidAddress", "InvalidSecurity"];
    match status {
        Some(401 | 403) => Trouble::NotPermitted,
        _ if names(&lasting) => Trouble::NotPermitted,
        _ => Trouble::Passes,
    }
}
