//! What a destination needs to be asked something: events, settings, and ports behind which nothing ever waits.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use cloudtrail::{Limits, LogFileReader};
use serde_json::{Value, json};
use sinks::destinations::SinkPorts;
use sinks::ports::{
    Address, BucketPlace, Clock, Compute, Dialer, Files, Job, ObjectStore, ObjectStores, Random, Stream,
    Transport,
};
use sinks::{Answer, Event, Head, LogFile, Parcel, Reason, ReasonCode, Redactor, Via};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The secret of every sink; no answer holds it unless it repeats the request.
pub const SECRET: &str = "hunter2-secret";
/// What stands for the secret in an input.
const PLACE: &[u8] = b"{{secret}}";
/// What stands between the answers to several requests.
const NEXT: &[u8] = b"\n--\n";

/// The settings of a destination; `variant` chooses among kinds of credentials and the like.
pub fn settings(type_name: &str, variant: u8) -> Value {
    let variant = variant / 4 % 4;
    match type_name {
        "elasticsearch" => {
            let mut settings = json!({ "endpoints": ["https://es.example"], "api_key": SECRET });
            let own = ["index", "data_stream"].get(usize::from(variant));
            if let (Some(own), Some(settings)) = (own, settings.as_object_mut()) {
                settings.insert((*own).to_owned(), json!("logs-trailship.cloudtrail-default"));
            }
            settings
        }
        "splunk_hec" => {
            let ack = [json!("auto"), json!(true), json!(false), json!("auto")];
            json!({ "endpoints": ["https://a.example", "https://b.example"], "token": SECRET,
                "ack": ack[usize::from(variant)] })
        }
        "loggly" => json!({ "tokens": [SECRET, "other"] }),
        "sumo_logic" => json!({ "url": format!("https://in.example/receiver/v1/http/{SECRET}") }),
        "http" => json!({ "url": format!("https://in.example/{SECRET}/in"), "bearer_token": SECRET,
            "headers": { "x-key": SECRET } }),
        "logstash_http" => {
            json!({ "endpoints": ["https://logstash.example:8080"], "username": "u", "password": SECRET })
        }
        "logstash" => json!({ "endpoints": ["tls://logstash.example"] }),
        _ => json!({ "access_key_id": "key", "secret_key": SECRET, "source_id": "s", "host_id": "h",
            "message_type": "json/x" }),
    }
}

/// An answer with this body.
pub fn answer_of(status: u16, body: &[u8]) -> Answer {
    let headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("retry-after".to_owned(), "7".to_owned()),
    ];
    Answer { status, headers, body: filled(body).into() }
}

fn filled(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(&byte) = rest.first() {
        match rest.strip_prefix(PLACE) {
            Some(after) => {
                out.extend_from_slice(SECRET.as_bytes());
                rest = after;
            }
            None => {
                out.push(byte);
                rest = &rest[1..];
            }
        }
    }
    out
}

/// Events of one log file.
pub fn events(count: usize) -> Arc<[Event]> {
    let file: String = (0..count)
        .map(|index| {
            format!(
                "{{\"eventTime\":\"2023-07-10T11:42:0{index}Z\",\"eventID\":\"e{index}\",\"awsRegion\":\"eu-west-1\",\
                 \"recipientAccountId\":\"111122223333\"}}\n"
            )
        })
        .collect();
    let mut reader = LogFileReader::new(Limits::default());
    let mut chunks = Vec::new();
    reader.push(file.as_bytes(), &mut chunks).expect("the events are good");
    reader.finish(&mut chunks).expect("the events are good");
    let log_file = Arc::new(LogFile {
        bucket: "b".to_owned(),
        key: "k".to_owned(),
        version_id: None,
        etag: None,
        via: Via::Queue,
        read_at: "2023-07-10T11:45:00.000Z".to_owned(),
        labels: Vec::new(),
        key_minute: None,
    });
    let mut all = Vec::new();
    for chunk in chunks {
        let additions = b"{\"record\":0}".repeat(chunk.len());
        let ends = (1..=chunk.len()).map(|number| number as u32 * 12).collect();
        let parcel = Arc::new(Parcel::new(Arc::clone(&log_file), chunk, additions, ends));
        all.extend((0..).map_while(|slot| Event::new(&parcel, slot)));
    }
    all.into()
}

/// The result of what has nothing to wait for.
pub fn finished<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
            return done;
        }
    }
    panic!("it waits although everything is there");
}

/// Ports behind which these answers lie: requests get them in turn, connections get all of their bytes.
pub fn ports(status: u16, body: &[u8]) -> SinkPorts {
    let bytes = filled(body);
    let mut answers = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some(at) = rest.windows(NEXT.len()).position(|part| part == NEXT) {
        answers.push(answer_of(status, &rest[..at]));
        rest = &rest[at + NEXT.len()..];
    }
    answers.push(answer_of(status, rest));
    let everything = Arc::new(Everything { answers, next: AtomicUsize::new(0), bytes: bytes.into(), time: AtomicU64::new(0) });
    SinkPorts {
        transport: everything.clone(),
        dialer: everything.clone(),
        compute: everything.clone(),
        clock: everything.clone(),
        random: everything.clone(),
        files: everything.clone(),
        objects: everything,
        timeout: Duration::from_secs(1),
        redactor: Redactor::new(),
    }
}

struct Everything {
    answers: Vec<Answer>,
    next: AtomicUsize,
    bytes: Bytes,
    time: AtomicU64,
}

#[async_trait]
impl Transport for Everything {
    async fn exchange(&self, _: Head, _: Bytes) -> Result<Answer, Reason> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(self.answers[next.min(self.answers.len() - 1)].clone())
    }
}

#[async_trait]
impl Dialer for Everything {
    async fn dial(&self, _: &Address) -> Result<Box<dyn Stream>, Reason> {
        Ok(Box::new(Answered(self.bytes.clone())))
    }
}

impl Compute for Everything {
    fn submit(&self, job: Job) {
        job();
    }
}

#[async_trait]
impl Clock for Everything {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.time.load(Ordering::Relaxed))
    }

    async fn sleep(&self, duration: Duration) {
        self.time.fetch_add(duration.as_secs() + 1, Ordering::Relaxed);
    }
}

impl Random for Everything {
    fn next(&self) -> u64 {
        7
    }
}

/// Nothing is kept here.
#[async_trait]
impl Files for Everything {
    async fn append(&self, _: &Path, _: Bytes) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn replace(&self, _: &Path, _: Bytes) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read(&self, _: &Path) -> io::Result<Option<Vec<u8>>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn mend(&self, _: &Path) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn cut(&self, _: &Path, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl ObjectStores for Everything {
    fn open(&self, _: &BucketPlace) -> Result<Arc<dyn ObjectStore>, Reason> {
        Err(Reason::new(ReasonCode::Other, "there are no buckets"))
    }
}

/// A connection that takes everything, and says these bytes before it ends.
struct Answered(Bytes);

impl AsyncRead for Answered {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = out.remaining().min(self.0.len());
        out.put_slice(&self.0.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Answered {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
