//! Rows by what a reader of another make finds in them, names and bytes of objects, places and cuts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::{Field as Cell, Row};
use cloudtrail::{Limits, LogFileReader};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::destinations::Additions;
use crate::testing::pairs;
use crate::{Parcel, ParcelMaker, RangeSet, Via};

const KEY: &str = "AWSLogs/012345678901/CloudTrail/eu-west-1/2023/07/10/\
                   012345678901_CloudTrail_eu-west-1_20230710T1145Z_abcdefghijklmnop.json.gz";

fn file(key: &str) -> LogFile {
    LogFile {
        bucket: "trail".into(),
        key: key.into(),
        version_id: Some("v1".into()),
        etag: None,
        via: Via::Queue,
        read_at: "2023-07-10T11:50:00.000Z".into(),
        labels: pairs(&[("env", "prod"), ("team", "a")]),
        key_minute: Some("2023-07-10T11:45:00Z".into()),
    }
}

/// The parcels of a log file, read in chunks of about so many bytes.
fn parcels(file: &LogFile, records: &[String], chunk_bytes: usize) -> Vec<Arc<Parcel>> {
    let mut chunks = Vec::new();
    let mut reader = LogFileReader::new(Limits { chunk_bytes, ..Limits::default() });
    let text = format!("{{\"Records\":[{}]}}", records.join(","));
    for part in text.as_bytes().chunks(chunk_bytes) {
        reader.push(part, &mut chunks).unwrap();
    }
    reader.finish(&mut chunks).unwrap();
    let mut maker = ParcelMaker::new(Arc::new(file.clone()), Arc::default());
    chunks.into_iter().map(|chunk| Arc::new(maker.make(chunk).parcel)).collect()
}

fn format(common: &CommonSettings, raw: bool, packing: Packing, cuts: Cuts) -> Arc<Format> {
    Arc::new(Format::new(Shredder { common: common.clone(), raw }, packing, cuts).unwrap())
}

fn usual() -> Arc<Format> {
    format(&CommonSettings::default(), true, Packing::Zstd, Cuts::USUAL)
}

/// All objects of a log file.
fn gather(format: &Arc<Format>, file: &LogFile, parcels: &[Arc<Parcel>]) -> Vec<Object> {
    let mut gathering = FileGathering::new(Arc::clone(format), file);
    let mut complete = Vec::new();
    for parcel in parcels {
        gathering.add(parcel, &mut complete).unwrap();
    }
    gathering.finish(&mut complete).unwrap();
    assert_eq!(gathering.memory_bytes(), 0);
    complete
}

fn objects(records: &[&str]) -> Vec<Object> {
    let records: Vec<String> = records.iter().map(|&record| record.to_owned()).collect();
    gather(&usual(), &file(KEY), &parcels(&file(KEY), &records, 64 << 10))
}

fn rows(object: &Object) -> Vec<Value> {
    let reader = SerializedFileReader::new(object.bytes.clone()).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| members(&row.unwrap())).collect()
}

fn members(row: &Row) -> Value {
    row.get_column_iter().map(|(name, cell)| (name.clone(), value(cell))).collect()
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Bool(flag) => json!(flag),
        Cell::Long(number) | Cell::TimestampMicros(number) => json!(number),
        Cell::Str(text) => json!(text),
        Cell::Group(row) => members(row),
        Cell::ListInternal(list) => list.elements().iter().map(value).collect(),
        Cell::MapInternal(map) => map
            .entries()
            .iter()
            .map(|(key, entry)| (key.to_string().replace('"', ""), value(entry)))
            .collect(),
        other => panic!("no column holds {other:?}"),
    }
}

/// The row of one record, without what is null.
fn row(record: &str) -> Value {
    let objects = objects(&[record]);
    let mut rows = rows(&objects[0]);
    assert_eq!((objects.len(), rows.len()), (1, 1));
    let mut row = rows.remove(0);
    row.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    row
}

