//! Checks `[aws]`: the default identity, and those that are derived from it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::de::keys_of;
use super::super::model::{
    AssumeRole, AwsIdentity, DEFAULT_IDENTITY, DeadLetter, Endpoints, Ledger, SinkConfig, Source, SourceKind,
};
use super::super::problem::{nearest, unknown_key};
use super::super::raw::{RawAssumeRole, RawAws, RawEndpoints};
use super::super::remote::SecretSource;
use super::super::tree::Node;
use super::sources::identity_path;
use super::{Checker, dead_letter, part};

impl Checker<'_> {
    /// All identities by name. One that could not be read is there all the same, so that references to it are
    /// not taken for wrong as well.
    pub(super) fn aws(&self) -> BTreeMap<String, AwsIdentity> {
        let nothing = Node::table();
        let section = self.tree.get("aws").unwrap_or(&nothing);
        let own = keys_of::<RawAws>();
        let default = part(section, |key| own.contains(&key));
        let default: RawAws = self.reader.read(&default, "aws").unwrap_or_default();
        let mut identities = BTreeMap::new();
        identities.insert(DEFAULT_IDENTITY.to_owned(), self.identity(&default, "aws"));
        self.keep(&["aws"], &default);
        for (name, node) in section.as_table().into_iter().flatten() {
            let path = format!("aws.{name}");
            if own.contains(&name.as_str()) {
                continue;
            }
            if node.as_table().is_none() {
                self.reader.problem(node, &path, &unknown_key(name, &own));
                continue;
            }
            let wrong = "the name is taken: [aws] itself is the default identity";
            self.require(name != DEFAULT_IDENTITY, &path, wrong);
            let raw: RawAws = self.reader.read(node, &path).unwrap_or_default();
            let raw = inherit(raw, &default);
            self.keep(&["aws", name], &raw);
            identities.insert(name.clone(), self.identity(&raw, &path));
        }
        identities
    }

    fn identity(&self, raw: &RawAws, path: &str) -> AwsIdentity {
        let plaintext = raw.allow_plaintext.unwrap_or_default();
        let endpoints = &raw.endpoints;
        for (name, url) in [
            ("s3", &endpoints.s3),
            ("sqs", &endpoints.sqs),
            ("sts", &endpoints.sts),
            ("dynamodb", &endpoints.dynamodb),
            ("secrets_manager", &endpoints.secrets_manager),
            ("ssm", &endpoints.ssm),
        ] {
            if let Some(url) = url {
                self.address(url, &format!("{path}.endpoints.{name}"), plaintext, path);
            }
        }
        let region = raw.region.as_deref();
        self.region(region, &format!("{path}.region"));
        let assume_role = raw.assume_role.as_ref().map(|role| self.assume_role(role, path));
        AwsIdentity {
            region: raw.region.clone(),
            endpoints: Endpoints {
                s3: endpoints.s3.clone(),
                sqs: endpoints.sqs.clone(),
                sts: endpoints.sts.clone(),
                dynamodb: endpoints.dynamodb.clone(),
                secrets_manager: endpoints.secrets_manager.clone(),
                ssm: endpoints.ssm.clone(),
            },
            use_fips: raw.use_fips.unwrap_or_default(),
            use_dualstack: raw.use_dualstack.unwrap_or_default(),
            proxy: self.proxy(raw.proxy.as_deref(), &format!("{path}.proxy")),
            profile: raw.profile.clone(),
            assume_role,
        }
    }

    /// The SDK takes addresses from the environment as well: they are held to what holds for those of the document.
    /// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
    fn endpoints_of_environment(&self, identity: &str) {
        if self.machine.variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == Some("true") {
            return;
        }
        for service in ["", "_S3", "_SQS", "_STS", "_SECRETS_MANAGER", "_SSM"] {
            let name = format!("AWS_ENDPOINT_URL{service}");
            if let Some(url) = self.machine.variable(&name) {
                self.address(url, &name, false, identity);
            }
        }
    }

    fn assume_role(&self, raw: &RawAssumeRole, path: &str) -> AssumeRole {
        let role = raw.arn.starts_with("arn:") && raw.arn.contains(":iam::") && raw.arn.contains(":role/");
        let message = "not a role's ARN, such as arn:aws:iam::111122223333:role/name";
        self.require(role, &format!("{path}.assume_role.arn"), message);
        // https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
        let name = &raw.session_name;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b));
        let message = "2 to 64 letters, digits and \"_+=,.@-\"";
        let good = plain && (2..=64).contains(&name.len());
        self.require(good, &format!("{path}.assume_role.session_name"), message);
        AssumeRole {
            arn: raw.arn.clone(),
            external_id: raw.external_id.clone(),
            session_name: raw.session_name.clone(),
        }
    }

    /// A region becomes part of a host's name, so it holds nothing else. Which ones there are is AWS's affair.
    pub(super) fn region(&self, region: Option<&str>, path: &str) {
        let Some(region) = region else { return };
        let plain = region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        self.require(plain && !region.is_empty(), path, "not a region, such as \"eu-west-1\"");
    }

    /// Checks that every name of an identity exists, and warns of identities that nobody uses.
    pub(super) fn identities(
        &self,
        sources: &[Source],
        sinks: &[SinkConfig],
        (dead_letter, ledger): (Option<&DeadLetter>, Option<&Ledger>),
        known: &BTreeMap<String, AwsIdentity>,
    ) {
        let mut used = BTreeSet::new();
        for source in sources {
            let SourceKind::Sqs(queue) = &source.kind else { continue };
            let path = format!("sources.{}", source.name);
            used.insert((format!("{path}.aws"), queue.aws.clone()));
            for (index, bucket) in queue.buckets.iter().enumerate() {
                // A bucket without an identity of its own has the queue's.
                let own = self.tree.nearest(&["sources", &source.name, "buckets", &index.to_string()]);
                if own.get("aws").is_some() {
                    used.insert((format!("{path}.buckets.{index}.aws"), bucket.aws.clone()));
                }
            }
        }
        for sink in sinks {
            if let Some(identity) = &sink.identity {
                used.insert((format!("sinks.{}.aws", sink.name), identity.clone()));
            }
        }
        for (path, letters) in dead_letter::all(sinks, dead_letter) {
            if let Some(name) = letters.identity() {
                used.insert((format!("{path}.aws"), name.to_owned()));
            }
        }
        if let Some(table) = ledger.and_then(|ledger| ledger.table.as_ref()) {
            used.insert(("ledger.aws".to_owned(), table.aws.clone()));
        }
        for secret in self.reader.found() {
            if let SecretSource::Remote(remote) = secret.source {
                used.insert((format!("{}.aws", secret.path), remote.aws));
            }
        }
        for (path, name) in &used {
            if !known.contains_key(name) {
                let meant = nearest(name, known.keys().map(String::as_str));
                let hint = meant.map_or_else(String::new, |meant| format!("; did you mean \"{meant}\"?"));
                self.problem(path, &format!("there is no identity [aws.{name}]{hint}"));
            }
        }
        if let Some((_, name)) = used.iter().find(|(_, name)| !self.plaintext(name)) {
            self.endpoints_of_environment(&identity_path(name));
        }
        for name in known.keys().filter(|name| *name != DEFAULT_IDENTITY) {
            if !used.iter().any(|(_, other)| other == name) {
                self.warn(
                    &format!("aws.{name}"),
                    "no source, bucket, sink, secret, ledger or dead letter uses this identity",
                );
            }
        }
    }
}

/// An identity with what it does not say taken from the default one; a role is not taken.
fn inherit(raw: RawAws, default: &RawAws) -> RawAws {
    let (own, others) = (raw.endpoints, default.endpoints.clone());
    let endpoints = RawEndpoints {
        s3: own.s3.or(others.s3),
        sqs: own.sqs.or(others.sqs),
        sts: own.sts.or(others.sts),
        dynamodb: own.dynamodb.or(others.dynamodb),
        secrets_manager: own.secrets_manager.or(others.secrets_manager),
        ssm: own.ssm.or(others.ssm),
    };
    RawAws {
        region: raw.region.or_else(|| default.region.clone()),
        endpoints,
        use_fips: raw.use_fips.or(default.use_fips),
        use_dualstack: raw.use_dualstack.or(default.use_dualstack),
        proxy: raw.proxy.or_else(|| default.proxy.clone()),
        profile: raw.profile.or_else(|| default.profile.clone()),
        allow_plaintext: raw.allow_plaintext.or(default.allow_plaintext),
        assume_role: raw.assume_role,
    }
}
