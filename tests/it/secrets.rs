//! Whatever fails, and however much is logged, no secret shows.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use http::StatusCode;
use testkit::destinations::{
    Auth, Destination, ElasticsearchOptions, Failure, LogglyOptions, Mode, SplunkHecOptions, SumoLogicOptions,
};
use testkit::generate::Generator;
use testkit::http::{Handler, Request, Response, Server};

use crate::agent::Agent;
use crate::bench::{Bench, Setup};
use crate::config::{Config, Sink};

/// What every secret of this test contains, and nothing else does.
const MARK: &str = "c0nf1dential";

const HTTP_SINKS: [Sink; 4] = [Sink::Elasticsearch, Sink::SplunkHec, Sink::Loggly, Sink::SumoLogic];

fn setup() -> Setup {
    let secret = |number: u32| format!("{number}-{MARK}-{number}");
    let auth = Auth::ApiKey(secret(1));
    Setup {
        elasticsearch: ElasticsearchOptions { auth, ..ElasticsearchOptions::default() },
        splunk_hec: SplunkHecOptions { token: secret(2), ..SplunkHecOptions::default() },
        loggly: LogglyOptions { token: secret(3), ..LogglyOptions::default() },
        sumo_logic: SumoLogicOptions { code: secret(4), ..SumoLogicOptions::default() },
        ..Setup::default()
    }
}

/// Logs as much as there is, and tries again soon.
fn config() -> Config {
    let lines = "timeout = \"1s\"\nconnect_timeout = \"1s\"\nretry = { initial = \"20ms\", max = \"100ms\" }";
    let config = HTTP_SINKS.iter().fold(Config::new(), |config, sink| config.sink(*sink, lines));
    config.agent("log_level = \"trace\"\nshutdown_grace = \"4s\"")
}

/// What [`Echo`] answers with, in turn.
const STATUSES: [u16; 8] = [400, 401, 404, 302, 413, 418, 500, 200];

/// A destination that repeats in its answer what it was sent, as proxies do on their error pages.
#[derive(Default)]
struct Echo(AtomicUsize);

impl Handler for Echo {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let status = StatusCode::from_u16(STATUSES[number % STATUSES.len()]).unwrap();
        let credentials = request.header("authorization").unwrap_or_default();
        let text = format!("{} is not served to {credentials}", request.path);
        let answer = Response::text(status, "text/plain", text);
        Box::pin(async move { answer.with_header("location", &format!("http://localhost{}", request.path)) })
    }
}

#[track_caller]
fn assert_silent(what: &str, text: &str) {
    let line = text.lines().find(|line| line.contains(MARK) || line.contains("wJalrXUtnFEMI"));
    assert_eq!(line, None, "a secret in {what}");
    assert!(!text.is_empty(), "{what} is empty");
}

