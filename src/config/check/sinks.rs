//! Checks `[sinks.*]`: what all have in common, and with each destination's help its own settings.

use std::path::PathBuf;
use std::time::Duration;

use sinks::Compression;
use sinks::destinations::{self, Defaults, Reach};

use super::super::de::keys_of;
use super::super::model::{Batch, Concurrency, FileSink, Network, Retry, SinkConfig, SinkKind, Tls};
use super::super::raw::{RawBatch, RawConsole, RawFileSink, RawLane, RawNetwork, RawTls};
use super::super::settings::Settings;
use super::super::tree::Node;
use super::super::units::{Size, Span, format_size};
use super::{Checker, part, plain};

/// The sinks that write here instead of asking a server.
const LOCAL_TYPES: [&str; 2] = ["console", "file"];
/// The destination that confirms later what it accepted.
const CONFIRMING_TYPES: [&str; 1] = ["splunk_hec"];
/// How long a confirmation may take: Splunk advises to resend after about five minutes.
const ACK_TIMEOUT: Span = Span::secs(300);
const CONCURRENCY_MAX: u32 = 256;

/// The defaults of the sinks that write here: one writer, since there is one file.
const LOCAL_DEFAULTS: Defaults = Defaults {
    batch_bytes: 4 << 20,
    batch_bytes_limit: 64 << 20,
    batch_events: 5_000,
    batch_age: Duration::from_secs(1),
    concurrency_max: 1,
    compression: Compression::None,
    idle_connection_max: None,
    reach: Reach::Store,
};

/// The network keys that a sink with requests of its own making has; one that speaks HTTP has all.
const REQUEST_KEYS: [&str; 5] = ["timeout", "connect_timeout", "allow_plaintext", "tls", "proxy"];

/// The network keys that a sink with a connection of its own has.
const STREAM_KEYS: [&str; 4] = ["timeout", "connect_timeout", "allow_plaintext", "tls"];

