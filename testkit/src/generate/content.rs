//! The content of an odd file while it is put together, event by event.

use sha2::{Digest, Sha256};

use super::event::event_id;
use super::file::File;
use super::odd::Reading;
use super::{ACCOUNTS, FileKind, Generator, Issued, LogFileSample};
use crate::calendar::Calendar;

/// The content of a file while it is put together.
pub(super) struct Content<'a> {
    pub(super) generator: &'a Generator,
    pub(super) file: File,
    pub(super) records: Vec<Vec<u8>>,
    pub(super) issued: Vec<Issued>,
}

impl<'a> Content<'a> {
    pub(super) fn new(generator: &'a mut Generator, kind: FileKind) -> Self {
        let file = generator.begin(kind);
        Self { generator, file, records: Vec::new(), issued: Vec::new() }
    }

    /// Adds ordinary events.
    pub(super) fn ordinary(mut self, count: usize) -> Self {
        for _ in 0..count {
            let index = self.records.len();
            let mut record = Vec::new();
            let drawn = self.generator.writer.event(&mut self.file, index as u64, &mut record);
            self.push(record, Some(drawn.event_id), drawn.actor);
        }
        self
    }

    /// Adds an event by hand. `members` follow the first ones, which every event has.
    pub(super) fn special(mut self, members: &str) -> Self {
        let (id, record) = self.record(members);
        self.push(record.into_bytes(), Some(id), "role_session");
        self
    }

    /// An event by hand, with the id of the next place.
    pub(super) fn record(&self, members: &str) -> (String, String) {
        let id = event_id(self.file.seed, self.records.len() as u64);
        let record = format!("{{{},\"eventID\":\"{id}\"{members}}}", self.first_members());
        (id, record)
    }

    /// Adds an event whose bytes are given.
    pub(super) fn raw(mut self, record: impl Into<Vec<u8>>, id: Option<String>, actor: &'static str) -> Self {
        self.push(record.into(), id, actor);
        self
    }

    fn push(&mut self, record: Vec<u8>, event_id: Option<String>, actor: &'static str) {
        let index = self.records.len() as u32;
        self.issued.push(Issued { index, event_id, sha256: Sha256::digest(&record).into(), actor });
        self.records.push(record);
    }

    pub(super) fn first_members(&self) -> String {
        let account = ACCOUNTS[self.file.account];
        let time = Calendar::new(self.file.delivered_s - 200).iso8601();
        format!(
            r#""eventVersion":"1.11","userIdentity":{{"type":"AssumedRole","principalId":"AROAEXAMPLEEXAMPLE123:odd","arn":"arn:aws:sts::{account}:assumed-role/shop-api/odd","accountId":"{account}","sessionContext":{{"sessionIssuer":{{"type":"Role","arn":"arn:aws:iam::{account}:role/shop-api","accountId":"{account}","userName":"shop-api"}}}}}},"eventTime":"{time}","eventSource":"ec2.amazonaws.com","eventName":"DescribeTags","awsRegion":"{}","sourceIPAddress":"10.0.0.1","userAgent":"odd","eventType":"AwsApiCall","eventCategory":"Management","recipientAccountId":"{account}""#,
            self.file.region
        )
    }

    /// `{"Records":[…]}` in AWS's own form.
    pub(super) fn json(&self) -> Vec<u8> {
        self.wrapped(b"{\"Records\":[", b",", b"]}")
    }

    pub(super) fn wrapped(&self, first: &[u8], between: &[u8], last: &[u8]) -> Vec<u8> {
        [first, &self.records.join(between), last].concat()
    }

    pub(super) fn finish(self) -> (LogFileSample, Reading) {
        let json = self.json();
        self.finish_as(json)
    }

    pub(super) fn finish_as(self, json: Vec<u8>) -> (LogFileSample, Reading) {
        (self.generator.finish(self.file, json, self.issued), Reading::Whole)
    }
}
