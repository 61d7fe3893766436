//! The configuration of a test: a queue, a bucket, and some of the sinks, all of them stand-ins.

use std::fmt::Write as _;

use crate::bench::{BUCKET, Bench, HANDOFF_QUEUE, QUEUE};

/// The sinks that a test can have; each is named as its stand-in is in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    Elasticsearch,
    SplunkHec,
    Loggly,
    SumoLogic,
    File,
}

impl Sink {
    pub(crate) const ALL: [Self; 5] =
        [Self::Elasticsearch, Self::SplunkHec, Self::Loggly, Self::SumoLogic, Self::File];

    /// Its name in the configuration and in the ledger, which is also its type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Elasticsearch => "elasticsearch",
            Self::SplunkHec => "splunk_hec",
            Self::Loggly => "loggly",
            Self::SumoLogic => "sumo_logic",
            Self::File => "file",
        }
    }
}

/// A configuration under construction.
pub(crate) struct Config {
    agent: String,
    source: String,
    has_handoffs: bool,
    sinks: Vec<(Sink, String)>,
    others: Vec<(&'static str, String)>,
}

impl Config {
    /// With no sink yet.
    pub(crate) fn new() -> Self {
        Self {
            agent: String::new(),
            source: String::new(),
            has_handoffs: false,
            sinks: Vec::new(),
            others: Vec::new(),
        }
    }

    /// With these sinks, as they are by default.
    pub(crate) fn of(sinks: &[Sink]) -> Self {
        sinks.iter().fold(Self::new(), |config, sink| config.sink(*sink, ""))
    }

    /// Further lines of `[agent]`.
    pub(crate) fn agent(mut self, lines: &str) -> Self {
        self.agent = lines.to_owned();
        self
    }

    /// Further lines of the queue's table.
    pub(crate) fn source(mut self, lines: &str) -> Self {
        self.source = lines.to_owned();
        self
    }

    /// With a queue for hand-offs alone.
    pub(crate) fn handoff_queue(mut self) -> Self {
        self.has_handoffs = true;
        self
    }

    /// One more sink, with further lines of its table.
    pub(crate) fn sink(mut self, sink: Sink, lines: &str) -> Self {
        self.sinks.push((sink, lines.to_owned()));
        self
    }

    /// One more sink whose stand-in is the test's own affair: its name, which is also the stand-in's in the ledger,
    /// and all lines of its table. What the stand-in counts goes to [`Bench::watch`].
    pub(crate) fn other(mut self, name: &'static str, table: &str) -> Self {
        self.others.push((name, table.to_owned()));
        self
    }

    /// The names of the sinks.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let known = self.sinks.iter().map(|(sink, _)| sink.name());
        known.chain(self.others.iter().map(|(name, _)| *name)).collect()
    }

    /// The document.
    pub(crate) fn text(&self, bench: &Bench) -> String {
        let aws = bench.aws.url();
        let mut text = format!(
            r#"
            [agent]
            listen = "127.0.0.1:0"
            state_dir = "state"
            log_format = "json"
            {}

            [aws]
            region = "us-east-1"
            endpoints = {{ s3 = "{aws}", sqs = "{aws}", sts = "{aws}" }}

            [sources.trail]
            type = "sqs"
            queue_url = "{}"
            buckets = [{{ name = "{BUCKET}", owner = "111122223333" }}]
            {}

            [dead_letter]
            type = "file"
            path = "dead-letters.ndjson"
            "#,
            self.agent,
            bench.aws.queue(QUEUE).url(),
            self.source,
        );
        if self.has_handoffs {
            let own = format!("queue_url = \"{}\"", bench.aws.queue(QUEUE).url());
            let with = format!("{own}\nhandoff_queue_url = \"{}\"", bench.aws.queue(HANDOFF_QUEUE).url());
            text = text.replacen(&own, &with, 1);
        }
        for (sink, lines) in &self.sinks {
            let name = sink.name();
            let own = own(*sink, bench);
            // Writing to a string cannot fail.
            let _ = write!(text, "\n[sinks.{name}]\ntype = \"{name}\"\n{own}\n{lines}\n");
        }
        for (name, table) in &self.others {
            let _ = write!(text, "\n[sinks.{name}]\n{table}\n");
        }
        text
    }
}

fn own(sink: Sink, bench: &Bench) -> String {
    match sink {
        Sink::Elasticsearch => {
            format!("endpoints = [\"{}\"]\napi_key = \"{}\"", bench.elasticsearch.url, bench.secrets.api_key)
        }
        Sink::SplunkHec => {
            format!("endpoints = [\"{}\"]\ntoken = \"{}\"", bench.splunk_hec.url, bench.secrets.splunk)
        }
        Sink::Loggly => {
            format!("endpoint = \"{}\"\ntoken = \"{}\"", bench.loggly.url, bench.secrets.loggly)
        }
        Sink::SumoLogic => format!("url = \"{}\"", bench.sumo_logic.source_url()),
        Sink::File => "path = \"out/events.ndjson\"".to_owned(),
    }
}