async fn assert_pages_silent(agent: &mut Agent) {
    for page in ["/metrics", "/status", "/readyz", "/"] {
        let (_, text) = agent.page(page).await;
        assert_silent(page, &text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_in_logs_pages_and_dead_letters_whatever_fails() {
    let bench = Bench::start_with(setup()).await;
    let config = config();
    assert_eq!(config.text(&bench).matches(MARK).count(), 4);
    let mut generator = Generator::new(81);
    let mut agent = bench.run(&config);
    let failures = [400, 401, 403, 404, 408, 413, 418, 429, 500, 503].map(Failure::Status);
    let others = [
        Failure::RefuseAll,
        Failure::Code(9),
        Failure::ShortAnswer,
        Failure::Garbage,
        Failure::HalfAnswer,
        Failure::Hangup,
        Failure::Reset,
        Failure::NeverAnswer,
    ];
    let destinations: Vec<_> = HTTP_SINKS.iter().filter_map(|sink| bench.destination(*sink)).collect();
    for failure in failures.into_iter().chain(others) {
        let before: Vec<u64> = destinations.iter().map(|it| it.counts().failures).collect();
        destinations.iter().for_each(|it| it.set_mode(Mode { everywhere: true, ..failure.clone().into() }));
        bench.issue(&generator.log_file(2));
        let failed = || destinations.iter().zip(&before).all(|(it, before)| it.counts().failures > *before);
        bench.until(&mut agent, &format!("{failure:?} has happened everywhere"), failed).await;
        assert_pages_silent(&mut agent).await;
        destinations.iter().for_each(|it| it.set_mode(Mode::default()));
        bench.until_quiet(&mut agent).await;
    }
    // One event that nobody takes.
    let sample = generator.log_file(3);
    let bad = sample.issued[1].event_id.clone().unwrap();
    destinations.iter().for_each(|it| it.set_mode(Failure::RefuseContaining(bad.clone())));
    let refused = |it: &&Destination| it.counts().refused > 0;
    bench.issue(&sample);
    bench.until(&mut agent, "all have refused it", || destinations.iter().all(refused)).await;
    // Where nothing else was accepted after it, it waits for a witness.
    bench.issue(&generator.log_file(3));
    bench.until_quiet(&mut agent).await;
    assert_pages_silent(&mut agent).await;
    assert!(agent.stop().await.success());
    let text = agent.log().text();
    assert!(text.contains("sink_denied") && text.contains("sink_failing"), "{text}");
    assert_silent("the log", &text);
    assert_silent("the dead letters", &fs::read_to_string(bench.path("dead-letters.ndjson")).unwrap());
    bench.assert_passes(&config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_where_nobody_listens_the_address_is_wrong_or_the_answer_repeats_the_request() {
    let bench = Bench::start_with(setup()).await;
    let config = config();
    let echo = Server::start(0, Arc::new(Echo::default())).await.unwrap();
    bench.issue_all(&mut Generator::new(82), [5; 3]).await;
    // Nothing listens on port 1, and no name ends in `.invalid`.
    for nowhere in ["http://127.0.0.1:1", "https://nowhere.invalid", &echo.url()] {
        let mut text = config.text(&bench);
        for destination in HTTP_SINKS.iter().filter_map(|sink| bench.destination(*sink)) {
            text = text.replace(&destination.url, nowhere);
        }
        let mut agent = bench.run_text(&text);
        let failed = |agent: &Agent| {
            let lines = agent.coded("sink_failing");
            HTTP_SINKS.iter().all(|sink| lines.iter().any(|line| line["sink"] == sink.name()))
        };
        // The one that answers is asked for every kind of answer that it has.
        while !failed(&agent) || nowhere == echo.url() && echo.requests() < 20 * STATUSES.len() as u64 {
            assert!(agent.runs(), "the agent has ended");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_pages_silent(&mut agent).await;
        assert!(agent.stop().await.success());
        assert_silent("the log", &agent.log().text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_in_what_is_said_of_a_wrong_configuration() {
    let bench = Bench::start_with(setup()).await;
    let text = config().text(&bench);
    for (right, wrong) in [
        ("log_level = \"trace\"", "log_level = \"loud\""),
        ("type = \"loggly\"", "type = \"logly\""),
        ("timeout = \"1s\"", "timeout = 1"),
        ("token =", "tokem ="),
        ("url =", "urls ="),
        ("api_key = \"", "api_key = [\""),
    ] {
        assert!(text.contains(right), "{right}");
        fs::write(bench.path("trailship.toml"), text.replace(right, wrong)).unwrap();
        let output = bench.command("run").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert_silent(wrong, &String::from_utf8_lossy(&output.stderr));
    }
    let wrong_url = text.replace("http://127.0.0.1", "ftp://127.0.0.1");
    fs::write(bench.path("trailship.toml"), wrong_url).unwrap();
    let output = bench.command("run").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_silent("what is said of wrong addresses", &String::from_utf8_lossy(&output.stderr));
}
