//! Splunk: errors that name an event, and confirmations that come late or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::destinations::{Balancer, Failure, Mode, SplunkHec, SplunkHecOptions};
use testkit::generate::Generator;
use testkit::ledger::Cause;
use testkit::tls::{AUTHORITY_PEM, Clients, acceptor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::{Bench, Setup};
use crate::config::{Config, Sink};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_names_an_event_stores_exactly_the_others_each_once() {
    let bench = Bench::start().await;
    let mut generator = Generator::new(41);
    let sample = generator.log_file(400);
    let bad = sample.issued[123].event_id.clone().unwrap();
    bench.splunk_hec.set_mode(Failure::RefuseContaining(bad.clone()));
    let config = Config::of(&[Sink::SplunkHec]);
    bench.issue(&sample);
    bench.issue_all(&mut generator, [20; 10]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());

    let letters = bench.letters();
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let event: Value = serde_json::from_str(letters[0]["record"].as_str().unwrap()).unwrap();
    assert_eq!(event["eventID"], json!(bad));
    assert_eq!(letters[0]["reason_code"], "invalid");
    let report = bench.assert_passes(&config);
    let sink = &report.sinks[0];
    assert_eq!((sink.stored, sink.dead_lettered), (599, 1), "{report}");
    assert_eq!(sink.duplicates_with_cause(), 0, "{report}");
    assert_eq!(bench.splunk_hec.counts().stored, 599);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_acknowledgement_a_message_is_deleted_only_when_the_indexers_confirm() {
    let splunk_hec = SplunkHecOptions {
        use_ack: true,
        ack_delay: Duration::from_millis(1_500),
        ..SplunkHecOptions::default()
    };
    let bench = Bench::start_with(Setup { splunk_hec, ..Setup::default() }).await;
    let config = Config::of(&[Sink::SplunkHec]);
    let mut agent = bench.run(&config);
    let issued = bench.issue_all(&mut Generator::new(42), [20; 50]).await;
    let mut early = false;
    let mut settled = || {
        // Everything is stored; the messages wait for the confirmation.
        early |= bench.splunk_hec.counts().stored == issued && bench.messages() > 0;
        bench.messages() == 0
    };
    bench.until(&mut agent, "all is confirmed", &mut settled).await;
    assert!(early, "messages were deleted before their events were confirmed");
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].duplicates_with_cause(), 0, "{report}");
    let counts = bench.splunk_hec.counts();
    assert!(counts.requests > counts.deliveries, "{counts:?}");
}

/// Passes connections on to `target`, through TLS with a certificate of the tests' own authority; its port.
pub(crate) async fn tls_before(target: &str) -> u16 {
    tls_for(target, Clients::Any).await
}

/// The same for clients that prove who they are, or for any.
pub(crate) async fn tls_for(target: &str, clients: Clients) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (acceptor, target) = (acceptor(clients).unwrap(), target.to_owned());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                // Whoever does not trust the certificate goes away.
                let Ok(mut near) = acceptor.accept(stream).await else { return };
                let mut far = TcpStream::connect(target).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    port
}

