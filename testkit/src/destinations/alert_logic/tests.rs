//! The stand-in as a collector sees it. The body was made with Google's `protobuf` for Python from Alert Logic's own
//! definitions.
#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::*;
use crate::destinations::client::{deflate, send};

const BODY: &[u8] = b"\x0a\x9a\x01\x0a\x06source\x12;\x0a\x04host\x12\x14k0\xd2\x81\xa9D\xbd\xa2\xbe\x13\x94\x86\x98\xff\x11\x0e\x810D\x7f\x18\x81\xe2\xcf\xaa\x06\x22\x17\x0a\x15\x0a\x0elocal_hostname\x12\x03\x1a\x01h\x1aS\x0a\x0c012345678901\x11\x00\xf1Se\x00\x00\x00\x00\x1d\x0b\x00\x00\x00\x22\x0acloudtrail2\x11{\x22eventID\x22:\x22e-1\x22}:\x06json/xB\x09GetObjectMx\xe0\x01\x00";

async fn start() -> (Arc<Ledger>, AlertLogic) {
    let ledger = Arc::new(Ledger::new());
    let options = AlertLogicOptions {
        source_id: "source".into(),
        host_id: "host".into(),
        ..AlertLogicOptions::default()
    };
    let service = AlertLogic::start(Arc::clone(&ledger), options).await.unwrap();
    (ledger, service)
}

async fn token(service: &AlertLogic) -> String {
    let options = AlertLogicOptions::default();
    let basic = STANDARD.encode(format!("{}:{}", options.access_key_id, options.secret_key));
    let basic = format!("Basic {basic}");
    let got = send(&service.url, "POST", "/aims/v1/authenticate", &[("authorization", &basic)], "").await;
    let answer: Value = got.json();
    assert_eq!(answer["authentication"]["account"]["id"], "134249236");
    answer["authentication"]["token"].as_str().unwrap().to_owned()
}

async fn post(service: &AlertLogic, token: &str, body: Vec<u8>) -> u16 {
    let headers = [
        ("x-aims-auth-token", token),
        ("content-type", "alertlogic.com/lm3-protobuf"),
        ("content-encoding", "deflate"),
        ("x-invoked-by", "a test"),
    ];
    send(&service.url, "POST", "/ingest/v1/134249236/data/logmsgs", &headers, body).await.status
}

#[test]
fn what_another_encoder_wrote_is_read() {
    let batches = proto::batches(BODY).unwrap();
    assert_eq!((batches.len(), batches[0].source.as_str(), batches[0].host.as_str()), (1, "source", "host"));
    let message = &batches[0].messages[0];
    assert_eq!((message.seconds, message.priority), (1_700_000_000, 11));
    assert_eq!((message.text.as_slice(), message.kind.as_str()), (&br#"{"eventID":"e-1"}"#[..], "json/x"));
    assert_eq!(message.kind_id, "GetObject");
    for cut in 0..BODY.len() {
        assert_eq!(proto::batches(&BODY[..cut]), None, "{cut}");
    }
    let mut wrong = BODY.to_vec();
    let at = wrong.windows(4).position(|window| window == b"host").unwrap();
    wrong[at] = b'H';
    assert_eq!(proto::batches(&wrong), None, "its checksum is wrong");
}

#[tokio::test]
async fn messages_are_stored_for_who_has_a_token_that_holds() {
    let (_, service) = start().await;
    assert_eq!(post(&service, "token-1", deflate(BODY)).await, 401);
    let held = token(&service).await;
    let place = "/endpoints/v1/134249236/residency/default/services/ingest/endpoint";
    let got = send(&service.url, "GET", place, &[("x-aims-auth-token", &held)], "").await;
    assert_eq!(got.json()["ingest"], "x", "the host that the client says it talks to");
    assert_eq!(post(&service, &held, deflate(BODY)).await, 204);
    assert_eq!(service.counts().stored, 1);
    service.revoke();
    assert_eq!(post(&service, &held, deflate(BODY)).await, 401);
    assert_eq!((service.counts().stored, service.tokens()), (1, 1));
}

#[tokio::test]
async fn what_is_no_batch_is_refused() {
    let (_, service) = start().await;
    let held = token(&service).await;
    assert_eq!(post(&service, &held, BODY.to_vec()).await, 400);
    assert_eq!(post(&service, &held, deflate(b"{}")).await, 400);
    assert_eq!(post(&service, &held, deflate(b"")).await, 400);
    assert_eq!(send(&service.url, "POST", "/aims/v1/authenticate", &[], "").await.status, 401);
    assert_eq!(service.counts().stored, 0);
}
