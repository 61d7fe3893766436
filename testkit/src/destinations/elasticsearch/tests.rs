//! What a sender sees of the cluster.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::*;
use crate::destinations::Mode;
use crate::destinations::client::{Got, gzip, raw, send};
use crate::ledger::{Cause, QueueEvidence, SinkReport, SinkRule, judge};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

struct Bench {
    ledger: Arc<Ledger>,
    es: Elasticsearch,
}

async fn start(change: impl FnOnce(&mut ElasticsearchOptions)) -> Bench {
    let mut options = ElasticsearchOptions::default();
    change(&mut options);
    let ledger = Arc::new(Ledger::new());
    let es = Elasticsearch::start(Arc::clone(&ledger), options).await.unwrap();
    Bench { ledger, es }
}

impl Bench {
    async fn bulk(&self, body: impl AsRef<[u8]>) -> Got {
        send(&self.es.url, "POST", "/_bulk", &[NDJSON], body).await
    }

    async fn get(&self, path: &str) -> Got {
        send(&self.es.url, "GET", path, &[], "").await
    }

    async fn put(&self, path: &str, body: Value) -> Got {
        send(&self.es.url, "PUT", path, &[], body.to_string()).await
    }

    /// The type of the error of a request's only item, or its result.
    async fn item(&self, body: impl AsRef<[u8]>) -> (u64, String) {
        let answer = self.bulk(body).await.json();
        let item = &answer["items"][0].as_object().unwrap().values().next().unwrap().clone();
        let text = item["error"]["type"].as_str().or(item["result"].as_str()).unwrap();
        (item["status"].as_u64().unwrap(), text.to_owned())
    }

    fn issue(&self, count: u64) {
        for index in 0..count {
            let id = format!("e-{index}");
            self.ledger.issue("b", "k", index, Some(&id), Sha256::digest(event(index)).into());
        }
    }

    fn report(&self) -> SinkReport {
        let rule = [SinkRule::with_unique_ids("elasticsearch")];
        judge(&self.ledger, &rule, &QueueEvidence::default()).sinks.remove(0)
    }
}