impl Checker<'_> {
    /// The sinks that could be read.
    pub(super) fn sinks(&self) -> Vec<SinkConfig> {
        let sinks: Vec<_> = self.named("sinks").filter_map(|(name, table)| self.sink(name, table)).collect();
        if self.tree.get("sinks").and_then(Node::as_table).is_none_or(|sinks| sinks.is_empty()) {
            self.problem(
                "sinks",
                "there is no sink: say where events go, such as [sinks.out] with type = \"file\"",
            );
        } else if !sinks.is_empty() && sinks.iter().all(|sink| !sink.required) {
            self.warn("sinks", "no sink is required: log files count as done although no sink has them");
        }
        sinks
    }

    fn sink(&self, name: &str, table: &Node) -> Option<SinkConfig> {
        let path = format!("sinks.{name}");
        let types: Vec<&str> = LOCAL_TYPES.iter().chain(destinations::TYPES).copied().collect();
        let type_name = self.type_of(table, &path, &types)?;
        let local = LOCAL_TYPES.contains(&type_name);
        let defaults = destinations::defaults(type_name).unwrap_or(LOCAL_DEFAULTS);
        let (lane_keys, all_network_keys) = (keys_of::<RawLane>(), keys_of::<RawNetwork>());
        let mut network_keys = all_network_keys.clone();
        match defaults.reach {
            Reach::Http => {}
            Reach::Requests => network_keys.retain(|key| REQUEST_KEYS.contains(key)),
            Reach::Stream => network_keys.retain(|key| STREAM_KEYS.contains(key)),
            // What writes here has no key of the network, and says so; a store may have the same word for its own.
            Reach::Store if local => {}
            Reach::Store => network_keys.clear(),
        }
        let lane = self.reader.read(&part(table, |key| lane_keys.contains(&key)), &path);
        let network_part = part(table, |key| network_keys.contains(&key));
        let common = |key: &str| key == "type" || lane_keys.contains(&key) || network_keys.contains(&key);
        let own = part(table, |key| !common(key) && key != "dead_letter");
        let mut beside = lane_keys.clone();
        beside.extend(["type", "dead_letter"]);

        let kind = if local {
            for (key, node) in network_part.as_table().into_iter().flatten() {
                let message = format!("has no meaning for a sink of type \"{type_name}\": take it away");
                self.reader.problem(node, &format!("{path}.{key}"), &message);
            }
            self.local(type_name, &own, &path, &beside)
        } else {
            beside.extend(&network_keys);
            let raw = self.reader.read::<RawNetwork>(&network_part, &path);
            raw.map(|raw| self.network(raw, type_name, &path, &defaults)).map(|(network, allow_plaintext)| {
                (
                    SinkKind::Destination(
                        Box::new(network),
                        Settings::new(own.clone(), path.clone(), beside, self.reader.texts().clone()),
                    ),
                    allow_plaintext,
                )
            })
        };
        let lane = self.lane(lane?, &path, &defaults, destinations::gathers(type_name));
        let (kind, allow_plaintext) = kind?;
        let mut sink = SinkConfig { name: name.to_owned(), type_name: type_name.to_owned(), kind, ..lane };
        self.keep(&["sinks", name], &plain(&own));
        self.keep(&["sinks", name], &toml::Table::from_iter([("type".to_owned(), type_name.into())]));
        sink.identity = self.destination(&sink, &own, allow_plaintext);
        sink.dead_letter = self.dead_letter_of(name, table);
        sink.mark = self.mark(name, table);
        let own_secrets = format!("{path}.");
        let found = self.reader.found().into_iter().filter(|secret| secret.path.starts_with(&own_secrets));
        sink.secrets = found.map(|secret| secret.source).collect();
        Some(sink)
    }

    /// Lets the destination check its own settings, and looks at where they lead; the identity that it needs.
    fn destination(&self, sink: &SinkConfig, own: &Node, allow_plaintext: bool) -> Option<String> {
        let SinkKind::Destination(_, settings) = &sink.kind else { return None };
        let path = format!("sinks.{}", sink.name);
        let built = settings.build(&self.reader, &sink.type_name, &sink.common(0))?;
        if built.defaults.reach == Reach::Store {
            return built.identity;
        }
        for origin in &built.endpoints {
            let mut key = path.clone();
            own.visit(&mut Vec::new(), &mut |inner, node| {
                if node.as_str().is_some_and(|text| text.to_lowercase().starts_with(&origin.to_lowercase())) {
                    key = format!("{path}.{}", inner.join("."));
                }
            });
            self.address(origin, &key, allow_plaintext, &path);
        }
        built.identity
    }

    fn lane(&self, mut raw: RawLane, path: &str, defaults: &Defaults, gathers: bool) -> SinkConfig {
        let key = |key: &str| format!("{path}.{key}");
        let batch = &raw.batch;
        let sets_batch = batch.max_bytes.is_some() || batch.max_events.is_some() || batch.max_age.is_some();
        let message = "has no meaning here: an object is complete where its log file ends; take it away";
        self.require(!(gathers && sets_batch), &key("batch"), message);
        let batch_bytes = raw.batch.max_bytes.get_or_insert(Size(defaults.batch_bytes as u64)).0;
        let events = u32::try_from(defaults.batch_events).unwrap_or(u32::MAX);
        let batch_events = *raw.batch.max_events.get_or_insert(events);
        let batch_age = raw.batch.max_age.get_or_insert(Span(defaults.batch_age)).0;
        let limit = defaults.batch_bytes_limit as u64;
        let message = format!(
            "at least \"1B\", and at most {}: more is refused at the destination",
            format_size(limit)
        );
        self.require((1..=limit).contains(&batch_bytes), &key("batch.max_bytes"), &message);
        self.require(batch_events >= 1, &key("batch.max_events"), "at least 1");
        let hour = Duration::from_secs(3600);
        self.require(batch_age <= hour, &key("batch.max_age"), "at most \"1h\": log files wait for it");
        let (initial, max) = (raw.retry.initial.0, raw.retry.max.0);
        self.require(!initial.is_zero(), &key("retry.initial"), "more than nothing, such as \"200ms\"");
        self.require(initial <= max, &key("retry.max"), "at least retry.initial");
        self.require(
            !raw.retry.give_up_after.0.is_zero(),
            &key("retry.give_up_after"),
            "more than nothing, such as \"5m\"",
        );
        let most = u32::try_from(defaults.concurrency_max).unwrap_or(u32::MAX).max(raw.concurrency.min);
        let concurrency_max = *raw.concurrency.max.get_or_insert(most);
        self.require(raw.concurrency.min >= 1, &key("concurrency.min"), "at least 1");
        let good = (raw.concurrency.min..=CONCURRENCY_MAX).contains(&concurrency_max);
        self.require(good, &key("concurrency.max"), "from concurrency.min to 256");
        if gathers {
            raw.batch = RawBatch::default();
        }
        let name = path.rsplit('.').next().unwrap_or_default();
        self.keep(&["sinks", name], &raw);
        SinkConfig {
            name: String::new(),
            type_name: String::new(),
            additions: raw.additions,
            required: raw.required,
            labels: self.labels(&raw.labels, &key("labels")),
            batch: Batch { max_bytes: batch_bytes, max_events: batch_events, max_age: batch_age },
            retry: Retry { initial, max, give_up_after: raw.retry.give_up_after.0 },
            concurrency: Concurrency { min: raw.concurrency.min, max: concurrency_max },
            identity: None,
            dead_letter: None,
            mark: String::new(),
            secrets: Vec::new(),
            kind: SinkKind::Console,
        }
    }

    fn network(
        &self,
        mut raw: RawNetwork,
        type_name: &str,
        path: &str,
        defaults: &Defaults,
    ) -> (Network, bool) {
        let key = |key: &str| format!("{path}.{key}");
        self.require(!raw.timeout.0.is_zero(), &key("timeout"), "more than nothing, such as \"60s\"");
        let good = !raw.connect_timeout.0.is_zero() && raw.connect_timeout <= raw.timeout;
        self.require(good, &key("connect_timeout"), "more than nothing, and at most timeout");
        let confirms = CONFIRMING_TYPES.contains(&type_name);
        let message = format!("a sink of type \"{type_name}\" answers at once: take it away");
        self.require(confirms || raw.ack_timeout.is_none(), &key("ack_timeout"), &message);
        let ack_timeout = raw.ack_timeout.unwrap_or(ACK_TIMEOUT);
        self.require(!ack_timeout.0.is_zero(), &key("ack_timeout"), "more than nothing, such as \"5m\"");
        raw.ack_timeout = confirms.then_some(ack_timeout);
        let compression = *raw.compression.get_or_insert(defaults.compression);
        // Where it is no key, it is the destination's own affair.
        let good = defaults.reach != Reach::Http
            || !matches!(compression, Compression::Deflate(_))
            || destinations::takes_deflate(type_name);
        let message =
            format!("a sink of type \"{type_name}\" does not take deflate: use \"gzip\" or \"none\"");
        self.require(good, &key("compression"), &message);
        let network = Network {
            timeout: raw.timeout.0,
            connect_timeout: raw.connect_timeout.0,
            ack_timeout: ack_timeout.0,
            compression,
            tls: self.tls(&raw.tls, path),
            proxy: self.proxy(raw.proxy.as_deref(), &key("proxy")),
            idle_connection_max: defaults.idle_connection_max,
        };
        let name = path.rsplit('.').next().unwrap_or_default();
        self.keep_network(name, &raw, defaults.reach);
        (network, raw.allow_plaintext)
    }

    /// Keeps the network keys that the sink has for the effective configuration.
    fn keep_network(&self, name: &str, raw: &RawNetwork, reach: Reach) {
        let keys: &[&str] = match reach {
            Reach::Http => return self.keep(&["sinks", name], raw),
            Reach::Requests => &REQUEST_KEYS,
            Reach::Stream => &STREAM_KEYS,
            Reach::Store => return,
        };
        let mut table = toml::Table::try_from(raw).unwrap_or_default();
        table.retain(|key, _| keys.contains(&key));
        self.keep(&["sinks", name], &table);
    }

    fn tls(&self, raw: &RawTls, path: &str) -> Tls {
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let both = raw.cert_file.is_empty() == raw.key_file.is_empty();
        self.require(
            both,
            &format!("{path}.tls"),
            "cert_file and key_file belong together: give both or neither",
        );
        if raw.insecure_skip_verify {
            let message =
                "the server's certificate is not verified: anybody on the way can read and change events";
            self.warn(&format!("{path}.tls.insecure_skip_verify"), message);
        }
        Tls {
            ca_file: set(&raw.ca_file).map(PathBuf::from),
            cert_file: set(&raw.cert_file).map(PathBuf::from),
            key_file: set(&raw.key_file).map(PathBuf::from),
            server_name: set(&raw.server_name),
            insecure_skip_verify: raw.insecure_skip_verify,
        }
    }

    /// A sink that writes here; the flag is what [`network`](Self::network) has: nothing is sent anywhere.
    fn local(
        &self,
        type_name: &str,
        own: &Node,
        path: &str,
        beside: &[&'static str],
    ) -> Option<(SinkKind, bool)> {
        if type_name == "console" {
            let RawConsole {} = self.reader.read_beside(own, path, beside)?;
            return Some((SinkKind::Console, false));
        }
        let raw: RawFileSink = self.reader.read_beside(own, path, beside)?;
        self.require(!raw.path.is_empty(), &format!("{path}.path"), "empty: name the file to write");
        let good = raw.rotate.max_bytes.0 >= 64 << 10;
        self.require(good, &format!("{path}.rotate.max_bytes"), "at least \"64KiB\"");
        let good = raw.rotate.max_age.is_none_or(|age| age >= Span::secs(1));
        self.require(good, &format!("{path}.rotate.max_age"), "at least \"1s\"");
        let name = path.rsplit('.').next().unwrap_or_default();
        self.keep(&["sinks", name], &raw);
        let sink = FileSink {
            path: PathBuf::from(raw.path),
            rotate_bytes: raw.rotate.max_bytes.0,
            rotate_age: raw.rotate.max_age.map(|age| age.0),
        };
        Some((SinkKind::File(sink), false))
    }
}
