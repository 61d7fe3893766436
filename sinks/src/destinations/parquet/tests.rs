//! Rows by what a reader of another make finds in them, names and bytes of objects, places and cuts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::{Field as Cell, MapAccessor as _, Row};
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
        Cell::MapInternal(map) => {
            map.entries().iter().map(|(key, entry)| (key.to_string().replace('"', ""), value(entry))).collect()
        }
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

