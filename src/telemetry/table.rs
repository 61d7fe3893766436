//! Every metric's name, unit, labels and help: the one place where they stand.

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Without the prefix `trailship_`.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, help }
}

use Kind::{Counter, Gauge};

/// Every metric there is.
pub const METRICS: &[Metric] = &[
    metric(
        "queue_messages_total",
        Counter,
        &["source", "shape", "outcome"],
        "Messages by what they were and how they ended.",
    ),
    metric(
        "queue_visible_messages",
        Gauge,
        &["source"],
        "Messages that wait on the queue, as the queue estimates.",
    ),
    metric(
        "queue_oldest_message_age_seconds",
        Gauge,
        &["source"],
        "Age of the oldest message of the last receive that brought one.",
    ),
    metric(
        "source_last_receive_timestamp_seconds",
        Gauge,
        &["source"],
        "When the source last answered, with or without messages.",
    ),
    metric("source_errors_total", Counter, &["source"], "Failed receives or scans."),
    metric("log_files_total", Counter, &["source", "outcome"], "Log files by how they ended."),
    metric("log_file_compressed_bytes_total", Counter, &["source"], "Bytes fetched."),
    metric("log_file_bytes_total", Counter, &["source"], "Bytes of events read, inflated."),
    metric(
        "log_file_interruptions_total",
        Counter,
        &["source"],
        "Downloads that were interrupted and went on.",
    ),
    metric(
        "log_files_removed_total",
        Counter,
        &["source"],
        "Notifications that a log file was deleted or expired.",
    ),
    metric(
        "queue_delete_failures_total",
        Counter,
        &["source"],
        "Messages that are done and could not be deleted; they come again.",
    ),
    metric("events_read_total", Counter, &["source", "pass"], "Events read, the first time or again."),
    metric(
        "event_id_conflicts_total",
        Counter,
        &["source"],
        "Events with the id of another event of their log file and other bytes.",
    ),
    metric("events_by_actor_total", Counter, &["class", "kind"], "Events read the first time, by who acted."),
    metric("sink_events_offered_total", Counter, &["sink"], "Events handed to the sink's lane."),
    metric("sink_events_total", Counter, &["sink", "outcome"], "Events by how they ended at the sink."),
    metric("sink_events_in_flight", Gauge, &["sink"], "Events with the lane and without an outcome yet."),
    metric(
        "sink_requests_total",
        Counter,
        &["sink", "result"],
        "Requests by result: ok, or the class of failure.",
    ),
    metric(
        "sink_request_duration_seconds",
        Kind::Histogram,
        &["sink"],
        "Time from sending a request to its whole answer.",
    ),
    metric("sink_state", Gauge, &["sink", "state"], "1 for the state that the sink is in."),
    metric("sink_errors_total", Counter, &["sink", "class"], "Failures by class."),
    metric("sink_last_delivery_timestamp_seconds", Gauge, &["sink"], "When the sink last took an event."),
    metric(
        "sink_owed_log_files",
        Gauge,
        &["sink"],
        "Log files of which the sink still owes events: they wait to be read again, or are handed off.",
    ),
    metric("sink_owed_oldest_seconds", Gauge, &["sink"], "For how long the oldest of them has been waiting."),
    metric("sink_concurrency", Gauge, &["sink"], "Requests that may be under way at once at the moment."),
    metric(
        "sink_batch_limit_bytes",
        Gauge,
        &["sink"],
        "The most bytes of a batch: configured, or learnt from the destination.",
    ),
    metric(
        "sink_insecure_skip_verify",
        Gauge,
        &["sink"],
        "1 where the certificate of the sink's server is not verified.",
    ),
    metric(
        "event_age_seconds",
        Kind::Histogram,
        &["sink", "origin"],
        "From the event's time to its acceptance by the sink.",
    ),
    metric(
        "processing_lag_seconds",
        Kind::Histogram,
        &["source", "origin"],
        "From the sending of a message to the end of everything it stands for.",
    ),
    metric("in_flight_bytes", Gauge, &[], "Bytes of log files in memory."),
    metric("memory_budget_bytes", Gauge, &[], "The most that they may be."),
    metric(
        "leases",
        Gauge,
        &["source", "state"],
        "Messages held: open, or closing once everything in them is done.",
    ),
    metric(
        "lease_extensions_total",
        Counter,
        &["source", "outcome"],
        "Leases extended, lost, not extended for a failure, or lost before their message was deleted.",
    ),
    metric(
        "dead_letter_write_failures_total",
        Counter,
        &[],
        "Dead letters that could not be stored; their events stay owed.",
    ),
    metric(
        "trail_check_ok",
        Gauge,
        &["check"],
        "1 unless the check found something: bucket_access, whether every bucket lets us in.",
    ),
    metric(
        "config_reload_success",
        Gauge,
        &[],
        "1 unless the last reload failed; the configuration before it is in force then.",
    ),
    metric(
        "ledger_failures_total",
        Counter,
        &["operation"],
        "Log files that could not be looked up in the delivery ledger or noted in it.",
    ),
    metric("config_info", Gauge, &["sha256"], "1 for the configuration in force."),
    metric("build_info", Gauge, &["version"], "1 for the running version."),
];

/// Outcomes of a message; the label `outcome` of `queue_messages_total`.
pub const MESSAGE_OUTCOMES: [&str; 6] = ["done", "nothing", "handed_off", "unknown", "refused", "kept"];

/// Outcomes of a log file; the label `outcome` of `log_files_total`.
pub const LOG_FILE_OUTCOMES: [&str; 9] = [
    "done",
    "empty",
    "no_records",
    "already_delivered",
    "ignored",
    "refused",
    "dead_lettered",
    "handed_off",
    "kept",
];

/// States of a sink; the label `state` of `sink_state`.
pub const SINK_STATES: [&str; 4] = ["ok", "congested", "unavailable", "denied"];

/// States of a held message; the label `state` of `leases`.
pub const LEASE_STATES: [&str; 2] = ["open", "closing"];

/// What is asked of the delivery ledger; the label `operation` of `ledger_failures_total`.
pub const LEDGER_OPERATIONS: [&str; 2] = ["look", "note"];

/// Where events come from; the label `origin` of `event_age_seconds` and `processing_lag_seconds`.
pub const ORIGINS: [&str; 3] = ["live", "handoff", "backfill"];
