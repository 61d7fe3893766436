//! Multipart uploads.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Millis, NewObject, S3, S3Error, Version};
use crate::aws::{hex, md5};

/// An upload under way.
pub(crate) struct Upload {
    key: String,
    headers: Vec<(String, String)>,
    parts: BTreeMap<u32, (String, Bytes)>,
}

fn missing() -> S3Error {
    let message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
                   aborted or completed.";
    S3Error::new(404, "NoSuchUpload", message)
}

impl S3 {
    /// Begins an upload and gives its id.
    pub(crate) fn create_upload(
        &mut self,
        bucket: &str,
        key: &str,
        headers: Vec<(String, String)>,
    ) -> Result<String, S3Error> {
        let id = format!("{:016x}{:016x}", self.rng.bits(), self.rng.bits());
        let upload = Upload { key: key.to_owned(), headers, parts: BTreeMap::new() };
        self.bucket(bucket)?.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    /// Takes one part and gives its entity tag.
    pub(crate) fn upload_part(
        &mut self,
        bucket: &str,
        id: &str,
        number: u32,
        body: Bytes,
    ) -> Result<String, S3Error> {
        let upload = self.bucket(bucket)?.uploads.get_mut(id).ok_or_else(missing)?;
        let etag = hex(&md5(&body));
        upload.parts.insert(number, (etag.clone(), body));
        Ok(etag)
    }

    /// Makes an object of the parts that the caller lists, each with the entity tag it got.
    pub(crate) fn complete_upload(
        &mut self,
        bucket: &str,
        id: &str,
        listed: &[(u32, String)],
        if_absent: bool,
        now: Millis,
    ) -> Result<(String, Version), S3Error> {
        let upload = self.bucket(bucket)?.uploads.get(id).ok_or_else(missing)?;
        let mut body = BytesMut::new();
        let mut digests = Vec::new();
        let mut last = 0;
        for (number, etag) in listed {
            let part = upload.parts.get(number).filter(|(own, _)| own == etag);
            let Some((_, part)) = part else {
                let message = "One or more of the specified parts could not be found.";
                return Err(S3Error::new(400, "InvalidPart", message));
            };
            if *number <= last {
                let message = "The list of parts was not in ascending order.";
                return Err(S3Error::new(400, "InvalidPartOrder", message));
            }
            last = *number;
            digests.extend_from_slice(&md5(part));
            body.put_slice(part);
        }
        if listed.is_empty() {
            return Err(S3Error::new(400, "MalformedXML", "You must specify at least one part"));
        }
        let etag = Some(format!("{}-{}", hex(&md5(&digests)), listed.len()));
        let (key, headers) = (upload.key.clone(), upload.headers.clone());
        let new = NewObject { body: body.freeze(), headers, if_absent, etag };
        let version = self.put(bucket, &key, new, now)?;
        self.bucket(bucket)?.uploads.remove(id);
        Ok((key, version))
    }

    pub(crate) fn abort_upload(&mut self, bucket: &str, id: &str) -> Result<(), S3Error> {
        self.bucket(bucket)?.uploads.remove(id).map(|_| ()).ok_or_else(missing)
    }
}
