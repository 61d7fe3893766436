//! AWS as the agent sees it: SQS, S3, STS, DynamoDB and what keeps secrets behind one address, with faults on demand and a log of what happened.

mod admin;
mod clock;
mod dynamodb;
mod fault;
mod log;
mod notify;
mod queue_handle;
mod router;
mod s3;
mod secrets;
mod serve;
mod sqs;
mod sts;

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::sync::Notify;

use crate::edge::{Edges, Moment};
use crate::http::{Handler, Server, ServerOptions};
use crate::random::Rng;
use crate::time::Time;
use clock::Clock;
use dynamodb::DynamoDb;
use fault::Faults;
use s3::{NewObject, S3};
use secrets::Secrets;
use sqs::Sqs;
use sts::Sts;

pub use clock::Millis;
pub use fault::{AwsFault, FaultCount, FaultId, FaultRule};
pub use log::{Delivery, MessageHistory, ObjectRequest, Operation, What};
pub use notify::{Notification, NotifyKind};
pub use queue_handle::QueueHandle;
pub use s3::BucketOptions;
pub use serve::serve;
pub use sqs::{QueueBehaviour, QueueCounts};

/// How the stand-in is set up.
#[derive(Debug, Clone)]
pub struct AwsOptions {
    /// Decides every random choice.
    pub seed: u64,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The account that everything belongs to unless said otherwise.
    pub account: String,
    /// The region that everything lies in unless said otherwise.
    pub region: String,
}

impl Default for AwsOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            account: "111122223333".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }
}

/// The account and the region.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) account: String,
    pub(crate) region: String,
}

impl Names {
    pub(crate) fn queue_arn(&self, queue: &str) -> String {
        format!("arn:aws:sqs:{}:{}:{queue}", self.region, self.account)
    }
}

/// Everything that changes, under one lock.
pub(crate) struct State {
    pub(crate) sqs: Sqs,
    pub(crate) s3: S3,
    pub(crate) sts: Sts,
    pub(crate) secrets: Secrets,
    pub(crate) dynamodb: DynamoDb,
    pub(crate) faults: Faults,
    pub(crate) rng: Rng,
}

/// What the server and the API in process share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) names: Names,
    /// Wakes long polls.
    pub(crate) changed: Notify,
    url: OnceLock<String>,
    requests: AtomicU64,
    pub(crate) edges: Edges,
    /// Whether requests that were signed at another time are refused.
    pub(crate) is_strict: AtomicBool,
    pub(crate) skewed: AtomicU64,
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn queue_url(&self, name: &str) -> String {
        let origin = self.url.get().map_or("", String::as_str);
        format!("{origin}/{}/{name}", self.names.account)
    }

    pub(crate) fn request_id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.requests.fetch_add(1, Ordering::Relaxed))
    }
}

/// The running stand-in. Dropping it stops it.
pub struct Aws {
    shared: Arc<Shared>,
    server: Server,
    handler: Arc<dyn Handler>,
}

/// Something that the stand-in was asked for in process and does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError(String);

impl std::fmt::Display for AwsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AwsError {}

impl From<sqs::SqsError> for AwsError {
    fn from(e: sqs::SqsError) -> Self {
        Self(format!("{}: {}", e.shape, e.message))
    }
}

impl From<s3::S3Error> for AwsError {
    fn from(e: s3::S3Error) -> Self {
        Self(format!("{}: {}", e.code, e.message))
    }
}

