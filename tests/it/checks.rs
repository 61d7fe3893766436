//! `trailship check`: asks everything, stores nothing, unless one test event is wanted.

use testkit::generate::Generator;

use crate::bench::Bench;
use crate::config::{Config, Sink};

/// Exit status and what it said.
fn check(bench: &Bench, arguments: &[&str]) -> (Option<i32>, String) {
    let output = bench.command("check").args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn stored(bench: &Bench) -> Vec<u64> {
    let all = Sink::ALL.iter().filter_map(|sink| bench.destination(*sink));
    all.map(|destination| destination.counts().stored).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_stored_anywhere_unless_it_is_asked_for_and_then_one_everywhere() {
    let bench = Bench::start().await;
    bench.install_template().await;
    let config = Config::of(&Sink::ALL);
    std::fs::write(bench.path("trailship.toml"), config.text(&bench)).unwrap();
    let (code, text) = check(&bench, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(stored(&bench), [0; 4]);
    assert!(!bench.path("out/events.ndjson").exists());
    assert!(!text.contains("test event"), "{text}");

    let (code, text) = check(&bench, &["--send-test-event"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(stored(&bench), [1; 4]);
    for sink in Sink::ALL {
        let line = text.lines().find(|line| line.contains(&format!("sinks.{} test event: ", sink.name())));
        let line = line.unwrap_or_else(|| panic!("{}: {text}", sink.name()));
        assert!(line.starts_with("ok      ") && line.contains("look for the event "), "{line}");
    }
    let line = std::fs::read_to_string(bench.path("out/events.ndjson")).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["eventSource"], &event["awsRegion"]), (&"test.trailship".into(), &"none".into()));
    assert!(text.contains(event["eventID"].as_str().unwrap()), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_does_not_take_the_test_event_fails_the_check() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::Loggly, Sink::File]);
    std::fs::write(bench.path("trailship.toml"), config.text(&bench)).unwrap();
    bench.loggly.set_mode(testkit::destinations::Failure::Status(403));
    let (code, text) = check(&bench, &["--send-test-event"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FAILED  sinks.loggly test event: not let in: unauthorized (HTTP 403)"), "{text}");
    assert!(text.contains("ok      sinks.file test event: delivered"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_not_required_holds_up_nothing_and_still_gets_what_it_can() {
    let bench = Bench::start().await;
    let config = Config::new()
        .sink(
            Sink::Loggly,
            "required = false\nretry = { initial = \"50ms\", max = \"200ms\", give_up_after = \"1s\" }",
        )
        .sink(Sink::File, "");
    let mut generator = Generator::new(98);
    let mut agent = bench.run(&config);
    bench.issue_all(&mut generator, [20; 5]).await;
    bench.until_quiet(&mut agent).await;
    assert_eq!(bench.loggly.counts().stored, 100, "while it works, it gets everything");
    bench.loggly.set_mode(testkit::destinations::Failure::Status(503));
    bench.issue_all(&mut generator, [20; 5]).await;
    // Log files are done although one sink has not got them.
    bench.until_quiet(&mut agent).await;
    let (code, text) = agent.page("/readyz").await;
    assert_eq!(code, 200, "it does not make the agent unready: {text}");
    bench.loggly.set_mode(testkit::destinations::Mode::default());
    let log = agent.log();
    bench
        .until(&mut agent, "the lane is open again", || {
            log.coded("sink_unavailable").is_empty() || !log.coded("sink_open").is_empty()
        })
        .await;
    bench.issue_all(&mut generator, [20; 5]).await;
    bench.until(&mut agent, "it gets what comes then", || bench.loggly.counts().stored >= 200).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.judge(&config);
    let file = report.sinks.iter().find(|sink| sink.sink == "file").unwrap();
    assert_eq!((file.issued, file.stored), (300, 300), "{report}");
    let loggly = report.sinks.iter().find(|sink| sink.sink == "loggly").unwrap();
    assert!(loggly.corrupt.is_empty() && loggly.invented.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_s_proxy_is_used_but_for_what_no_proxy_names() {
    let bench = Bench::start().await;
    let config = Config::new().sink(Sink::Loggly, "allow_plaintext = true");
    // No name ends in `.invalid`: only the proxy can know what is meant, and here it is the destination itself.
    let text = config.text(&bench).replace(&bench.loggly.url, "http://loggly.invalid");
    std::fs::write(bench.path("trailship.toml"), text).unwrap();
    let mut command = bench.command("run");
    // Calls to AWS would go there as well.
    command.env("HTTP_PROXY", &bench.loggly.url).env("NO_PROXY", "127.0.0.1");
    let mut agent = bench.run_command(command);
    bench.issue_all(&mut Generator::new(99), [20; 5]).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].stored, 100, "{report}");
}
