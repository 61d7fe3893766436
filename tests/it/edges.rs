//! `kill -9` at each edge of a commit: whatever the agent had just done, and whoever knows of it, nothing is lost.
//!
//! The stand-ins kill the agent, since they know when its request has arrived and when that is done; the agent has no
//! code for it.

use std::time::Duration;

use testkit::Moment;
use testkit::aws::{AwsFault, BucketOptions, FaultRule, QueueCounts, What};
use testkit::destinations::Failure;
use testkit::generate::Generator;
use testkit::ledger::Report;

use crate::agent::Agent;
use crate::bench::{Bench, QUEUE};
use crate::config::{Config, Sink};

/// Log files of a run.
const FILES: usize = 30;
/// Events in each.
const EVENTS: usize = 10;
/// The shortest lease that the configuration allows.
const LEASE: Duration = Duration::from_secs(30);
/// Where dead letters go that are objects.
const LETTERS: &str = "letters";

type Act = Box<dyn FnOnce() + Send>;

fn config() -> Config {
    let batch = "batch = { max_age = \"50ms\", max_events = 50 }";
    let sinks = [Sink::Elasticsearch, Sink::SplunkHec, Sink::File];
    let config = sinks.iter().fold(Config::new(), |config, sink| config.sink(*sink, batch));
    config.source("visibility_timeout = \"30s\"")
}

/// An agent at work that has been killed at an edge.
struct Killed {
    bench: Bench,
    config: Config,
    text: String,
    queue: QueueCounts,
}

impl Killed {
    /// Has the agent killed where `arm` says.
    async fn at(arm: impl FnOnce(&Bench, Act)) -> Self {
        let bench = Bench::start().await;
        let config = config();
        bench.issue_all(&mut Generator::new(71), [EVENTS; FILES]).await;
        let text = config.text(&bench);
        Self::run(bench, config, text, arm).await
    }

    async fn run(bench: Bench, config: Config, text: String, arm: impl FnOnce(&Bench, Act)) -> Self {
        let mut agent = bench.run_text(&text);
        arm(&bench, Box::new(agent.killer()));
        let ended = tokio::time::timeout(Duration::from_secs(60), agent.ended()).await;
        assert!(!ended.expect("it was to be killed").success());
        Self::after(bench, config, text).await
    }

    async fn after(bench: Bench, config: Config, text: String) -> Self {
        bench.ledger.crash();
        // Until the stand-in has noticed that nobody waits for messages any more.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let queue = bench.aws.queue(QUEUE).counts();
        Self { bench, config, text, queue }
    }

    /// Events that a stand-in has.
    fn stored(&self, sink: Sink) -> u64 {
        self.bench.destination(sink).unwrap().counts().stored
    }

    /// Lets the killed agent's leases end and another finish; judges, and holds what came twice to what was under way.
    async fn finish(&self) -> Report {
        let Self { bench, config, queue, .. } = self;
        bench.advance(LEASE);
        let mut agent: Agent = bench.run_text(&self.text);
        bench.until_quiet(&mut agent).await;
        assert!(agent.stop().await.success());
        let report = bench.assert_passes(config);
        let held = (queue.in_flight * EVENTS) as u64;
        for sink in &report.sinks {
            assert_eq!(sink.stored + sink.dead_lettered, sink.issued, "{report}");
            assert!(sink.duplicates_with_cause() <= held, "{} events were under way: {report}", held);
        }
        report
    }
}