impl Aws {
    /// Starts it on the current tokio runtime.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn start(options: AwsOptions) -> io::Result<Self> {
        Self::start_at(options, Time::default()).await
    }

    /// The same with another time than the machine's.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_at(options: AwsOptions, time: Time) -> io::Result<Self> {
        let names = Names { account: options.account, region: options.region };
        let state = State {
            sqs: Sqs::new(options.seed, names.clone()),
            s3: S3::new(options.seed),
            sts: Sts::default(),
            secrets: Secrets::default(),
            dynamodb: DynamoDb::default(),
            faults: Faults::new(options.seed),
            rng: Rng::stream(options.seed, 0xA35),
        };
        let shared = Arc::new(Shared {
            clock: Clock::new(time),
            names,
            changed: Notify::new(),
            url: OnceLock::new(),
            requests: AtomicU64::new(1),
            edges: Edges::default(),
            is_strict: AtomicBool::new(false),
            skewed: AtomicU64::new(0),
            state: Mutex::new(state),
        });
        let handler: Arc<dyn Handler> = Arc::new(router::Router::new(Arc::clone(&shared)));
        let server = Server::start_with(options.listen, ServerOptions::default(), handler.clone()).await?;
        shared.url.get_or_init(|| server.url());
        Ok(Self { shared, server, handler })
    }

    /// The endpoint for all services, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// What answers, to be served on another network than the machine's.
    #[must_use]
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::clone(&self.handler)
    }

    /// Lets answers under way end, then stops.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }

    /// Makes a bucket, or leaves the one of that name as it is.
    pub fn create_bucket(&self, name: &str, options: BucketOptions) {
        let names = &self.shared.names;
        self.shared.state().s3.create(name, &names.account, &names.region, options);
    }

    /// Tells a queue of every object that is written to the bucket from now on.
    ///
    /// # Errors
    /// Where the bucket or the queue does not exist.
    pub fn notify(&self, bucket: &str, notification: Notification) -> Result<(), AwsError> {
        let mut state = self.shared.state();
        state.sqs.queue(&notification.queue)?;
        state.s3.bucket(bucket)?.notifications.push(notification);
        Ok(())
    }

    /// Writes an object and tells the queues of it. Gives its version id (`null` without versioning).
    ///
    /// # Errors
    /// Where the bucket does not exist.
    pub fn put_object(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> Result<String, AwsError> {
        self.put_objects(bucket, vec![(key.to_owned(), body.into())])
            .map(|mut ids| ids.pop().unwrap_or_default())
    }

    /// Writes several objects, then tells the queues: CloudTrail's own way puts all of their keys into one message.
    ///
    /// # Errors
    /// Where the bucket does not exist.
    pub fn put_objects(&self, bucket: &str, objects: Vec<(String, Bytes)>) -> Result<Vec<String>, AwsError> {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        let mut written = Vec::new();
        for (key, body) in objects {
            let new = NewObject { body, ..NewObject::default() };
            let version = state.s3.put(bucket, &key, new, now)?;
            written.push((key, version));
        }
        state.announce_all(&self.shared, bucket, &written);
        Ok(written.into_iter().map(|(_, version)| version.id).collect())
    }

    /// Tells the queues of an object again, as a second notification of the same version does.
    ///
    /// # Errors
    /// Where the object does not exist.
    pub fn announce_again(&self, bucket: &str, key: &str) -> Result<(), AwsError> {
        let mut state = self.shared.state();
        let version = state.s3.bucket(bucket)?.newest(key).cloned().ok_or_else(s3::S3Error::no_key)?;
        state.announce(&self.shared, bucket, key, &version);
        Ok(())
    }

    /// Deletes an object; a bucket with versions gets a delete marker.
    ///
    /// # Errors
    /// Where the bucket does not exist.
    pub fn delete_object(&self, bucket: &str, key: &str) -> Result<(), AwsError> {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        let marker = state.s3.delete(bucket, key, None, now)?;
        state.announce_removal(&self.shared, bucket, key, marker.as_ref());
        Ok(())
    }

    /// The newest bytes of an object.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.shared.state().s3.bucket(bucket).ok()?.newest(key).map(|version| version.body.clone())
    }

    /// All keys of a bucket, in order.
    #[must_use]
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let mut state = self.shared.state();
        let Ok(bucket) = state.s3.bucket(bucket) else { return Vec::new() };
        bucket.keys_from("").map(|(key, _)| key.to_owned()).collect()
    }

    /// Lets reads of the bucket (key `None`) or of one object fail as where the KMS key may not be used.
    ///
    /// # Errors
    /// Where the bucket does not exist.
    pub fn deny_kms(&self, bucket: &str, key: Option<&str>, denied: bool) -> Result<(), AwsError> {
        let mut state = self.shared.state();
        let bucket = state.s3.bucket(bucket)?;
        match key {
            None => bucket.options.kms_denied = denied,
            Some(key) => bucket.deny_key(key, denied),
        }
        Ok(())
    }

    /// Makes a queue with AWS's defaults, or takes the one of that name.
    pub fn create_queue(&self, name: &str) -> QueueHandle<'_> {
        let now = self.shared.clock.now();
        self.shared.state().sqs.create(name, now);
        self.queue(name)
    }

    /// A queue by its name. What is asked of a queue that does not exist is an error or nothing.
    #[must_use]
    pub fn queue(&self, name: &str) -> QueueHandle<'_> {
        QueueHandle::new(&self.shared, name)
    }

    /// Adds a fault. Faults are tried in the order in which they were added.
    pub fn inject(&self, rule: FaultRule) -> FaultId {
        self.shared.state().faults.add(rule)
    }

    /// Ends a fault; its count stays.
    pub fn heal(&self, id: FaultId) {
        self.shared.state().faults.remove(id);
    }

    /// Ends all faults.
    pub fn heal_all(&self) {
        self.shared.state().faults.clear();
    }

    /// How often each fault struck.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultCount> {
        self.shared.state().faults.counts()
    }

    /// How often one fault struck.
    #[must_use]
    pub fn fired(&self, id: FaultId) -> u64 {
        self.faults().iter().find(|count| count.id == id).map_or(0, |count| count.fired)
    }

    /// Has a test act at a moment of a request, after `skip` requests of that operation (the API's name) have passed it.
    /// That request is neither done any further nor answered.
    pub fn act_at(&self, operation: &str, moment: Moment, skip: u64, act: impl FnOnce() + Send + 'static) {
        self.shared.edges.arm(operation, moment, skip, act);
    }

    /// How many requests of an operation (the API's name) have arrived.
    #[must_use]
    pub fn arrived(&self, operation: &str) -> u64 {
        self.shared.edges.arrived(operation)
    }

    /// Refuses requests from now on that were signed more than a quarter of an hour before or after the stand-in's own
    /// time, and says in every answer what that time is.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
    pub fn refuse_skewed_clocks(&self) {
        self.shared.is_strict.store(true, Ordering::SeqCst);
    }

    /// How many requests were refused for that.
    #[must_use]
    pub fn skewed(&self) -> u64 {
        self.shared.skewed.load(Ordering::SeqCst)
    }

    /// Moves the clock forward: visibility timeouts, delays, retention and sessions see it.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
        self.shared.changed.notify_waiters();
    }

    /// The stand-in's time.
    #[must_use]
    pub fn now_ms(&self) -> Millis {
        self.shared.clock.now()
    }

    /// Everything that happened to messages, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Operation> {
        self.shared.state().sqs.log.clone()
    }

    /// Every request that reached S3, in order.
    #[must_use]
    pub fn object_requests(&self) -> Vec<ObjectRequest> {
        self.shared.state().s3.requests.clone()
    }

    /// Keeps a text in Secrets Manager, in the place of what is there under that ARN.
    pub fn put_secret(&self, arn: &str, text: &str) {
        self.shared.state().secrets.secrets.insert(arn.to_owned(), text.to_owned());
    }

    /// Keeps a text as an encrypted parameter of Systems Manager, in the place of what is there under that name.
    pub fn put_parameter(&self, name: &str, text: &str) {
        self.shared.state().secrets.parameters.insert(name.to_owned(), text.to_owned());
    }

    /// How often a secret or a parameter was given out.
    #[must_use]
    pub fn secret_reads(&self, id: &str) -> u64 {
        self.shared.state().secrets.reads.get(id).copied().unwrap_or_default()
    }

    /// Makes a table of DynamoDB with a string as its partition key, and an attribute that its time to live goes by.
    pub fn create_table(&self, name: &str, partition_key: &str, ttl_attribute: Option<&str>) {
        self.shared.state().dynamodb.create(name, partition_key, ttl_attribute);
    }

    /// The items of a table by their keys, as DynamoDB writes them.
    #[must_use]
    pub fn table_items(&self, name: &str) -> Vec<serde_json::Value> {
        self.shared.state().dynamodb.items(name)
    }

    /// How often an operation of DynamoDB was done.
    #[must_use]
    pub fn table_calls(&self, operation: &str) -> u64 {
        self.shared.state().dynamodb.calls(operation)
    }

    /// The external id without which a role cannot be assumed.
    pub fn require_external_id(&self, role_arn: &str, external_id: &str) {
        self.shared.state().sts.external_ids.insert(role_arn.to_owned(), external_id.to_owned());
    }

    /// Lets nobody assume a role.
    pub fn close_role(&self, role_arn: &str) {
        self.shared.state().sts.closed.push(role_arn.to_owned());
    }
}

/// MD5, which SQS and S3 use as a checksum.
pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests;