fn event(index: u64) -> String {
    format!(r#"{{"eventID":"e-{index}"}}"#)
}

fn document(index: u64) -> String {
    let ours =
        r#""@timestamp":"2026-01-01T00:00:00Z","trailship":{"actor":{},"bucket":"b","key":"k","record":"#;
    format!("{},{ours}{index}}}}}", event(index).trim_end_matches('}'))
}

/// The two lines of one action.
fn create(index: &str, id: &str, source: &str) -> String {
    format!("{{\"create\":{{\"_index\":\"{index}\",\"_id\":\"{id}\"}}}}\n{source}\n")
}

fn creates(events: std::ops::Range<u64>) -> String {
    events.map(|index| create("cloudtrail-2026.01.01", &format!("e-{index}"), &document(index))).collect()
}

#[tokio::test]
async fn documents_are_created_once_and_their_second_creation_is_a_conflict() {
    let bench = start(|_| {}).await;
    bench.issue(2);
    let answer = bench.bulk(creates(0..2)).await.json();
    assert_eq!((&answer["errors"], answer["items"].as_array().unwrap().len()), (&json!(false), 2));
    let first = &answer["items"][0]["create"];
    assert_eq!(
        (&first["_id"], &first["status"], &first["result"]),
        (&json!("e-0"), &json!(201), &json!("created"))
    );
    let again = bench.bulk(creates(0..2)).await.json();
    assert_eq!(again["errors"], true);
    assert_eq!(again["items"][1]["create"]["status"], 409);
    assert_eq!(again["items"][1]["create"]["error"]["type"], "version_conflict_engine_exception");
    let reason = "[e-1]: version conflict, document already exists (current version [1])";
    assert_eq!(again["items"][1]["create"]["error"]["reason"], reason);
    assert!(bench.report().passes(), "{}", bench.report());
    assert_eq!((bench.report().stored, bench.report().conflicts), (2, 2));
    assert_eq!(bench.es.indices(), [("cloudtrail-2026.01.01".to_owned(), 2)]);
    assert_eq!(bench.es.document("cloudtrail-2026.01.01", "e-1").unwrap()["trailship"]["record"], 1);
}

#[tokio::test]
async fn a_gzipped_body_is_read_and_the_index_may_stand_in_the_path() {
    let bench = start(|_| {}).await;
    let body = gzip(b"{\"create\":{\"_id\":\"1\"}}\n{}\n");
    let got = send(&bench.es.url, "POST", "/some/_bulk", &[NDJSON, ("content-encoding", "gzip")], body).await;
    assert_eq!(got.json()["items"][0]["create"]["_index"], "some");
    assert!(got.head.contains("x-elastic-product: elasticsearch"), "{}", got.head);
}

#[tokio::test]
async fn what_is_wrong_with_the_request_refuses_it_whole() {
    let bench = start(|options| options.max_content_length = 1000).await;
    let reason = |got: &Got| got.json()["error"]["reason"].as_str().unwrap().to_owned();
    let got = bench.bulk("{\"index\":{\"_index\":\"i\"}}\n{}").await;
    assert_eq!(
        (got.status, got.json()["error"]["type"].as_str().unwrap()),
        (400, "illegal_argument_exception")
    );
    assert_eq!(reason(&got), "The bulk request must be terminated by a newline [\\n]");
    let got = bench.bulk(creates(0..1) + "{\"bad\":{}}\n{}\n").await;
    assert_eq!(got.status, 400);
    assert_eq!(bench.es.counts().stored, 0, "nothing before the bad line is stored");
    let got = send(&bench.es.url, "POST", "/_bulk", &[("content-type", "text/plain")], creates(0..1)).await;
    assert_eq!(
        (got.status, reason(&got)),
        (406, "Content-Type header [text/plain] is not supported".to_owned())
    );
    assert_eq!(send(&bench.es.url, "POST", "/_bulk", &[], creates(0..1)).await.status, 406);
    let got = bench.bulk(creates(0..20)).await;
    assert_eq!((got.status, got.body.as_str()), (413, ""));
    assert!(got.head.contains("content-length: 0"), "{}", got.head);
    let got =
        send(&bench.es.url, "POST", "/_bulk", &[NDJSON, ("content-encoding", "gzip")], gzip(&[b' '; 1001]))
            .await;
    assert_eq!(got.status, 413, "the limit is that of the decompressed body");
    let chunked = "POST /_bulk HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\n\
                   transfer-encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n";
    assert_eq!(raw(&bench.es.url, chunked.as_bytes()).await.status, 411);
    assert_eq!(bench.get("/_bulk").await.status, 405);
}

#[tokio::test]
async fn a_string_where_an_object_belongs_is_refused_alone_and_even_where_its_id_is_stored() {
    for flavour in [Flavour::Elasticsearch, Flavour::OpenSearch] {
        let bench = start(|options| options.flavour = flavour).await;
        let bad = create("i", "e-0", r#"{"requestParameters":"text"}"#);
        let answer = bench.bulk(create("i", "e-0", "{}") + &bad + &create("i", "e-1", "{}")).await.json();
        let statuses: Vec<u64> = answer["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["create"]["status"].as_u64().unwrap())
            .collect();
        assert_eq!(statuses, [201, 400, 201]);
        let error = &answer["items"][1]["create"]["error"];
        let expected = match flavour {
            Flavour::Elasticsearch => "document_parsing_exception",
            Flavour::OpenSearch => "mapper_parsing_exception",
        };
        assert_eq!(error["type"], expected);
        let reason = error["reason"].as_str().unwrap();
        assert!(
            reason.contains("failed to parse field [requestParameters]") && reason.contains("id 'e-0'"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn malformed_source_refuses_its_item_only() {
    let bench = start(|_| {}).await;
    assert_eq!(bench.item(create("i", "1", "{")).await, (400, "document_parsing_exception".into()));
    assert_eq!(bench.item(create("i", "1", r#"{"a":1,"a":2}"#)).await.0, 400);
    assert_eq!(bench.item(create("i", "1", "{}")).await, (201, "created".into()));
    assert_eq!(bench.es.counts().refused, 2);
}

#[tokio::test]
async fn an_installed_template_decides_what_is_taken() {
    let bench = start(|_| {}).await;
    let template = json!({"index_patterns": ["cloudtrail-*"], "template": {"mappings": {
        "dynamic": false, "properties": {"eventTime": {"type": "date"}}}}});
    assert_eq!(bench.get("/_index_template/t").await.status, 404);
    assert_eq!(bench.put("/_index_template/t", template.clone()).await.status, 200);
    assert_eq!(
        bench.get("/_index_template/t").await.json()["index_templates"][0]["index_template"],
        template
    );
    assert_eq!(bench.put("/_index_template/t", json!(1)).await.status, 400);
    let coded = gzip(template.to_string().as_bytes());
    let got = send(&bench.es.url, "PUT", "/_index_template/z", &[("content-encoding", "gzip")], coded).await;
    assert_eq!(got.status, 200);
    let bad = r#"{"eventTime":"soon"}"#;
    assert_eq!(bench.item(create("cloudtrail-1", "1", bad)).await.0, 400);
    assert_eq!(bench.item(create("other", "1", bad)).await.0, 201);
    assert_eq!(bench.item(create("cloudtrail-1", "1", r#"{"requestParameters":"text"}"#)).await.0, 201);
}

#[tokio::test]
async fn a_data_stream_takes_creations_with_a_timestamp_only() {
    let bench = start(|_| {}).await;
    let template = json!({"index_patterns": ["logs-*"], "data_stream": {}, "priority": 200});
    bench.put("/_index_template/t", template).await;
    let stamped = r#"{"@timestamp":"2026-01-01T00:00:00Z"}"#;
    let answer = bench.bulk(create("logs-x", "1", stamped)).await.json();
    assert_eq!(answer["items"][0]["create"]["_index"], ".ds-logs-x-2026.01.01-000001");
    assert_eq!(bench.item(create("logs-x", "2", "{}")).await.0, 400);
    let index = create("logs-x", "2", stamped).replace("create", "index");
    assert_eq!(bench.item(index).await, (400, "illegal_argument_exception".into()));
    assert_eq!(bench.item(create("logs-x", "1", stamped)).await.0, 409);
    // Ids are unique in one backing index only.
    bench.es.roll_over("logs-x");
    assert_eq!(bench.item(create("logs-x", "1", stamped)).await.0, 201);
    let path = "/logs-y-without/_bulk?require_data_stream=true";
    assert_eq!(
        send(&bench.es.url, "POST", path, &[NDJSON], "{\"create\":{}}\n{\"@timestamp\":1}\n").await.status,
        200
    );
    let got = send(
        &bench.es.url,
        "POST",
        "/plain/_bulk?require_data_stream=true",
        &[NDJSON],
        "{\"create\":{}}\n{}\n",
    )
    .await;
    assert_eq!(got.json()["items"][0]["create"]["status"], 404);
    assert_eq!(bench.get("/_data_stream/logs-x").await.status, 200);
    assert_eq!(bench.get("/_data_stream/logs-none").await.status, 404);
    assert_eq!(bench.put("/_data_stream/logs-z", json!({})).await.status, 200);
    assert_eq!(bench.put("/_data_stream/plain", json!({})).await.status, 400);
}

#[tokio::test]
async fn a_failure_store_takes_what_the_mapping_refuses() {
    let bench = start(|_| {}).await;
    let template = json!({"index_patterns": ["logs-*"], "data_stream": {}, "template": {
        "mappings": {"dynamic": false, "properties": {"a": {"type": "date"}}},
        "data_stream_options": {"failure_store": {"enabled": true}}}});
    bench.put("/_index_template/t", template).await;
    let answer = bench.bulk(create("logs-x", "1", r#"{"@timestamp":1,"a":"soon"}"#)).await.json();
    let item = &answer["items"][0]["create"];
    assert_eq!((&item["status"], &item["failure_store"]), (&json!(201), &json!("used")));
}

#[tokio::test]
async fn an_index_operation_replaces_and_what_it_replaced_is_lost() {
    let bench = start(|_| {}).await;
    bench.issue(2);
    let index = |source: &str| create("i", "same", source).replace("create", "index");
    assert_eq!(bench.item(index(&document(0))).await, (201, "created".into()));
    assert_eq!(bench.item(index(&document(0))).await, (200, "updated".into()));
    assert_eq!(bench.report().stored, 1);
    assert_eq!(bench.item(index(&document(1))).await, (200, "updated".into()));
    assert_eq!((bench.report().stored, bench.report().lost.len()), (1, 1));
}

#[tokio::test]
async fn names_pipelines_permissions_and_closed_indices_are_judged_item_by_item() {
    let bench = start(|options| {
        options.allowed_indices = vec!["cloudtrail-*".into(), "UPPER".into(), "*?".into()];
        options.pipelines = vec!["known".into()];
    })
    .await;
    assert_eq!(bench.item(create("other", "1", "{}")).await, (403, "security_exception".into()));
    assert_eq!(bench.item(create("UPPER", "1", "{}")).await, (400, "invalid_index_name_exception".into()));
    assert_eq!(bench.item(create("a?", "1", "{}")).await, (400, "invalid_index_name_exception".into()));
    assert_eq!(
        bench.item(create("cloudtrail-1", "", "{}")).await,
        (400, "illegal_argument_exception".into())
    );
    let with = |pipeline: &str| {
        create("cloudtrail-1", "1", "{}").replace("\"_id\"", &format!("\"pipeline\":\"{pipeline}\",\"_id\""))
    };
    assert_eq!(bench.item(with("unknown")).await, (400, "illegal_argument_exception".into()));
    assert_eq!(bench.item(with("known")).await.0, 201);
    bench.es.set_closed("cloudtrail-1", true);
    assert_eq!(bench.item(with("known")).await, (400, "index_closed_exception".into()));
    bench.es.set_closed("cloudtrail-1", false);
    assert_eq!(bench.item(with("known")).await.0, 409);
    let bench = start(|options| options.auto_create = false).await;
    assert_eq!(bench.item(create("i", "1", "{}")).await, (404, "index_not_found_exception".into()));
    assert_eq!(bench.put("/i", json!({})).await.status, 200);
    assert_eq!(bench.put("/i", json!({})).await.status, 400);
    assert_eq!(bench.item(create("i", "1", "{}")).await.0, 201);
}

#[tokio::test]
async fn credentials_are_checked_and_write_only_ones_may_not_ask_for_the_version() {
    for (auth, header) in [
        (Auth::ApiKey("a2V5".into()), "ApiKey a2V5"),
        (Auth::Basic("dTpw".into()), "Basic dTpw"),
        (Auth::Bearer("t".into()), "Bearer t"),
    ] {
        let bench = start(|options| {
            options.auth = auth;
            options.write_only = true;
        })
        .await;
        let with = async |method: &str, path: &str, header: &str| {
            let headers = [NDJSON, ("authorization", header)];
            send(&bench.es.url, method, path, &headers, creates(0..1)).await
        };
        assert_eq!(bench.bulk(creates(0..1)).await.status, 401);
        let got = with("POST", "/_bulk", "ApiKey wrong").await;
        assert_eq!((got.status, got.json()["error"]["type"].as_str()), (401, Some("security_exception")));
        assert_eq!(with("POST", "/_bulk", header).await.status, 200);
        assert_eq!(with("GET", "/", "ApiKey wrong").await.status, 401);
        assert_eq!(with("GET", "/", header).await.status, 403);
        assert_eq!(with("PUT", "/_index_template/x", header).await.status, 403);
        assert_eq!(with("GET", "/_security/_authenticate", header).await.status, 200);
    }
}

#[tokio::test]
async fn filter_path_is_honoured() {
    let bench = start(|_| {}).await;
    let path = "/_bulk?filter_path=errors%2Citems.*.status,items.*.error.type";
    let body = create("i", "1", "{}") + &create("i", "1", "{}");
    let got = send(&bench.es.url, "POST", path, &[NDJSON], body).await.json();
    let error = json!({"type": "version_conflict_engine_exception"});
    let items = json!([{"create": {"status": 201}}, {"create": {"status": 409, "error": error}}]);
    assert_eq!(got, json!({"errors": true, "items": items}));
}

#[tokio::test]
async fn whole_requests_fail_on_demand_and_store_nothing() {
    let bench = start(|_| {}).await;
    for (failure, status) in [
        (Failure::Status(401), 401),
        (Failure::Status(403), 403),
        (Failure::Status(429), 429),
        (Failure::Status(502), 502),
        (Failure::Status(503), 503),
        (Failure::Status(413), 413),
        (Failure::RefuseAll, 400),
        (Failure::Reset, 0),
    ] {
        bench.es.set_mode(failure.clone());
        assert_eq!(bench.bulk(creates(0..1)).await.status, status, "{failure:?}");
    }
    assert_eq!(bench.es.counts().stored, 0);
    bench.es.set_mode(Mode { requests: Some(1), retry_after_s: Some(3), ..Mode::from(Failure::Status(429)) });
    assert!(bench.bulk(creates(0..1)).await.head.contains("retry-after: 3"));
    assert_eq!(bench.bulk(creates(0..1)).await.status, 200);
}

#[tokio::test]
async fn items_fail_on_demand() {
    let bench = start(|_| {}).await;
    bench.issue(100);
    let failed = |answer: &Value, status: u64| {
        let items = answer["items"].as_array().unwrap();
        items.iter().filter(|item| item["create"]["status"] == status).count()
    };
    bench.es.set_mode(Failure::ReadOnly(403));
    assert_eq!(failed(&bench.bulk(creates(0..5)).await.json(), 403), 5);
    bench.es.set_mode(Failure::ReadOnly(429));
    let answer = bench.bulk(creates(0..5)).await.json();
    assert_eq!(answer["items"][0]["create"]["error"]["type"], "cluster_block_exception");
    bench.es.set_mode(Failure::ItemsThrottled(0.5));
    let throttled = failed(&bench.bulk(creates(0..100)).await.json(), 429);
    assert!((30..70).contains(&throttled), "{throttled}");
    bench.es.set_mode(Failure::None);
    bench.bulk(creates(0..100)).await;
    assert!(bench.report().passes(), "{}", bench.report());
}

#[tokio::test]
async fn refused_events_are_always_the_same() {
    let refused = async || {
        let bench = start(|_| {}).await;
        bench.es.set_mode(Failure::RefuseEvery(10));
        let answer = bench.bulk(creates(0..200)).await.json();
        let items = answer["items"].as_array().unwrap().clone();
        let ids = items
            .iter()
            .filter(|item| item["create"]["status"] == 400)
            .map(|item| item["create"]["_id"].clone());
        ids.collect::<Vec<Value>>()
    };
    let first = refused().await;
    assert!((8..40).contains(&first.len()), "{}", first.len());
    assert_eq!(first, refused().await);
    let bench = start(|_| {}).await;
    bench.es.set_mode(Failure::RefuseContaining("\"e-3\"".into()));
    let answer = bench.bulk(creates(0..5)).await.json();
    assert_eq!(answer["items"][3]["create"]["status"], 400);
    assert_eq!(bench.es.counts().stored, 4);
}

#[tokio::test]
async fn answers_that_say_too_little_or_nothing_still_mean_that_all_is_stored() {
    for failure in
        [Failure::ShortAnswer, Failure::Garbage, Failure::HalfAnswer, Failure::AnswerLost, Failure::Hangup]
    {
        let bench = start(|_| {}).await;
        bench.es.set_mode(failure.clone());
        let got = bench.bulk(creates(0..3)).await;
        let answer: Result<Value, _> = serde_json::from_str(&got.body);
        match failure {
            Failure::ShortAnswer => assert_eq!(answer.unwrap()["items"].as_array().unwrap().len(), 2),
            Failure::AnswerLost | Failure::Hangup => assert_eq!(got.status, 0),
            _ => assert!(answer.is_err() && got.status == 200, "{failure:?} {got:?}"),
        }
        assert_eq!(bench.es.counts().stored, 3, "{failure:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_explains_a_second_copy_under_another_id() {
    for (failure, cause) in [(Failure::AnswerLost, Some(&1)), (Failure::None, None)] {
        let bench = start(|_| {}).await;
        bench.issue(1);
        bench.es.set_mode(Mode { requests: Some(1), ..Mode::from(failure) });
        bench.bulk(create("i", "one", &document(0))).await;
        bench.bulk(create("i", "two", &document(0))).await;
        assert_eq!(bench.report().duplicates.get(&Cause::AnswerLost), cause);
        assert!(!bench.report().passes(), "a visible duplicate fails either way");
    }
}

#[tokio::test]
async fn a_sender_that_goes_away_before_the_answer_has_lost_it() {
    let bench = start(|_| {}).await;
    bench.issue(1);
    bench.es.set_mode(Mode { delay_ms: 300, ..Mode::default() });
    let impatient = bench.bulk(create("i", "one", &document(0)));
    assert!(tokio::time::timeout(Duration::from_millis(100), impatient).await.is_err());
    tokio::time::sleep(Duration::from_millis(500)).await;
    bench.es.set_mode(Mode::default());
    bench.bulk(create("i", "two", &document(0))).await;
    assert_eq!(bench.report().duplicates.get(&Cause::AnswerLost), Some(&1), "{}", bench.report());
}

#[tokio::test]
async fn slowness_is_by_request_and_by_byte() {
    let bench = start(|_| {}).await;
    let body = creates(0..10);
    for mode in [
        Mode { delay_ms: 200, ..Mode::default() },
        Mode { bytes_per_second: body.len() as u64 * 5, ..Mode::default() },
    ] {
        bench.es.set_mode(mode);
        let begin = Instant::now();
        assert_eq!(bench.bulk(&body).await.status, 200);
        assert!(begin.elapsed() >= Duration::from_millis(195), "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn what_is_stored_can_be_looked_at() {
    let bench = start(|_| {}).await;
    bench.bulk(creates(0..3)).await;
    assert_eq!(bench.get("/").await.json()["version"]["number"], "8.19.2");
    assert_eq!(bench.get("/cloudtrail-*/_count").await.json()["count"], 3);
    let hits = bench.get("/cloudtrail-2026.01.01/_search?size=2").await.json()["hits"].clone();
    assert_eq!((&hits["total"]["value"], hits["hits"].as_array().unwrap().len()), (&json!(3), 2));
    assert_eq!(bench.get("/cloudtrail-2026.01.01/_doc/e-2").await.json()["_source"]["eventID"], "e-2");
    assert_eq!(bench.get("/cloudtrail-2026.01.01/_doc/e-9").await.status, 404);
    assert_eq!(bench.get("/_cat/indices").await.body, "cloudtrail-2026.01.01 3\n");
    assert_eq!(bench.get("/cloudtrail-2026.01.01").await.status, 200);
    assert_eq!(bench.get("/none").await.status, 404);
    assert_eq!(bench.get("/_nothing/of/this").await.status, 400);
}

#[tokio::test]
async fn rights_can_be_asked_of_elasticsearch_and_not_of_opensearch() {
    let asked =
        json!({"index": [{"names": ["cloudtrail-x", "other"], "privileges": ["create_doc"]}]}).to_string();
    let path = "/_security/user/_has_privileges";
    let bench = start(|options| options.allowed_indices = vec!["cloudtrail-*".into()]).await;
    let got = send(&bench.es.url, "POST", path, &[], &asked).await.json();
    assert_eq!(got["has_all_requested"], false);
    assert_eq!(got["index"], json!({"cloudtrail-x": {"create_doc": true}, "other": {"create_doc": false}}));
    let bench = start(|options| options.flavour = Flavour::OpenSearch).await;
    assert_eq!(send(&bench.es.url, "POST", path, &[], &asked).await.status, 400);
}

#[tokio::test]
async fn parameters_that_the_server_does_not_know_refuse_the_request() {
    for (flavour, parameter, status) in [
        (Flavour::Elasticsearch, "require_data_stream=false", 200),
        (Flavour::OpenSearch, "require_data_stream=false", 400),
        (Flavour::Elasticsearch, "refresh=false&pipeline=_none", 200),
        (Flavour::Elasticsearch, "reqire_data_stream=true", 400),
    ] {
        let bench = start(|options| options.flavour = flavour).await;
        let got = send(&bench.es.url, "POST", &format!("/_bulk?{parameter}"), &[NDJSON], creates(0..1)).await;
        assert_eq!(got.status, status, "{flavour:?} {parameter}");
        assert_eq!(got.body.contains("contains unrecognized parameter: ["), status == 400);
    }
}

#[tokio::test]
async fn a_collection_of_opensearch_serverless_has_few_calls_and_a_time_series_one_takes_no_ids() {
    let bench = start(|options| {
        options.flavour = Flavour::OpenSearch;
        options.serverless = true;
        options.takes_ids = false;
    })
    .await;
    for path in
        ["/", "/_cluster/health", "/_data_stream/x", "/_ingest/pipeline/x", "/_security/_authenticate"]
    {
        assert_eq!(bench.get(path).await.status, 404, "{path}");
    }
    let answer = bench.bulk(create("i", "e-0", "{}") + "{\"create\":{\"_index\":\"i\"}}\n{}\n").await.json();
    let error = &answer["items"][0]["create"];
    assert_eq!(
        (&error["status"], &error["error"]["type"]),
        (&json!(400), &json!("illegal_argument_exception"))
    );
    assert_eq!(error["error"]["reason"], "Document ID is not supported in create/index operation request");
    assert_eq!(answer["items"][1]["create"]["status"], 201);
    assert_eq!(bench.put("/_index_template/t", json!({ "index_patterns": ["i*"] })).await.status, 200);
    assert_eq!(bench.get("/_index_template/t").await.status, 200);
    assert_eq!(bench.get("/i/_settings/index.blocks*").await.json(), json!({}));
}

#[tokio::test]
async fn a_request_that_is_not_signed_as_it_should_be_is_refused_whole() {
    let signer = Signer {
        service: "es".to_owned(),
        region: "eu-west-1".to_owned(),
        access_key: "AKIDEXAMPLE".to_owned(),
        secret_key: "secret".to_owned(),
    };
    let bench = start(|options| options.auth = Auth::Signed(signer)).await;
    let got = bench.bulk(creates(0..1)).await;
    assert_eq!(got.status, 403);
    assert!(got.body.contains("the header authorization is missing"), "{}", got.body);
    assert_eq!(bench.es.counts().stored, 0);
}

#[tokio::test]
async fn blocks_and_pipelines_can_be_asked_for_by_those_who_may_see_them() {
    let bench = start(|options| options.pipelines = vec!["geo".into()]).await;
    assert_eq!(bench.get("/i/_settings/index.blocks*").await.status, 404);
    assert_eq!(bench.get("/i-*/_settings/index.blocks*").await.json(), json!({}));
    bench.bulk(create("i-1", "e-0", "{}")).await;
    for (status, block) in [(429, "read_only_allow_delete"), (403, "write")] {
        bench.es.set_mode(Failure::ReadOnly(status));
        let blocked = json!({ "i-1": { "settings": { "index": { "blocks": { block: "true" } } } } });
        assert_eq!(bench.get("/i-*/_settings/index.blocks*").await.json(), blocked);
    }
    assert_eq!(bench.get("/_ingest/pipeline/geo").await.status, 200);
    assert_eq!(bench.get("/_ingest/pipeline/other").await.status, 404);
    let bench = start(|options| options.write_only = true).await;
    for path in ["/i/_settings/index.blocks*", "/_ingest/pipeline/geo", "/_data_stream/x"] {
        assert_eq!(bench.get(path).await.status, 403, "{path}");
    }
}