/// A proxy that makes tunnels; its port, and how many it has made.
pub(crate) async fn proxy() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tunnels = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tunnels);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap();
                let mut far = TcpStream::connect(target).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (port, tunnels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_indexer_behind_a_proxy_with_a_certificate_of_the_company_s_own_gets_everything() {
    let mut bench = Bench::start().await;
    let options = SplunkHecOptions {
        sink: "private".to_owned(),
        use_ack: true,
        ack_delay: Duration::ZERO,
        ..SplunkHecOptions::default()
    };
    let token = options.token.clone();
    let splunk = Arc::new(SplunkHec::start(Arc::clone(&bench.ledger), options).await.unwrap());
    let watched = Arc::clone(&splunk);
    bench.watch(move || watched.counts());
    let port = tls_before(splunk.url.trim_start_matches("http://")).await;
    let (proxy, tunnels) = proxy().await;
    std::fs::write(bench.path("ca.pem"), AUTHORITY_PEM).unwrap();
    let config = |tls: &str| {
        let lines = format!(
            "type = \"splunk_hec\"\nendpoints = [\"https://localhost:{port}\"]\ntoken = \"{token}\"\n\
             proxy = \"http://127.0.0.1:{proxy}\"\nretry = {{ initial = \"20ms\", max = \"100ms\" }}\n{tls}"
        );
        Config::new().other("private", &lines).agent("shutdown_grace = \"4s\"")
    };
    bench.issue_all(&mut Generator::new(50), [40; 20]).await;
    // Whoever does not know the authority sends nothing.
    let mut agent = bench.run(&config(""));
    let log = agent.log();
    let refused = || !log.coded("sink_failing").is_empty();
    bench.until(&mut agent, "the certificate is refused", refused).await;
    assert_eq!(agent.coded("sink_failing")[0]["class"], "tls");
    assert!(agent.stop().await.success());
    assert_eq!(splunk.counts().requests, 0);

    let with_authority = config("tls = { ca_file = \"ca.pem\" }");
    let mut agent = bench.run(&with_authority);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert!(tunnels.load(Ordering::Relaxed) > 0, "the proxy was not used");
    let report = bench.assert_passes(&with_authority);
    assert_eq!(report.sinks[0].duplicates_with_cause(), 0, "{report}");
}

/// Waits a second for what Splunk advises to wait five minutes for.
const IMPATIENT: &str = "ack_timeout = \"1s\"\nretry = { initial = \"50ms\", max = \"200ms\" }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_ever_confirmed_accepted_counts_as_delivered_after_three_rounds_with_one_warning() {
    let splunk_hec = SplunkHecOptions { use_ack: true, ack_never: true, ..SplunkHecOptions::default() };
    let bench = Bench::start_with(Setup { splunk_hec, ..Setup::default() }).await;
    let config = Config::new().sink(Sink::SplunkHec, IMPATIENT);
    let mut agent = bench.run(&config);
    let mut generator = Generator::new(44);
    let first = bench.issue_all(&mut generator, [20; 5]).await;
    bench.until_quiet(&mut agent).await;
    let stored = bench.splunk_hec.counts().stored;
    assert!((3 * first..=4 * first).contains(&stored), "{stored} of {first}: sent again twice, not for ever");
    // From now on nothing is sent twice.
    let more = bench.issue_all(&mut generator, [20; 20]).await;
    bench.until_quiet(&mut agent).await;
    assert_eq!(bench.splunk_hec.counts().stored, stored + more);
    assert!(agent.stop().await.success());
    assert_eq!(agent.coded("acknowledgement_ignored").len(), 1);
    assert_eq!(agent.coded("sink_denied"), Vec::<Value>::new());
    let report = bench.assert_passes(&config);
    assert!(report.sinks[0].duplicates[&Cause::Unconfirmed] >= 2 * first, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_sticky_load_balancer_each_indexer_is_asked_for_what_it_was_sent() {
    let splunk_hec = SplunkHecOptions {
        use_ack: true,
        balancer: Balancer::Sticky(3),
        ack_delay: Duration::from_millis(300),
        ..SplunkHecOptions::default()
    };
    let bench = Bench::start_with(Setup { splunk_hec, ..Setup::default() }).await;
    let config = Config::of(&[Sink::SplunkHec]);
    let mut agent = bench.run(&config);
    bench.issue_all(&mut Generator::new(45), [40; 50]).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].duplicates_with_cause(), 0, "{report}");
    assert!(!agent.log().text().contains("indexer="), "a cookie is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_a_question_costs_a_repetition_and_no_event() {
    let splunk_hec =
        SplunkHecOptions { use_ack: true, ack_delay: Duration::ZERO, ..SplunkHecOptions::default() };
    let bench = Bench::start_with(Setup { splunk_hec, ..Setup::default() }).await;
    // Every other exchange, questions included: what a lost answer has told is never told again.
    let lossy = Mode { share: 0.5, everywhere: true, ..Mode::from(Failure::AnswerLost) };
    bench.splunk_hec.set_mode(lossy);
    let config = Config::new().sink(Sink::SplunkHec, &format!("ack = true\n{IMPATIENT}"));
    let mut agent = bench.run(&config);
    bench.issue_all(&mut Generator::new(46), [20; 20]).await;
    let lost = || bench.splunk_hec.counts().failures >= 10;
    bench.until(&mut agent, "answers were lost", lost).await;
    bench.splunk_hec.set_mode(Mode::default());
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks[0].duplicates_with_cause() > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_indexers_one_may_fail_and_another_refuse_the_token() {
    let mut bench = Bench::start().await;
    let start = async |token: &str| {
        let options = SplunkHecOptions {
            sink: "indexers".to_owned(),
            use_ack: true,
            ack_delay: Duration::from_millis(100),
            token: token.to_owned(),
            ..SplunkHecOptions::default()
        };
        Arc::new(SplunkHec::start(Arc::clone(&bench.ledger), options).await.unwrap())
    };
    let token = SplunkHecOptions::default().token;
    let (good, failing, strange) = (start(&token).await, start(&token).await, start("other").await);
    failing.set_mode(Mode { everywhere: true, ..Mode::from(Failure::Reset) });
    let (watched, also) = (Arc::clone(&good), Arc::clone(&failing));
    bench.watch(move || watched.counts());
    bench.watch(move || also.counts());
    let endpoints = [&strange.url, &failing.url, &good.url];
    let config = Config::new().other(
        "indexers",
        &format!(
            "type = \"splunk_hec\"\nendpoints = {endpoints:?}\ntoken = {token:?}\n\
             retry = {{ initial = \"20ms\", max = \"100ms\" }}"
        ),
    );
    let mut agent = bench.run(&config);
    let mut generator = Generator::new(47);
    let first = bench.issue_all(&mut generator, [40; 20]).await;
    bench.until_quiet(&mut agent).await;
    assert_eq!((good.counts().stored, failing.counts().stored), (first, 0));
    assert_eq!(agent.page("/readyz").await.0, 200, "one that accepts is enough");
    assert_eq!(agent.coded("sink_denied"), Vec::<Value>::new());

    // It comes back, and is used again before long.
    failing.set_mode(Mode::default());
    for _ in 0..100 {
        if failing.counts().stored > 0 {
            break;
        }
        bench.issue_all(&mut generator, [10; 10]).await;
        bench.until_quiet(&mut agent).await;
    }
    assert!(failing.counts().stored > 0, "it was left for good");
    assert!(agent.stop().await.success());
    assert_eq!(strange.counts().stored, 0);
    let report = bench.assert_passes(&config);
    assert_eq!(
        report.sinks[0].duplicates_with_cause(),
        0,
        "only what is not acknowledged is sent again: {report}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_without_a_number_does_not_count_its_first_events_where_acknowledgement_is_a_must() {
    let splunk_hec = SplunkHecOptions {
        use_ack: true,
        ack_on_error: false,
        ack_delay: Duration::ZERO,
        ..SplunkHecOptions::default()
    };
    let bench = Bench::start_with(Setup { splunk_hec, ..Setup::default() }).await;
    let sample = Generator::new(48).log_file(100);
    let bad = sample.issued[60].event_id.clone().unwrap();
    bench.splunk_hec.set_mode(Failure::RefuseContaining(bad));
    bench.issue(&sample);
    let config = Config::new().sink(Sink::SplunkHec, "ack = true");
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    // The sixty before it stand there twice: the first time nobody could ask for them.
    assert_eq!(report.sinks[0].duplicates[&Cause::Unconfirmed], 60, "{report}");
    assert_eq!((report.sinks[0].stored, report.sinks[0].dead_lettered), (99, 1), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_under_strain_is_sent_less_and_gets_everything_once() {
    let bench = Bench::start().await;
    bench.splunk_hec.set_mode(Failure::Code(24));
    let config = Config::of(&[Sink::SplunkHec]);
    let mut agent = bench.run(&config);
    let series = "trailship_sink_concurrency{sink=\"splunk_hec\"}";
    bench.issue_all(&mut Generator::new(49), [40; 20]).await;
    bench.until_quiet(&mut agent).await;
    let limit = agent.metric(series).await;
    assert!(limit < 4, "it started with 4 at once, and is at {limit}");
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].duplicates_with_cause(), 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_never_confirmed_is_sent_again_and_the_repetition_has_that_cause() {
    let splunk_hec = SplunkHecOptions { use_ack: true, ack_never: true, ..SplunkHecOptions::default() };
    let bench = Bench::start_with(Setup { splunk_hec, ..Setup::default() }).await;
    let config = Config::new()
        .agent("shutdown_grace = \"5s\"")
        .sink(Sink::SplunkHec, &format!("ack = true\n{IMPATIENT}"));
    let mut agent = bench.run(&config);
    let issued = bench.issue_all(&mut Generator::new(43), [20; 5]).await;
    let again = || bench.splunk_hec.counts().stored >= 4 * issued;
    bench.until(&mut agent, "all was sent three times again", again).await;
    assert_eq!(bench.messages(), 5, "nothing is done that was never confirmed");
    assert!(agent.stop().await.success());
    let told = agent.coded("acknowledgement_missing");
    assert!(!told.is_empty() && agent.coded("acknowledgement_ignored").is_empty(), "{told:#?}");
    let report = bench.judge(&config);
    assert!(report.sinks[0].passes(), "{report}");
    assert!(report.sinks[0].duplicates[&Cause::Unconfirmed] >= 2 * issued, "{report}");
    assert_eq!(bench.letters(), Vec::<Value>::new());
}
