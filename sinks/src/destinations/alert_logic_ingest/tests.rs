//! Tests of bodies, sessions and the table of answers. The body was made with Google's `protobuf` for Python from Alert
//! Logic's own definitions, and shows that ours is the same, byte for byte.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{answer, common};
use super::super::{Additions, FindingLevel};
use super::*;
use crate::ReasonCode;
use crate::ports::{Address, BucketPlace, Dialer, Files, Job, ObjectStore, ObjectStores, Random, Stream};
use crate::testing::Sample;

const BODY: &[u8] = b"\x0a\xcd\x02\x0a\x06source\x12<\x0a\x04host\x12\x14^Lti$\xcb\x94\x11\x22&\xeaV\x06\x99\xeb\x03\xb9\x9f\xca@\x18\x80\xe2\xcf\xaa\x06\x22\x18\x0a\x16\x0a\x0elocal_hostname\x12\x04\x1a\x02it\x1a\xbf\x01\x0a\x0c012345678901\x11\x89\xee\xabd\x00\x00\x00\x00\x1d\x0b\x00\x00\x00\x22\x0acloudtrail2}{\x22eventTime\x22:\x222023-07-10T11:42:01.250Z\x22,\x22eventName\x22:\x22GetObject\x22,\x22recipientAccountId\x22:\x22012345678901\x22,\x22trailship\x22:{\x22record\x22:0}}:\x06json/xB\x09GetObjectM\x90\xd0\x03\x00\x1aC\x11\x00\x00\x00\x00\x00\x00\x00\x00\x1d\x0b\x00\x00\x00\x22\x0acloudtrail2\x1a{\x22trailship\x22:{\x22record\x22:0}}:\x06json/xM\x00\x00\x00\x00";

const RECORD: &str =
    r#"{"eventTime":"2023-07-10T11:42:01.250Z","eventName":"GetObject","recipientAccountId":"012345678901"}"#;

/// Answers in their order; keeps what was asked.
#[derive(Default)]
struct Service {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<(Head, Bytes)>>,
    now: Mutex<u64>,
}

#[async_trait]
impl Transport for Service {
    async fn exchange(&self, head: Head, body: Bytes) -> Result<Answer, Reason> {
        let text = format!("cannot reach {} {:?}", head.url, head.headers);
        self.asked.lock().unwrap().push((head, body));
        self.answers.lock().unwrap().pop_front().ok_or_else(|| Reason::new(ReasonCode::Connection, text))
    }
}

#[async_trait]
impl Clock for Service {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(*self.now.lock().unwrap())
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    async fn sleep(&self, _: Duration) {}
}

/// Everything that is not needed here.
struct Nothing;

#[async_trait]
impl Dialer for Nothing {
    async fn dial(&self, _: &Address) -> Result<Box<dyn Stream>, Reason> {
        Err(Reason::new(ReasonCode::Other, "nothing"))
    }
}

impl Compute for Nothing {
    fn submit(&self, job: Job) {
        job();
    }
}

impl Random for Nothing {
    fn next(&self) -> u64 {
        0
    }
}

impl ObjectStores for Nothing {
    fn open(&self, _: &BucketPlace) -> Result<Arc<dyn ObjectStore>, Reason> {
        Err(Reason::new(ReasonCode::Other, "nothing"))
    }
}