const FULL: &str = r#"{"eventVersion":"1.11","userIdentity":{"type":"AssumedRole","principalId":"AROA:me",
"arn":"arn:aws:sts::012345678901:assumed-role/r/me","accountId":"012345678901","accessKeyId":"ASIA",
"sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA","arn":"arn:aws:iam::012345678901:role/r",
"accountId":"012345678901","userName":"r"},"webIdFederationData":{"federatedProvider":"oidc","attributes":{"a":"1","b":null}},
"attributes":{"creationDate":"2023-07-10T11:00:00Z","mfaAuthenticated":"false"},"ec2RoleDelivery":"2.0"},
"onBehalfOf":{"userId":"u-1","identityStoreArn":"arn:is"}},"eventTime":"2023-07-10T11:42:01Z",
"eventSource":"s3.amazonaws.com","eventName":"PutObject","awsRegion":"eu-west-1","sourceIPAddress":"192.0.2.1",
"userAgent":"a \"quoted\" é\ud83d\ude00 \ud800 agent","errorCode":"AccessDenied","errorMessage":"no",
"requestParameters":{"Host": ["x"],"n":1.0e2},"responseElements":null,"additionalEventData":"plain \u00e9",
"requestID":"R","eventID":"e-1","readOnly":false,"resources":[{"type":"AWS::S3::Object","ARN":"arn:1"},null,
{"accountId":"012345678901","arn":"arn:2","type":"b"}],"eventType":"AwsApiCall","apiVersion":null,"managementEvent":true,
"recipientAccountId":"012345678901","sharedEventID":"s","vpcEndpointId":"vpce-1","vpcEndpointAccountId":"012345678901",
"eventCategory":"Management","addendum":{"reason":"UPDATED_DATA","updatedFields":"x","originalRequestID":"q","originalEventID":"w"},
"sessionCredentialFromConsole":"true","edgeDeviceDetails":{"a":[1]},"serviceEventDetails":{"k":{}},
"tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"h"},"new":{"key":1}}"#;

/// `FULL` as it stands in a log file: on one line.
fn full() -> String {
    FULL.replace('\n', " ")
}

#[test]
fn a_record_is_taken_apart_into_its_columns() {
    let mut row = row(&full());
    let cells = row.as_object_mut().unwrap();
    assert_eq!(cells.remove("record"), Some(json!(full())));
    let expected = r##"{
        "eventversion": "1.11",
        "useridentity": {
            "type": "AssumedRole", "principalid": "AROA:me",
            "arn": "arn:aws:sts::012345678901:assumed-role/r/me", "accountid": "012345678901",
            "invokedby": null, "accesskeyid": "ASIA", "username": null,
            "onbehalfof": {"userid": "u-1", "identitystorearn": "arn:is"},
            "sessioncontext": {
                "attributes": {"mfaauthenticated": "false", "creationdate": "2023-07-10T11:00:00Z"},
                "sessionissuer": {
                    "type": "Role", "principalid": "AROA", "arn": "arn:aws:iam::012345678901:role/r",
                    "accountid": "012345678901", "username": "r"
                },
                "ec2roledelivery": "2.0",
                "webidfederationdata": {"federatedprovider": "oidc", "attributes": {"a": "1", "b": null}}
            }
        },
        "eventtime": "2023-07-10T11:42:01Z", "eventsource": "s3.amazonaws.com", "eventname": "PutObject",
        "awsregion": "eu-west-1", "sourceipaddress": "192.0.2.1",
        "useragent": "a \"quoted\" é😀 \ufffd agent", "errorcode": "AccessDenied", "errormessage": "no",
        "requestparameters": "{\"Host\": [\"x\"],\"n\":1.0e2}", "additionaleventdata": "\"plain \\u00e9\"",
        "edgedevicedetails": "{\"a\":[1]}", "serviceeventdetails": "{\"k\":{}}",
        "requestid": "R", "eventid": "e-1", "readonly": "false",
        "resources": [
            {"arn": "arn:1", "accountid": null, "type": "AWS::S3::Object"}, null,
            {"arn": "arn:2", "accountid": "012345678901", "type": "b"}
        ],
        "eventtype": "AwsApiCall", "recipientaccountid": "012345678901", "sharedeventid": "s",
        "vpcendpointid": "vpce-1", "vpcendpointaccountid": "012345678901", "eventcategory": "Management",
        "addendum": {
            "reason": "UPDATED_DATA", "updatedfields": "x", "originalrequestid": "q", "originaleventid": "w"
        },
        "sessioncredentialfromconsole": "true",
        "tlsdetails": {
            "tlsversion": "TLSv1.3", "ciphersuite": "TLS_AES_128_GCM_SHA256", "clientprovidedhostheader": "h"
        },
        "eventtime_ts": 1688989321000000,
        "actor_class": "principal", "actor_kind": "workload",
        "actor_principal": "arn:aws:sts::012345678901:assumed-role/r/me", "actor_principal_id": "AROA:me",
        "actor_account": "012345678901", "actor_role": "arn:aws:iam::012345678901:role/r",
        "actor_session": "me", "actor_identity_center_user": "u-1",
        "actor_on_behalf_of": false, "actor_console": true,
        "trailship_bucket": "trail", "trailship_key": "KEY", "trailship_record": 0,
        "trailship_labels": {"env": "prod", "team": "a"}
    }"##;
    // Free-form parts stand there byte for byte.
    let expected: Value = serde_json::from_str(&expected.replace("KEY", KEY)).unwrap();
    assert_eq!(row, expected);
}