/// Copies that a sink without ids has too many.
fn repeated(report: &Report, sink: Sink) -> u64 {
    report.sink(sink.name()).unwrap().duplicates_with_cause()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_when_the_queue_has_handed_out_messages_that_never_arrived_it_repeats_nothing() {
    let killed = Killed::at(|bench, kill| bench.aws.act_at("ReceiveMessage", Moment::Done, 0, kill)).await;
    assert!(killed.queue.in_flight > 0, "{:?}", killed.queue);
    let report = killed.finish().await;
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_messages_in_hand_before_a_log_file_is_read_it_repeats_nothing() {
    let killed = Killed::at(|bench, kill| bench.aws.act_at("GetObject", Moment::Arrived, 0, kill)).await;
    assert!(killed.queue.in_flight > 0, "{:?}", killed.queue);
    assert_eq!(killed.stored(Sink::SplunkHec), 0);
    let report = killed.finish().await;
    assert!(report.sinks.iter().all(|sink| sink.duplicates_with_cause() == 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_download_it_reads_the_log_file_again_from_its_start() {
    let (bench, config) = (Bench::start().await, config());
    let events = 4_000;
    bench.issue_all(&mut Generator::new(72), [events]).await;
    let slow = bench.aws.inject(FaultRule::new("GetObject", AwsFault::Slow { bytes_per_second: 400_000 }));
    let text = config.text(&bench);
    let mut agent = bench.run_text(&text);
    let some = || bench.splunk_hec.counts().stored > 0;
    bench.until(&mut agent, "a part of it is delivered", some).await;
    agent.kill();
    bench.aws.heal(slow);
    let killed = Killed::after(bench, config, text).await;
    let part = killed.stored(Sink::SplunkHec);
    assert!(part < events as u64, "it was to be killed before the end");
    killed.bench.advance(LEASE);
    let mut agent = killed.bench.run_text(&killed.text);
    killed.bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = killed.bench.assert_passes(&killed.config);
    let again = repeated(&report, Sink::SplunkHec);
    assert!(again >= part && again < events as u64, "{part} were stored: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_batch_before_the_sink_has_taken_it_it_sends_it_again() {
    let killed = Killed::at(|bench, kill| bench.splunk_hec.act_at(Moment::Arrived, 1, kill)).await;
    let before = killed.stored(Sink::SplunkHec);
    assert!(before > 0 && before < (FILES * EVENTS) as u64, "{before}");
    let report = killed.finish().await;
    assert!(repeated(&report, Sink::SplunkHec) <= before, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_when_a_sink_without_ids_has_taken_a_batch_and_not_said_so_it_repeats_that_batch() {
    let killed = Killed::at(|bench, kill| bench.splunk_hec.act_at(Moment::Done, 0, kill)).await;
    let taken = killed.stored(Sink::SplunkHec);
    assert!(taken > 0);
    let report = killed.finish().await;
    assert_eq!(repeated(&report, Sink::SplunkHec), taken, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_when_a_sink_with_ids_has_taken_a_batch_and_not_said_so_nobody_sees_a_repetition() {
    let killed = Killed::at(|bench, kill| bench.elasticsearch.act_at(Moment::Done, 0, kill)).await;
    let taken = killed.stored(Sink::Elasticsearch);
    assert!(taken > 0);
    let report = killed.finish().await;
    let search = report.sink("elasticsearch").unwrap();
    assert_eq!((search.stored_again, search.conflicts), (0, taken), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_when_everything_is_taken_and_nothing_is_deleted_yet_it_repeats_what_the_messages_held() {
    let delete = "DeleteMessageBatch";
    let killed = Killed::at(|bench, kill| bench.aws.act_at(delete, Moment::Arrived, 0, kill)).await;
    let deleted = |operation: &&testkit::aws::Operation| operation.what == What::Deleted;
    assert_eq!(killed.bench.aws.log().iter().filter(deleted).count(), 0, "killed before the first delete");
    let report = killed.finish().await;
    assert!(repeated(&report, Sink::SplunkHec) > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_when_messages_are_deleted_and_it_does_not_know_it_repeats_nothing_of_them() {
    let delete = "DeleteMessageBatch";
    let killed = Killed::at(|bench, kill| bench.aws.act_at(delete, Moment::Done, 0, kill)).await;
    let gone = FILES - killed.bench.messages();
    assert!(gone > 0);
    let report = killed.finish().await;
    let most = ((FILES - gone) * EVENTS) as u64;
    assert!(repeated(&report, Sink::SplunkHec) <= most, "{gone} messages were deleted: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_a_delete_that_it_knows_of_it_goes_on_with_the_rest() {
    // The second delete comes after the first was answered.
    let delete = "DeleteMessageBatch";
    let killed = Killed::at(|bench, kill| bench.aws.act_at(delete, Moment::Arrived, 1, kill)).await;
    assert!(killed.bench.messages() < FILES);
    killed.finish().await;
}

/// Kills it around the sending of the first hand-offs, with one sink that accepts nothing.
async fn around_a_handoff(moment: Moment) -> usize {
    let arm = move |bench: &Bench, kill| {
        bench.elasticsearch.set_mode(Failure::Status(401));
        bench.aws.act_at("SendMessage", moment, 0, kill);
    };
    let killed = Killed::at(arm).await;
    let handed_off = killed.bench.handoffs_on(QUEUE).len();
    assert_eq!(killed.stored(Sink::Elasticsearch), 0);
    killed.bench.elasticsearch.set_mode(Failure::None);
    killed.finish().await;
    handed_off
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_a_hand_off_is_sent_it_still_has_the_message() {
    assert_eq!(around_a_handoff(Moment::Arrived).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_a_hand_off_and_the_delete_both_are_delivered_and_the_sink_shows_it_once() {
    assert!(around_a_handoff(Moment::Done).await > 0);
}

/// Kills it around the writing of a dead letter to a bucket.
async fn around_a_dead_letter(moment: Moment) -> (u64, Report) {
    let (bench, config) = (Bench::start().await, config());
    bench.aws.create_bucket(LETTERS, BucketOptions::default());
    let mut generator = Generator::new(73);
    let sample = generator.log_file(EVENTS);
    let bad = sample.issued[3].event_id.clone().unwrap();
    bench.elasticsearch.set_mode(Failure::RefuseContaining(bad));
    bench.issue(&sample);
    bench.issue_all(&mut generator, [EVENTS; FILES - 1]).await;
    let to_bucket = format!("type = \"s3\"\n            bucket = \"{LETTERS}\"");
    let text = config.text(&bench);
    let text = text.replace("type = \"file\"\n            path = \"dead-letters.ndjson\"", &to_bucket);
    assert!(text.contains(&to_bucket));
    let killed =
        Killed::run(bench, config, text, |bench, kill| bench.aws.act_at("PutObject", moment, 0, kill)).await;
    let written = killed.bench.aws.keys(LETTERS).len() as u64;
    let bench = &killed.bench;
    bench.advance(LEASE);
    let mut agent = bench.run_text(&killed.text);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    // For the judge, who reads a file.
    let letters = bench.aws.keys(LETTERS).into_iter().map(|key| bench.aws.object(LETTERS, &key).unwrap());
    std::fs::write(bench.path("dead-letters.ndjson"), letters.collect::<Vec<_>>().concat()).unwrap();
    (written, bench.assert_passes(&killed.config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_a_dead_letter_is_written_it_writes_it_the_next_time() {
    let (written, report) = around_a_dead_letter(Moment::Arrived).await;
    let search = report.sink("elasticsearch").unwrap();
    assert_eq!((written, search.dead_lettered, search.duplicates_with_cause()), (0, 1, 0), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_when_a_dead_letter_is_written_and_it_does_not_know_there_are_two_letters() {
    let (written, report) = around_a_dead_letter(Moment::Done).await;
    let search = report.sink("elasticsearch").unwrap();
    assert_eq!((written, search.dead_lettered, search.duplicates_with_cause()), (1, 1, 1), "{report}");
}

#[cfg(feature = "parquet")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_around_the_writing_of_an_object_the_bucket_holds_every_event_once() {
    for moment in [Moment::Arrived, Moment::Done] {
        let bench = Bench::start().await;
        bench.aws.create_bucket(crate::parquet::LAKE, BucketOptions::default());
        let config = crate::parquet::with_bucket(Config::new()).source("visibility_timeout = \"30s\"");
        bench.issue_all(&mut Generator::new(74), [EVENTS; FILES]).await;
        let text = config.text(&bench);
        let killed =
            Killed::run(bench, config, text, |bench, kill| bench.aws.act_at("PutObject", moment, 5, kill))
                .await;
        let bench = &killed.bench;
        bench.advance(LEASE);
        let mut agent = bench.run_text(&killed.text);
        bench.until_quiet(&mut agent).await;
        assert!(agent.stop().await.success());
        crate::parquet::testify_bucket(bench);
        let report = bench.assert_passes(&killed.config);
        let sink = report.sink("parquet").unwrap();
        assert_eq!((sink.stored, sink.stored_again), (sink.issued, 0), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_twice_it_ends_at_once_and_loses_nothing() {
    let (bench, config) = (Bench::start().await, config().agent("shutdown_grace = \"60s\""));
    bench.issue_all(&mut Generator::new(75), [EVENTS; FILES]).await;
    bench.splunk_hec.set_mode(Failure::NeverAnswer);
    let text = config.text(&bench);
    let mut agent = bench.run_text(&text);
    let asked = || bench.splunk_hec.counts().deliveries > 0;
    bench.until(&mut agent, "a sink that never answers is asked", asked).await;
    agent.terminate();
    let log = agent.log();
    bench.until(&mut agent, "it has understood", || !log.coded("stopping").is_empty()).await;
    // Two within a second are one: a supervisor may tell a process and its group.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let told = tokio::time::Instant::now();
    assert_eq!(agent.stop().await.code(), Some(1));
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    bench.splunk_hec.set_mode(Failure::None);
    Killed::after(bench, config, text).await.finish().await;
}
