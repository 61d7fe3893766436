//! Dead letters in their places, and the way back from there.

use std::fs;

use testkit::aws::{AwsFault, BucketOptions, FaultRule};
use testkit::destinations::{Failure, Mode};
use testkit::generate::Generator;

use crate::bench::Bench;
use crate::config::{Config, Sink};

const LETTERS: &str = "letters";
const SOON: &str = "retry = { initial = \"50ms\", max = \"200ms\", give_up_after = \"2s\" }";

/// Runs a command in the test's folder; its exit status, and what it said.
pub(crate) fn said(bench: &Bench, name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = bench.command(name).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Two sinks that keep their letters at `place`, each of which refuses one event of the same log file.
fn config(place: &str) -> Config {
    let lines = if place.is_empty() { SOON.to_owned() } else { format!("{SOON}\ndead_letter = {place}") };
    Config::new().sink(Sink::Elasticsearch, &lines).sink(Sink::Loggly, &lines)
}

/// Ships log files of which each sink refuses one event.
async fn ship_and_refuse(bench: &Bench, config: &Config) {
    let mut generator = Generator::new(95);
    let sample = generator.log_file(100);
    let bad = |at: usize| Failure::RefuseContaining(sample.issued[at].event_id.clone().unwrap());
    bench.elasticsearch.set_mode(bad(17));
    bench.loggly.set_mode(bad(42));
    bench.issue(&sample);
    let mut agent = bench.run(config);
    bench.issue_all(&mut generator, [50; 3]).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_eq!((bench.elasticsearch.counts().stored, bench.loggly.counts().stored), (249, 249));
}

/// What every way back has in common: looks first, then one sink takes its event, then the other.
async fn check_way_back(bench: &Bench, config: &Config, letters: impl Fn() -> usize) {
    ship_and_refuse(bench, config).await;
    assert_eq!(letters(), 2);
    let (code, text) = said(bench, "redrive", &["--dry-run"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("elasticsearch: 1 letters, refused as ") && text.contains("loggly: 1 letters"),
        "{text}"
    );
    assert!(text.contains("2 letters would be sent, 0 could not be; nothing was changed"), "{text}");
    assert_eq!((letters(), bench.elasticsearch.counts().stored), (2, 249));

    bench.elasticsearch.set_mode(Mode::default());
    let (code, text) = said(bench, "redrive", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("1 letters delivered and taken away, 1 stay"), "{text}");
    assert_eq!((letters(), bench.elasticsearch.counts().stored), (1, 250));

    bench.loggly.set_mode(Mode::default());
    let (code, text) = said(bench, "redrive", &["--only", "elasticsearch"]);
    assert_eq!(code, Some(0), "what was not asked for is no failure: {text}");
    let (code, text) = said(bench, "redrive", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!((letters(), bench.loggly.counts().stored), (0, 250));
    let (code, text) = said(bench, "redrive", &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("0 letters delivered and taken away, 0 stay"), "{text}");
    let report = bench.assert_passes(config);
    assert!(report.sinks.iter().all(|sink| sink.dead_lettered == 0 && sink.stored == 250), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_in_a_file_go_back_to_the_sinks_that_refused_them() {
    let bench = Bench::start().await;
    let config = config("");
    check_way_back(&bench, &config, || bench.letters().len()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_in_a_bucket_go_back_and_an_object_keeps_those_that_stay() {
    let bench = Bench::start().await;
    bench.aws.create_bucket(LETTERS, BucketOptions::default());
    let config = config("{ type = \"s3\", bucket = \"letters\", prefix = \"a/b\" }");
    let count = || {
        let lines =
            |key: &String| bench.aws.object(LETTERS, key).unwrap().iter().filter(|&&b| b == b'\n').count();
        // Both in one object, as the letters of one call are.
        let keys = bench.aws.keys(LETTERS);
        if let [first, second] = keys.as_slice()
            && second.ends_with(".ndjson")
        {
            assert!(first.starts_with("a/b/"));
            let both =
                [bench.aws.object(LETTERS, first).unwrap(), bench.aws.object(LETTERS, second).unwrap()];
            bench.aws.put_object(LETTERS, "a/b/both.ndjson", both.concat()).unwrap();
            bench.aws.put_object(LETTERS, "a/beside/other.txt", "not ours").unwrap();
            keys.iter().for_each(|key| bench.aws.delete_object(LETTERS, key).unwrap());
        }
        bench.aws.keys(LETTERS).iter().filter(|key| key.ends_with(".ndjson")).map(lines).sum()
    };
    check_way_back(&bench, &config, count).await;
    assert_eq!(bench.aws.keys(LETTERS), ["a/beside/other.txt"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_in_a_queue_go_back_and_those_that_stay_are_seen_again_at_once() {
    let bench = Bench::start().await;
    bench.aws.create_queue(LETTERS);
    let url = bench.aws.queue(LETTERS).url();
    let config = config(&format!("{{ type = \"sqs\", queue_url = \"{url}\" }}"));
    let count = || {
        let counts = bench.aws.queue(LETTERS).counts();
        assert_eq!(counts.in_flight, 0, "all are given back");
        counts.visible
    };
    check_way_back(&bench, &config, count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_can_go_to_another_sink_and_from_a_file_that_is_named() {
    let bench = Bench::start().await;
    let config = config("");
    ship_and_refuse(&bench, &config).await;
    fs::rename(bench.path("dead-letters.ndjson"), bench.path("old.ndjson")).unwrap();
    let text = config.text(&bench) + "\n[sinks.rescue]\ntype = \"file\"\npath = \"rescue/events.ndjson\"\n";
    fs::write(bench.path("trailship.toml"), text).unwrap();
    let (code, text) = said(&bench, "redrive", &["--from", "old.ndjson", "--sink", "rescue"]);
    assert_eq!(code, Some(0), "{text}");
    let rescued = fs::read_to_string(bench.path("rescue/events.ndjson")).unwrap();
    assert_eq!(rescued.lines().count(), 2);
    assert!(rescued.lines().all(|line| line.contains("\"via\":\"redrive\"")), "{rescued}");
    assert!(!bench.path("old.ndjson").exists());
    for arguments in [["--sink", "nobody"], ["--from", "s3:///x"]] {
        let (code, text) = said(&bench, "redrive", &arguments);
        assert_eq!(code, Some(2), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_about_a_log_file_says_what_to_fetch_and_a_foreign_line_stays() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::File]);
    let sample = Generator::new(96).log_file(20);
    let broken = &sample.gz[..sample.gz.len() / 2];
    bench.aws.put_object("trail", &sample.key, broken.to_vec()).unwrap();
    let mut agent =
        bench.run_text(&config.text(&bench).replace("[dead_letter]", "read_attempts = 1\n\n[dead_letter]"));
    bench.until(&mut agent, "the log file is given up", || !bench.letters().is_empty()).await;
    assert!(agent.stop().await.success());
    let path = bench.path("dead-letters.ndjson");
    let letters = fs::read_to_string(&path).unwrap() + "{\"v\":1}\nnonsense\n";
    fs::write(&path, &letters).unwrap();
    let (code, text) = said(&bench, "redrive", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(&format!("s3://trail/{}", sample.key)) && text.contains("`trailship ship` it"),
        "{text}"
    );
    assert_eq!(text.matches("not a dead letter").count(), 2, "{text}");
    assert!(text.contains("0 letters delivered and taken away, 3 stay"), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), letters);
}

/// While letters cannot be stored, nothing settles; then everything does.
async fn check_unstored(place: &str, rule: FaultRule, bench: &Bench, letters: impl Fn() -> usize) {
    let config = config(place);
    let mut generator = Generator::new(97);
    let sample = generator.log_file(30);
    let bad = sample.issued[7].event_id.clone().unwrap();
    bench.elasticsearch.set_mode(Failure::RefuseContaining(bad));
    let fault = bench.aws.inject(rule);
    let mut agent = bench.run(&config);
    bench.issue(&sample);
    bench.until(&mut agent, "letters were tried", || bench.aws.fired(fault) >= 3).await;
    assert_eq!((bench.messages(), letters()), (1, 0), "the event is owed");
    assert!(!agent.coded("dead_letter_not_stored").is_empty());
    bench.aws.heal_all();
    bench.issue(&generator.log_file(10));
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_eq!(letters(), 1);
    assert_eq!((bench.elasticsearch.counts().stored, bench.loggly.counts().stored), (39, 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_letter_cannot_be_put_into_the_bucket_stays_owed() {
    let bench = Bench::start().await;
    bench.aws.create_bucket(LETTERS, BucketOptions::default());
    let place = "{ type = \"s3\", bucket = \"letters\" }";
    let rule = FaultRule::new("PutObject", AwsFault::Forbidden);
    check_unstored(place, rule, &bench, || bench.aws.keys(LETTERS).len()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_letter_a_queue_does_not_take_stays_owed() {
    let bench = Bench::start().await;
    bench.aws.create_queue(LETTERS);
    let place = format!("{{ type = \"sqs\", queue_url = \"{}\" }}", bench.aws.queue(LETTERS).url());
    let rule = FaultRule::new("SendMessageBatch", AwsFault::FailEntries { percent: 100 }).prefix(LETTERS);
    check_unstored(&place, rule, &bench, || bench.aws.queue(LETTERS).counts().visible).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_is_refused_again_while_others_are_taken_stays_as_it_was() {
    let bench = Bench::start().await;
    let config = Config::new().sink(Sink::Elasticsearch, SOON);
    bench.elasticsearch.set_mode(Failure::RefuseEvery(40));
    bench.issue(&Generator::new(94).log_file(400));
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let letters = bench.letters();
    assert!(letters.len() >= 3, "{}", letters.len());
    let bad = &letters[1];
    bench.elasticsearch.set_mode(Failure::RefuseContaining(bad["event_id"].as_str().unwrap().to_owned()));
    let (code, text) = said(&bench, "redrive", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("refused again: mapping: "), "{text}");
    assert!(
        text.contains(&format!("{} letters delivered and taken away, 1 stay", letters.len() - 1)),
        "{text}"
    );
    assert_eq!(bench.letters(), std::slice::from_ref(bad));
    bench.elasticsearch.set_mode(Mode::default());
    assert_eq!(said(&bench, "redrive", &[]).0, Some(0));
    let report = bench.assert_passes(&config);
    assert_eq!((report.sinks[0].stored, report.sinks[0].dead_lettered), (400, 0), "{report}");
}