#[test]
fn values_that_nobody_expects_are_kept_as_text_or_are_absent_and_never_shift_a_column() {
    let cell = |record: &str, name: &str| row(record).get(name).cloned().unwrap_or(Value::Null);
    let same = |record: &str, name: &str, expected: Value| {
        assert_eq!(cell(record, name), expected, "{name} of {record}");
        assert_eq!(cell(record, "record"), json!(record));
        assert_eq!(cell(record, "trailship_key"), json!(KEY), "what stands behind {name} of {record}");
    };
    same(r#"{"userIdentity":7}"#, "useridentity", Value::Null);
    same(r#"{"userIdentity":null}"#, "useridentity", Value::Null);
    same(r#"{"resources":[]}"#, "resources", json!([]));
    same(r#"{"resources":{}}"#, "resources", Value::Null);
    let nothing = json!({"arn": null, "accountid": null, "type": null});
    same(r#"{"resources":[{},"x",[]]}"#, "resources", json!([nothing, null, null]));
    same(
        r#"{"tlsDetails":{"tlsVersion":{"a":1},"other":2}}"#,
        "tlsdetails",
        json!({
            "tlsversion": "{\"a\":1}", "ciphersuite": null, "clientprovidedhostheader": null,
        }),
    );
    same(r#"{"eventName":["a"]}"#, "eventname", json!("[\"a\"]"));
    same(r#"{"eventName":"a","EVENTNAME":"b"}"#, "eventname", json!("b"));
    same(r#"{"event\u004eame":"a"}"#, "eventname", json!("a"));
    same(r#"{"eventId":"of an aggregated event"}"#, "eventid", json!("of an aggregated event"));
    same(r#"{"eventName":""}"#, "eventname", json!(""));
    same(r#"{"readOnly":true}"#, "readonly", json!("true"));
    same(r#"{"eventTime":"soon"}"#, "eventtime_ts", json!(1_688_989_500_000_000_i64));
    same(r#"{"trailship":{"mine":1}}"#, "actor_class", json!("unknown"));
    let web = r#"{"userIdentity":{"sessionContext":{"webIdFederationData":{"attributes":{}}}}}"#;
    assert_eq!(cell(web, "useridentity")["sessioncontext"]["webidfederationdata"]["attributes"], json!({}));
}

#[test]
fn without_raw_only_a_record_that_cannot_be_taken_apart_stands_there() {
    let format = format(&CommonSettings::default(), false, Packing::Snappy, Cuts::USUAL);
    let records = vec![full(), r#"{"\ud800":1,"eventName":"x"}"#.to_owned()];
    let objects = gather(&format, &file(KEY), &parcels(&file(KEY), &records, 64 << 10));
    let rows = rows(&objects[0]);
    assert_eq!((&rows[0]["record"], &rows[0]["eventname"]), (&Value::Null, &json!("PutObject")));
    assert_eq!(rows[1]["record"], json!(records[1]));
}

#[test]
fn a_sink_s_labels_win_and_without_additions_nothing_of_ours_is_there() {
    let common = CommonSettings { labels: pairs(&[("env", "test")]), ..CommonSettings::default() };
    let rows_with = |common: &CommonSettings| {
        let format = format(common, true, Packing::Zstd, Cuts::USUAL);
        rows(&gather(&format, &file(KEY), &parcels(&file(KEY), &[full()], 64 << 10))[0]).remove(0)
    };
    assert_eq!(rows_with(&common)["trailship_labels"], json!({"team": "a", "env": "test"}));
    let none = rows_with(&CommonSettings { additions: Additions::None, ..common });
    let ours = |(name, _): &(&String, &Value)| name.starts_with("trailship_") || name.starts_with("actor_");
    let ours: Vec<_> = none.as_object().unwrap().iter().filter(ours).collect();
    assert!(ours.len() == 15 && ours.iter().all(|(_, value)| value.is_null()), "{ours:?}");
    assert_eq!(none["eventid"], json!("e-1"));
}

/// What a column has to hold, by another reader of JSON.
fn expected(node: &schema::Node, object: &Value) -> Value {
    let member = object.as_object().and_then(|object| {
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case(node.key)).map(|(_, value)| value)
    });
    let members = |nodes: &[schema::Node], value: &Value| -> Value {
        nodes.iter().map(|node| (node.name.to_owned(), expected(node, value))).collect()
    };
    match (&node.kind, member) {
        (_, None | Some(Value::Null)) => Value::Null,
        (schema::Kind::Text, Some(Value::String(text))) => json!(text),
        (schema::Kind::Text | schema::Kind::Json, Some(value)) => json!(value.to_string()),
        (schema::Kind::Struct(nodes), Some(value @ Value::Object(_))) => members(nodes, value),
        (schema::Kind::List(nodes), Some(Value::Array(values))) => {
            values.iter().map(|value| members(nodes, value)).collect()
        }
        (kind, Some(value)) => panic!("the generator writes no {value} for {kind:?}"),
    }
}

#[test]
fn every_generated_event_is_found_again_in_its_row() {
    let mut generator = testkit::generate::Generator::new(7);
    let records: Vec<String> = (0..2000).map(|_| generator.event()).collect();
    let objects = gather(&usual(), &file(KEY), &parcels(&file(KEY), &records, 16 << 10));
    let mut seen = BTreeSet::new();
    for row in objects.iter().flat_map(rows) {
        let index = usize::try_from(row["trailship_record"].as_u64().unwrap()).unwrap();
        assert!(seen.insert(index));
        let record: Value = serde_json::from_str(&records[index]).unwrap();
        for node in schema::RECORD {
            let mut expected = expected(node, &record);
            if let (schema::Kind::Json, Some(text)) = (&node.kind, row[node.name].as_str()) {
                assert!(records[index].contains(text), "not as AWS wrote it: {text}");
                expected = json!(text);
                let value: Value = serde_json::from_str(text).unwrap();
                let keys = record.as_object().unwrap().iter();
                assert!(keys.into_iter().any(|(_, member)| *member == value));
            }
            assert_eq!(row[node.name], expected, "{} of {}", node.name, records[index]);
        }
        assert_eq!(row["record"], json!(records[index]));
    }
    assert_eq!(seen.len(), records.len());
}

#[test]
fn an_object_s_bytes_and_name_stay_what_they_are() {
    let format = format(&CommonSettings::default(), true, Packing::Snappy, Cuts::USUAL);
    let object = gather(&format, &file(KEY), &parcels(&file(KEY), &[full()], 64 << 10)).remove(0);
    let expected = "account=012345678901/region=eu-west-1/day=2023-07-10/3c9a426bc28e12d7b48e4707e7132825c9ee9b39.parquet";
    assert_eq!(object.name, expected);
    let sum: String =
        <sha2::Sha256 as sha2::Digest>::digest(&object.bytes).iter().map(|b| format!("{b:02x}")).collect();
    // Another version of the writer may write others: then a replay over the update replaces the objects by these.
    assert_eq!(sum, "2f1f546653923f81f84eb5d1a737c24b01e12385d86ba19ded22cc82c6a7bebb");
    let reader = SerializedFileReader::new(object.bytes).unwrap();
    let metadata = reader.metadata();
    let file = metadata.file_metadata();
    assert_eq!((file.num_rows(), file.created_by(), file.key_value_metadata()), (1, Some("trailship"), None));
    let codecs: Vec<Codec> =
        metadata.row_group(0).columns().iter().map(|column| column.compression()).collect();
    assert_eq!(codecs, vec![Codec::SNAPPY; schema::leaves().len()]);
}

#[test]
fn the_name_tells_apart_what_holds_other_events() {
    let name = |bucket: &str, key: &str, records: &[&str]| {
        let mut file = file(KEY);
        (file.bucket, file.key) = (bucket.into(), key.into());
        let records: Vec<String> = records.iter().map(|&record| record.to_owned()).collect();
        gather(&usual(), &file, &parcels(&file, &records, 64 << 10)).remove(0).name
    };
    let names = [
        name("trail", KEY, &["{}"]),
        name("trail", KEY, &["{ }"]),
        name("trail", KEY, &["{}", "{}"]),
        name("other", KEY, &["{}"]),
        name("trail", &KEY.replace("abcd", "efgh"), &["{}"]),
    ];
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    let mut later = file(KEY);
    (later.via, later.read_at) = (Via::Redrive, "2024-01-01T00:00:00.000Z".into());
    (later.version_id, later.etag) = (None, Some("e".into()));
    let (now, then) = (file(KEY), later);
    let made = |file: &LogFile| gather(&usual(), file, &parcels(file, &[full()], 64 << 10)).remove(0);
    assert_eq!(made(&now).name, made(&then).name);
    assert_eq!(made(&now).bytes, made(&then).bytes, "how and when it came must not change it");
}

#[test]
fn no_event_leads_out_of_its_folders() {
    let place = |record: &str, key: &str| {
        let file = LogFile { key_minute: None, ..file(key) };
        let name = gather(&usual(), &file, &parcels(&file, &[record.to_owned()], 64 << 10)).remove(0).name;
        name.rsplit_once('/').unwrap().0.to_owned()
    };
    let event = r#"{"recipientAccountId":"000000000042","awsRegion":"us-gov-west-1","eventTime":"2024-02-29T23:59:59Z"}"#;
    assert_eq!(place(event, KEY), "account=000000000042/region=us-gov-west-1/day=2024-02-29");
    assert_eq!(place("{}", KEY), "account=012345678901/region=eu-west-1/day=undated");
    assert_eq!(place("{}", "/tmp/x.json"), "account=unknown/region=unknown/day=undated");
    let aggregated = r#"{"accountId":"000000000042"}"#;
    assert_eq!(place(aggregated, "x"), "account=000000000042/region=unknown/day=undated");
    for hostile in ["../../etc", "12345678901/", "123456789012/../..", "", "a=b", "１２３４５６７８９０１２"]
    {
        let record =
            json!({"recipientAccountId": hostile, "awsRegion": hostile, "eventTime": hostile}).to_string();
        assert_eq!(place(&record, KEY), "account=012345678901/region=eu-west-1/day=undated", "{hostile}");
    }
    let year = r#"{"eventTime":"9999-12-31T23:59:59-23:00"}"#;
    assert_eq!(place(year, "x"), "account=unknown/region=unknown/day=undated", "past the last year");
}

const SMALL: Cuts = Cuts { events: 10, bytes: 4000, places: 3, group_bytes: 3000 };

/// Events of a few accounts and days, of sizes that a test says.
fn records(sizes: &[(u8, u16)]) -> Vec<String> {
    let record = |&(place, size): &(u8, u16)| {
        let (account, day) = (place % 4, place / 4 % 3 + 1);
        let filler = "x".repeat(size.into());
        format!(
            r#"{{"recipientAccountId":"00000000000{account}","eventTime":"2023-07-0{day}T00:00:00Z","errorMessage":"{filler}"}}"#
        )
    };
    sizes.iter().map(record).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_event_is_in_exactly_one_object_and_the_objects_depend_on_the_log_file_alone(
        sizes in prop::collection::vec((any::<u8>(), 0u16..1500), 0..60),
        chunks in prop::collection::vec(64usize..5000, 2),
    ) {
        let format = format(&CommonSettings::default(), true, Packing::Snappy, SMALL);
        let records = records(&sizes);
        let made: Vec<BTreeMap<String, Object>> = chunks
            .iter()
            .map(|&chunk| {
                let objects = gather(&format, &file(KEY), &parcels(&file(KEY), &records, chunk));
                let count = objects.len();
                let named: BTreeMap<_, _> = objects.into_iter().map(|object| (object.name.clone(), object)).collect();
                assert_eq!(named.len(), count, "two objects of one name");
                named
            })
            .collect();
        prop_assert_eq!(made[0].keys().collect::<Vec<_>>(), made[1].keys().collect::<Vec<_>>());
        let mut seen = RangeSet::new();
        for (object, again) in made[0].values().zip(made[1].values()) {
            prop_assert_eq!(&object.bytes, &again.bytes);
            let rows = rows(object);
            prop_assert_eq!(rows.len() as u64, object.events.count());
            let span = object.events.ranges();
            prop_assert_eq!(span[0].start / SMALL.events, (span[span.len() - 1].end - 1) / SMALL.events);
            for row in rows {
                let index = row["trailship_record"].as_u64().unwrap();
                prop_assert!(object.events.contains(index) && !seen.contains(index));
                seen.insert(index..index + 1);
                prop_assert_eq!(&row["record"], &json!(records[usize::try_from(index).unwrap()]));
                let account = format!("account={}/", row["recipientaccountid"].as_str().unwrap());
                prop_assert!(object.name.starts_with(&account));
            }
        }
        prop_assert!(seen.covers(records.len() as u64));
    }
}

#[test]
fn a_large_log_file_is_cut_by_events_by_bytes_and_by_places_and_has_several_row_groups() {
    let cut = |sizes: &[(u8, u16)], cuts: Cuts| -> Vec<u64> {
        let format = format(&CommonSettings::default(), true, Packing::Zstd, cuts);
        let objects = gather(&format, &file(KEY), &parcels(&file(KEY), &records(sizes), 700));
        objects.iter().map(|object| object.events.count()).collect()
    };
    assert_eq!(cut(&[(0, 0); 25], SMALL), [10, 10, 5]);
    assert_eq!(cut(&[(0, 1900); 25], SMALL), [3, 3, 3, 1, 3, 3, 3, 1, 3, 2]);
    let many: Vec<(u8, u16)> = (0..8).map(|place| (place, 0)).collect();
    assert_eq!(cut(&many, SMALL), [1; 8], "no more than three places at once, each closed before the fourth");
    let wide = Cuts { events: 100, bytes: 1 << 20, ..SMALL };
    let format = format(&CommonSettings::default(), true, Packing::Zstd, wide);
    let object = gather(&format, &file(KEY), &parcels(&file(KEY), &records(&[(0, 1000); 50]), 700)).remove(0);
    let reader = SerializedFileReader::new(object.bytes.clone()).unwrap();
    assert!(reader.metadata().num_row_groups() > 10 && rows(&object).len() == 50);
}

#[test]
fn what_is_gathered_is_known_in_bytes_and_its_parcels_are_let_go_of() {
    let format = usual();
    let parcels = parcels(&file(KEY), &records(&[(0, 1000); 500]), 16 << 10);
    let mut gathering = FileGathering::new(Arc::clone(&format), &file(KEY));
    let mut complete = Vec::new();
    for parcel in &parcels {
        gathering.add(parcel, &mut complete).unwrap();
        assert_eq!(Arc::strong_count(parcel), 1, "its bytes are held on to");
    }
    let held = gathering.memory_bytes();
    assert!(complete.is_empty() && (1_000_000..3_000_000).contains(&held), "{held}");
}

fn build(settings: Value) -> Result<Built, String> {
    let settings: Settings = serde_json::from_value(settings).map_err(|error| error.to_string())?;
    settings.build(&CommonSettings::default()).map_err(|invalid| invalid.to_string())
}

#[test]
fn settings_lead_to_a_folder_or_a_bucket() {
    let folder = build(json!({"path": "out/parquet"})).unwrap();
    assert_eq!((folder.endpoints, folder.identity), (vec!["out/parquet".to_owned()], None));
    let bucket =
        build(json!({"bucket": "lake", "prefix": "a/b/", "compression": "snappy", "raw": false})).unwrap();
    assert_eq!(bucket.endpoints, ["s3://lake/a/b/"]);
    assert_eq!(bucket.identity.as_deref(), Some("default"));
    let other = build(json!({"bucket": "lake", "aws": "lake_account", "region": "eu-west-1"})).unwrap();
    assert_eq!(
        (other.endpoints, other.identity.as_deref()),
        (vec!["s3://lake/".to_owned()], Some("lake_account"))
    );
}

#[test]
fn settings_that_cannot_work_are_refused_with_their_key() {
    let refused = |settings: Value, key: &str| {
        let error = build(settings.clone()).map(|_| ()).unwrap_err();
        assert!(error.contains(key), "{settings}: {error}");
    };
    refused(json!({}), "path: ");
    refused(json!({"path": ""}), "path: ");
    refused(json!({"path": "x", "bucket": "lake"}), "path: ");
    refused(json!({"path": "x", "prefix": "y"}), "prefix: ");
    refused(json!({"path": "x", "region": "y"}), "region: ");
    refused(json!({"path": "x", "aws": "y"}), "aws: ");
    for bucket in ["s3://lake", "", "a b"] {
        refused(json!({"bucket": bucket}), "bucket: ");
    }
    for prefix in ["/a", "a//b", "../b", "a/./b", "a\n"] {
        refused(json!({"bucket": "lake", "prefix": prefix}), "prefix: ");
    }
    refused(json!({"path": "x", "compression": "gzip"}), "gzip");
    refused(json!({"path": "x", "unknown": 1}), "unknown");
}

/// The columns as Athena declares them.
fn declared(node: &schema::Node) -> String {
    let inner = |nodes: &[schema::Node]| {
        let members: Vec<String> = nodes.iter().map(|node| declared(node).replacen(' ', ":", 1)).collect();
        format!("struct<{}>", members.join(","))
    };
    let of = match node.kind {
        schema::Kind::Text | schema::Kind::Json => "string".to_owned(),
        schema::Kind::Time => "timestamp".to_owned(),
        schema::Kind::Number => "bigint".to_owned(),
        schema::Kind::Flag => "boolean".to_owned(),
        schema::Kind::Map => "map<string,string>".to_owned(),
        schema::Kind::Struct(nodes) => inner(nodes),
        schema::Kind::List(nodes) => format!("array<{}>", inner(nodes)),
    };
    format!("{} {of}", node.name)
}

#[test]
fn the_table_of_athena_that_is_shipped_has_exactly_these_columns() {
    let expected: Vec<String> = schema::all().map(declared).collect();
    let sql = include_str!("../../../../deploy/spark/athena.sql");
    let table = sql.split("CREATE EXTERNAL TABLE").nth(1).expect("a table");
    let table = table.split_once('(').unwrap().1.split_once("\n)").unwrap().0;
    let columns: Vec<String> = table
        .lines()
        .map(|line| line.trim().trim_end_matches(',').replace('`', ""))
        .filter(|l| !l.is_empty())
        .collect();
    assert_eq!(columns, expected);
}

fn merging(text: &str) -> Result<crate::MergeLimits, Invalid> {
    serde_json::from_str::<MergeSettings>(text).unwrap().limits()
}

#[test]
fn a_merged_object_has_exactly_the_rows_of_its_parts_in_their_order() {
    let first: Vec<String> =
        (0..40).map(|id| format!(r#"{{"eventID":"a{id}","resources":[{{"ARN":"x"}},{{}}]}}"#)).collect();
    let second = [FULL.to_owned(), "{}".to_owned(), r#"{"resources":[],"readOnly":null}"#.to_owned()];
    let light = format(&CommonSettings::default(), true, Packing::Snappy, Cuts::USUAL);
    // Parts of several row groups, and such that are larger than one of the whole.
    let narrow =
        format(&CommonSettings::default(), true, Packing::Snappy, Cuts { group_bytes: 2_000, ..Cuts::USUAL });
    for (parts_by, group_bytes) in [(&light, 8 << 20), (&narrow, 8 << 20), (&light, 1_000), (&narrow, 9_000)]
    {
        let cuts = Cuts { group_bytes, ..Cuts::USUAL };
        let whole = format(&CommonSettings::default(), true, Packing::Zstd, cuts);
        let mut parts = gather(parts_by, &file("a"), &parcels(&file("a"), &first, 512));
        parts.extend(gather(parts_by, &file("b"), &parcels(&file("b"), &second, 512)));
        parts.extend(gather(parts_by, &file("a"), &parcels(&file("a"), &first[..3], 512)));
        let bytes: Vec<Bytes> = parts.iter().map(|part| part.bytes.clone()).collect();
        let joined = Object { bytes: whole.join(&bytes).unwrap(), ..Object::default() };
        let expected: Vec<Value> = parts.iter().flat_map(rows).collect();
        assert_eq!((rows(&joined), expected.len()), (expected, 46));
        assert_eq!(whole.join(&bytes).unwrap(), joined.bytes, "the same parts make the same bytes");
        let start = &joined.bytes[..merging::VOID_START];
        assert!(!merging::is_void(start));
        let reader = SerializedFileReader::new(joined.bytes.clone()).unwrap();
        assert_eq!(reader.num_row_groups() > 1, group_bytes < 8 << 20);
    }
}

#[test]
fn rows_that_were_read_back_count_as_much_memory_as_when_they_were_made() {
    let events = [FULL.to_owned(), "{}".to_owned(), r#"{"resources":[{},{}],"eventID":"e"}"#.to_owned()];
    let format = usual();
    let parcels = parcels(&file(KEY), &events, 64 << 10);
    let mut made = columns::Columns::new(&format.leaves);
    let chunk = &parcels[0];
    (0..3).for_each(|slot| format.shredder.write(&crate::Event::new(chunk, slot).unwrap(), &mut made));
    let mut writer = format.writer().unwrap();
    let (bytes, rows) = (made.bytes(), made.rows());
    made.write(&mut writer).unwrap();
    let reader = SerializedFileReader::new(Bytes::from(writer.into_inner().unwrap())).unwrap();
    let mut again = columns::Columns::new(&format.leaves);
    again.append(&*reader.get_row_group(0).unwrap()).unwrap();
    assert_eq!((again.bytes(), again.rows()), (bytes, rows));
}

#[test]
fn a_void_object_is_a_parquet_file_without_rows_and_tells_itself_by_its_start() {
    let void = usual().void().unwrap();
    assert!(merging::is_void(&void[..merging::VOID_START]));
    let reader = SerializedFileReader::new(void).unwrap();
    assert_eq!((reader.num_row_groups(), reader.metadata().file_metadata().num_rows()), (0, 0));
    let schema = reader.metadata().file_metadata().schema();
    assert_eq!(schema.get_fields().len(), usual().schema.get_fields().len());
    assert!(!merging::is_void(b"PAR1") && !merging::is_void(b""));
}

#[test]
fn when_a_group_is_closed_can_be_set_within_bounds() {
    let usual = merging("{}").unwrap();
    assert_eq!(
        (usual.bytes_max, usual.age_max, usual.pieces_max),
        (128 << 20, Duration::from_secs(300), 5_000)
    );
    let own = merging(r#"{"max_bytes":"64MiB","max_age":"90s","max_log_files":10}"#).unwrap();
    assert_eq!((own.bytes_max, own.age_max, own.pieces_max), (64 << 20, Duration::from_secs(90), 10));
    let refused = [
        (r#"{"max_bytes":"1KiB"}"#, "merge.max_bytes"),
        (r#"{"max_bytes":"much"}"#, "merge.max_bytes"),
        (r#"{"max_age":"2h"}"#, "merge.max_age"),
        (r#"{"max_age":"0s"}"#, "merge.max_age"),
        (r#"{"max_age":"5"}"#, "merge.max_age"),
        (r#"{"max_log_files":1}"#, "merge.max_log_files"),
    ];
    for (text, key) in refused {
        assert_eq!(merging(text).unwrap_err().key, key);
    }
    assert!(serde_json::from_str::<MergeSettings>(r#"{"max_rows":1}"#).is_err());
}