#[async_trait]
impl Files for Nothing {
    async fn append(&self, _: &Path, _: Bytes) -> std::io::Result<u64> {
        Ok(0)
    }
    async fn replace(&self, _: &Path, _: Bytes) -> std::io::Result<()> {
        Ok(())
    }
    async fn rename(&self, _: &Path, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
    async fn read(&self, _: &Path) -> std::io::Result<Option<Vec<u8>>> {
        Ok(None)
    }
    async fn mend(&self, _: &Path) -> std::io::Result<u64> {
        Ok(0)
    }
    async fn cut(&self, _: &Path, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    async fn list(&self, _: &Path) -> std::io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

fn settings(more: Value) -> Settings {
    let mut settings = json!({
        "access_key_id": "key", "secret_key": "hunter2-secret", "source_id": "source", "host_id": "host",
        "message_type": "json/x",
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(settings).unwrap()
}

fn sink(service: &Arc<Service>) -> Arc<dyn Sink> {
    let built = settings(json!({})).build(&common()).unwrap();
    let Carrier::Own(assemble) = built.carrier else { panic!() };
    let mut redactor = built.redactor;
    redactor.add("hunter2-proxy");
    let ports = SinkPorts {
        transport: service.clone(),
        dialer: Arc::new(Nothing),
        compute: Arc::new(Nothing),
        clock: service.clone(),
        random: Arc::new(Nothing),
        files: Arc::new(Nothing),
        objects: Arc::new(Nothing),
        timeout: Duration::from_secs(60),
        redactor,
    };
    assemble(&ports).unwrap()
}

fn service(answers: impl IntoIterator<Item = Answer>) -> Arc<Service> {
    let service = Service { now: Mutex::new(1_700_000_000), ..Service::default() };
    service.answers.lock().unwrap().extend(answers);
    Arc::new(service)
}

fn token(number: u32, expires: u64) -> [Answer; 2] {
    let told = json!({ "authentication": {
        "token": format!("hunter2-token-{number}"), "token_expiration": expires, "account": { "id": "42" } } });
    [answer(200, &[], &told.to_string()), answer(200, &[], r#"{"ingest":"ingest.example"}"#)]
}

async fn send(sink: &Arc<dyn Sink>) -> Judgement {
    let events: Arc<[Event]> = Arc::from(vec![Sample::new("{}").event(); 2]);
    let encoded = sink.encode(&events, Shape::Normal).await.unwrap();
    sink.send(&events, &encoded, &Attempt::default()).await
}

fn format_of(common: CommonSettings) -> Format {
    Format { common, source_id: "source".into(), host_id: "host".into(), message_type: "json/x".into() }
}

#[tokio::test]
async fn a_body_is_zlib_of_what_another_encoder_writes() {
    let events: Arc<[Event]> = Arc::from(vec![Sample::new(RECORD).event(), Sample::new("{}").event()]);
    let encoded = sink(&service([])).encode(&events, Shape::Normal).await.unwrap();
    let mut plain = Vec::new();
    flate2::read::ZlibDecoder::new(&encoded.bytes[..]).read_to_end(&mut plain).unwrap();
    assert_eq!((plain.as_slice(), encoded.plain_len), (BODY, BODY.len()));
}

#[tokio::test]
async fn a_token_and_an_address_are_asked_for_once_and_then_events_are_sent() {
    let service =
        service(token(1, 1_700_021_600).into_iter().chain([answer(204, &[], ""), answer(200, &[], "")]));
    let sink = sink(&service);
    for _ in 0..2 {
        assert_eq!(send(&sink).await, Judgement::all(2, &Verdict::Delivered));
    }
    let asked = service.asked.lock().unwrap();
    let lines: Vec<String> = asked.iter().map(|(head, _)| format!("{} {}", head.method, head.url)).collect();
    let api = "https://api.global-services.global.alertlogic.com";
    let post = "POST https://ingest.example/ingest/v1/42/data/logmsgs";
    assert_eq!(
        lines,
        [
            &format!("POST {api}/aims/v1/authenticate"),
            &format!("GET {api}/endpoints/v1/42/residency/default/services/ingest/endpoint"),
            post,
            post
        ]
    );
    assert_eq!(asked[0].0.headers, [("authorization", "Basic a2V5Omh1bnRlcjItc2VjcmV0".to_owned())]);
    assert_eq!(asked[1].0.headers, [("x-aims-auth-token", "hunter2-token-1".to_owned())]);
    let expected = [
        ("x-aims-auth-token", "hunter2-token-1"),
        ("content-type", "alertlogic.com/lm3-protobuf"),
        ("content-encoding", "deflate"),
        ("x-invoked-by", "trailship"),
    ];
    assert_eq!(asked[2].0.headers, expected.map(|(name, value)| (name, value.to_owned())));
}

#[tokio::test]
async fn a_token_in_its_last_ten_minutes_is_replaced() {
    let first = token(1, 1_700_001_000).into_iter().chain([answer(204, &[], "")]);
    let service = service(first.chain(token(2, 1_700_100_000)).chain([answer(204, &[], "")]));
    let sink = sink(&service);
    send(&sink).await;
    *service.now.lock().unwrap() += 399;
    let count = || service.asked.lock().unwrap().len();
    assert_eq!(count(), 3);
    *service.now.lock().unwrap() += 1;
    assert_eq!(send(&sink).await, Judgement::all(2, &Verdict::Delivered));
    assert_eq!(count(), 6);
}

#[tokio::test]
async fn a_token_that_is_taken_back_is_replaced_once() {
    let refused = || answer(401, &[], "");
    let first = token(1, 1_700_100_000).into_iter().chain([refused()]);
    let service_ = service(first.chain(token(2, 1_700_100_000)).chain([answer(204, &[], "")]));
    assert_eq!(send(&sink(&service_)).await, Judgement::all(2, &Verdict::Delivered));
    let first = token(1, 1_700_100_000).into_iter().chain([refused()]);
    let service_ = service(first.chain(token(2, 1_700_100_000)).chain([refused()]));
    let judgement = send(&sink(&service_)).await;
    assert!(
        matches!(&judgement, Judgement::Denied(why) if why.code == ReasonCode::Unauthorized),
        "{judgement:?}"
    );
}

#[tokio::test]
async fn every_answer_has_its_judgement() {
    for (status, kind, expected, code) in [
        (200, "text/html", "Unavailable", ReasonCode::Garbled),
        (302, "", "Denied", ReasonCode::Misconfigured),
        (400, "", "Refused", ReasonCode::Invalid),
        (403, "", "Denied", ReasonCode::Unauthorized),
        (404, "", "Denied", ReasonCode::Misconfigured),
        (413, "", "TooLarge", ReasonCode::TooLarge),
        (415, "", "Denied", ReasonCode::Misconfigured),
        (429, "", "Unavailable", ReasonCode::Throttled),
        (500, "", "Unavailable", ReasonCode::ServerError),
        (503, "", "Unavailable", ReasonCode::ServerError),
    ] {
        let last = answer(
            status,
            &[("content-type", kind)],
            "you sent hunter2-token-1 hunter2-secret by hunter2-proxy",
        );
        let service = service(token(1, 1_700_100_000).into_iter().chain([last]));
        let judgement = format!("{:?}", send(&sink(&service)).await);
        assert!(judgement.starts_with(expected), "{status}: {judgement}");
        assert!(
            judgement.contains(&format!("code: {code:?}, status: Some({status})")),
            "{status}: {judgement}"
        );
        assert!(!judgement.contains("hunter2"), "{judgement}");
    }
}

#[tokio::test]
async fn no_event_is_to_blame_for_what_is_asked_before_it_is_sent() {
    let [good, _] = token(1, 1_700_100_000);
    for (answers, expected, code) in [
        (vec![answer(401, &[], "")], "Denied", ReasonCode::Unauthorized),
        (vec![answer(400, &[], "hunter2-secret by hunter2-proxy")], "Denied", ReasonCode::Misconfigured),
        (vec![answer(503, &[], "")], "Unavailable", ReasonCode::ServerError),
        (vec![answer(200, &[], "<html>")], "Unavailable", ReasonCode::Garbled),
        (vec![good.clone(), answer(404, &[], "hunter2-token-1")], "Denied", ReasonCode::Misconfigured),
        (vec![good.clone(), answer(200, &[], r#"{"other":"x"}"#)], "Unavailable", ReasonCode::Garbled),
        (vec![good.clone(), answer(200, &[], r#"{"ingest":"a/b@c"}"#)], "Unavailable", ReasonCode::Garbled),
        (vec![], "Unavailable", ReasonCode::Connection),
        (vec![good.clone()], "Unavailable", ReasonCode::Connection),
    ] {
        let service = service(answers);
        let sink = sink(&service);
        let judgement = format!("{:?}", send(&sink).await);
        assert!(judgement.starts_with(expected), "{judgement}");
        assert!(judgement.contains(&format!("code: {code:?}")), "{judgement}");
        assert!(!judgement.contains("hunter2") && !judgement.contains("a2V5"), "{judgement}");
        let findings = sink.check().await;
        assert_eq!(findings[0].1.level, FindingLevel::Failed);
    }
}

#[tokio::test]
async fn check_asks_for_a_token_and_sends_nothing() {
    let service = service(token(1, 1_700_100_000));
    let findings = sink(&service).check().await;
    assert_eq!((findings[0].0.as_str(), findings[0].1.level), ("token", FindingLevel::Good));
    assert!(!findings[0].1.sentence.contains("hunter2"));
    assert_eq!(service.asked.lock().unwrap().len(), 2);
}

#[test]
fn settings_that_cannot_work_are_refused_without_the_key() {
    for (more, message) in [
        (json!({ "endpoint": "api.example" }), "endpoint: not an absolute address"),
        (json!({ "access_key_id": "a\u{e9}" }), "access_key_id: use printable"),
        (json!({ "residency": "" }), "residency: letters"),
        (json!({ "source_id": "a/b" }), "source_id: letters"),
        (json!({ "host_id": " " }), "host_id: letters"),
        (json!({ "message_type": "" }), "message_type: empty"),
    ] {
        let error = settings(more).build(&common()).unwrap_err().to_string();
        assert!(error.starts_with(message) && !error.contains("hunter2"), "{error}");
    }
    assert!(!format!("{:?}", settings(json!({}))).contains("hunter2"));
}

proptest! {
    #[test]
    fn a_body_holds_each_record_whole_and_within_its_announced_length(
        values in prop::collection::vec(any::<String>(), 1..4),
        full in any::<bool>(),
    ) {
        let additions = if full { Additions::Full } else { Additions::None };
        let format = format_of(CommonSettings { additions, ..common() });
        let records: Vec<String> = values.iter().map(|value| json!({ "eventName": value }).to_string()).collect();
        let events: Vec<Event> = records.iter().map(|record| Sample::new(record).event()).collect();
        let mut body = Body::new();
        format.body(&events, 0, &mut body);
        let announced: usize = events.iter().map(|event| format.len(event)).sum();
        // Once a batch, and far below what is kept free of the limit.
        prop_assert!((announced + 40..announced + 200).contains(&body.len()), "{announced} for {}", body.len());
        let flat = body.flatten();
        for record in &records {
            let inside = &record.as_bytes()[..record.len() - 1];
            prop_assert!(flat.windows(inside.len()).any(|window| window == inside));
        }
    }
}
