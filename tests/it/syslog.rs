//! Syslog: nobody answers, so what a receiver that dies had not kept is sent again, and only on request do log files
//! wait for it.

use serde_json::Value;
use testkit::destinations::{
    AlertLogic, AlertLogicOptions, Failure, Mode, Syslog, SyslogFraming, SyslogLimit, SyslogMode,
    SyslogOptions,
};
use testkit::generate::Generator;
use testkit::tls::{AUTHORITY_PEM, CLIENT_KEY, CLIENT_PEM, Clients, acceptor};

use crate::bench::Bench;
use crate::config::{Config, Sink};
use crate::splunk::{proxy, tls_for};

async fn receiver(bench: &mut Bench, options: SyslogOptions) -> Syslog {
    let syslog = Syslog::start(bench.ledger.clone(), options).await.unwrap();
    bench.watch(syslog.counter());
    syslog
}

fn with_tls(clients: Clients) -> SyslogOptions {
    SyslogOptions { tls: Some(acceptor(clients).unwrap()), ..SyslogOptions::default() }
}

/// The receiver as a sink that log files wait for.
fn config(bench: &Bench, syslog: &Syslog, lines: &str) -> Config {
    std::fs::write(bench.path("ca.pem"), AUTHORITY_PEM).unwrap();
    let (url, tls) = (&syslog.url, "tls = { ca_file = \"ca.pem\" }");
    let tls = if url.starts_with("tls:") && !lines.contains("tls =") { tls } else { "" };
    let table =
        format!("type = \"syslog\"\nendpoints = [\"{url}\"]\naccept_unacknowledged = true\n{tls}\n{lines}");
    Config::new().other("syslog", &table)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_dies_three_times_and_forgets_gets_everything_in_the_end() {
    let mut bench = Bench::start().await;
    let syslog = receiver(&mut bench, with_tls(Clients::Any)).await;
    syslog.set_mode(SyslogMode {
        reset_after: Some(300),
        forgets: true,
        resets: Some(3),
        ..SyslogMode::default()
    });
    let config = config(&bench, &syslog, "max_message_bytes = \"1MiB\"");
    bench.issue_all(&mut Generator::new(81), [100; 20]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.metric("trailship_sink_errors_total{class=\"unconfirmed\",sink=\"syslog\"}").await > 0);
    assert!(agent.stop().await.success());
    assert_eq!(syslog.counts().failures, 3);
    assert_eq!(syslog.counts().refused, 0, "every message was one");
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == 2000), "{report}");
    assert_eq!(bench.letters(), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_lives_brings_each_event_once() {
    let mut bench = Bench::start().await;
    let syslog = receiver(&mut bench, with_tls(Clients::Signed)).await;
    std::fs::write(bench.path("client.pem"), CLIENT_PEM).unwrap();
    std::fs::write(bench.path("client.key"), CLIENT_KEY).unwrap();
    let tls = "tls = { ca_file = \"ca.pem\", cert_file = \"client.pem\", key_file = \"client.key\" }";
    let config =
        config(&bench, &syslog, &format!("max_message_bytes = \"1MiB\"\nhostname = \"{{account}}\"\n{tls}"));
    bench.issue_all(&mut Generator::new(82), [100; 10]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_eq!((syslog.counts().deliveries, syslog.connections()), (1000, 1));
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == 1000), "{report}");
    let message = syslog.messages().remove(0);
    let fields: Vec<&str> = message.splitn(8, ' ').collect();
    assert_eq!((fields[0], fields[3], fields[4], fields[6]), ("<110>1", "cloudtrail", "-", "-"), "{message}");
    let event: Value = serde_json::from_str(fields[7]).unwrap();
    assert_eq!(fields[5], event["eventName"].as_str().unwrap());
    assert_eq!(fields[1].get(..19), event["eventTime"].as_str().unwrap().get(..19));
    assert_eq!(fields[2], event["recipientAccountId"].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_for_the_receiver_comes_shortened_and_says_so() {
    let mut bench = Bench::start().await;
    let limit = SyslogLimit::Cut(2048);
    let syslog = receiver(&mut bench, SyslogOptions { limit, ..SyslogOptions::default() }).await;
    let config = config(&bench, &syslog, "max_message_bytes = \"2KiB\"");
    bench.issue_all(&mut Generator::new(83), [200; 5]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let counts = syslog.counts();
    assert!(counts.sliced > 0, "{counts:?}");
    assert_eq!(counts.refused, 0, "a message was cut: {counts:?}");
    let report = bench.assert_passes(&config);
    let sink = &report.sinks[0];
    assert_eq!(sink.stored + sink.filtered + sink.dead_lettered, 1000, "{report}");
    assert_eq!(sink.filtered, counts.sliced, "{report}");
    assert!(bench.letters().iter().all(|letter| letter["reason_code"] == "too_large"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_not_required_holds_nobody_up() {
    let mut bench = Bench::start().await;
    let syslog = receiver(&mut bench, SyslogOptions::default()).await;
    syslog.set_mode(SyslogMode { turns_away: true, ..SyslogMode::default() });
    let table = format!("type = \"syslog\"\nendpoints = [\"{}\"]\nrequired = false", syslog.url);
    let with_syslog = Config::of(&[Sink::File]).other("syslog", &table).agent("shutdown_grace = \"4s\"");
    bench.issue_all(&mut Generator::new(84), [50; 10]).await;
    let mut agent = bench.run(&with_syslog);
    bench.until_quiet(&mut agent).await;
    assert_eq!(syslog.counts().stored, 0);
    assert!(agent.stop().await.success());
    bench.assert_passes(&Config::of(&[Sink::File]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_of_alert_logic_gets_lines() {
    let mut bench = Bench::start().await;
    let options = SyslogOptions {
        sink: "alert_logic".to_owned(),
        framing: SyslogFraming::Newline,
        ..with_tls(Clients::Any)
    };
    let syslog = receiver(&mut bench, options).await;
    syslog.set_mode(SyslogMode {
        reset_after: Some(100),
        forgets: true,
        resets: Some(1),
        ..SyslogMode::default()
    });
    std::fs::write(bench.path("ca.pem"), AUTHORITY_PEM).unwrap();
    let table = format!(
        "type = \"alert_logic\"\nendpoints = [\"{}\"]\naccept_unacknowledged = true\ntls = {{ ca_file = \"ca.pem\" }}",
        syslog.url
    );
    let config = Config::new().other("alert_logic", &table);
    bench.issue_all(&mut Generator::new(85), [50; 10]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].stored + report.sinks[0].filtered, 500, "{report}");
    assert_eq!(syslog.counts().failures, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_whether_a_receiver_can_be_reached_and_trusted() {
    let mut bench = Bench::start().await;
    let syslog = receiver(&mut bench, with_tls(Clients::Any)).await;
    let check = |lines: &str| {
        std::fs::write(bench.path("trailship.toml"), config(&bench, &syslog, lines).text(&bench)).unwrap();
        // It blocks this thread only: the stand-in answers on the runtime's workers.
        let out = bench.command("check").output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    let said = check("");
    assert!(said.contains("ok      sinks.syslog tls://localhost:"), "{said}");
    let said = check("tls = { ca_file = \"\" }");
    assert!(said.contains("FAILED  sinks.syslog"), "{said}");
    let said = check("required = true\ntls = { ca_file = \"ca.pem\", server_name = \"other.example\" }");
    assert!(said.contains("FAILED  sinks.syslog tls://localhost:"), "{said}");
    assert_eq!(syslog.counts().deliveries, 0, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_cannot_acknowledge_has_to_be_wanted() {
    let bench = Bench::start().await;
    let table = "type = \"syslog\"\nendpoints = [\"tcp://siem.example:514\"]";
    std::fs::write(bench.path("trailship.toml"), Config::new().other("syslog", table).text(&bench)).unwrap();
    let out = bench.command("check").arg("--offline").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("sinks.syslog.required") && said.contains("accept_unacknowledged"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ingest_service_of_alert_logic_gets_everything_through_lost_answers_and_a_revoked_token() {
    let mut bench = Bench::start().await;
    let options = AlertLogicOptions::default();
    let service =
        std::sync::Arc::new(AlertLogic::start(bench.ledger.clone(), options.clone()).await.unwrap());
    let counted = std::sync::Arc::clone(&service);
    bench.watch(move || counted.counts());
    let table = format!(
        "type = \"alert_logic_ingest\"\nendpoint = \"{}\"\naccess_key_id = \"{}\"\nsecret_key = \"{}\"\n\
         source_id = \"{}\"\nhost_id = \"{}\"\nmessage_type = \"json/cloudtrail\"\nbatch = {{ max_events = 100 }}\n\
         retry = {{ initial = \"10ms\", max = \"50ms\" }}",
        service.url, options.access_key_id, options.secret_key, options.source_id, options.host_id
    );
    let config = Config::new().other("alert_logic_ingest", &table);
    service.set_mode(Mode { requests: Some(3), ..Mode::from(Failure::AnswerLost) });
    let mut generator = Generator::new(86);
    bench.issue_all(&mut generator, [50; 10]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert_eq!(service.tokens(), 1);
    service.revoke();
    service.set_mode(Mode { requests: Some(2), ..Mode::from(Failure::Status(503)) });
    bench.issue_all(&mut generator, [50; 10]).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert_eq!(service.tokens(), 2);
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].stored, 1000, "{report}");
    assert!(report.sinks[0].duplicates_with_cause() > 0, "{report}");
    assert!(!agent.log().text().contains(&options.secret_key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alert_logic_behind_a_proxy_gets_everything_with_an_authority_and_a_certificate_of_our_own() {
    let mut bench = Bench::start().await;
    let options = AlertLogicOptions::default();
    let service =
        std::sync::Arc::new(AlertLogic::start(bench.ledger.clone(), options.clone()).await.unwrap());
    let counted = std::sync::Arc::clone(&service);
    bench.watch(move || counted.counts());
    let port = tls_for(service.url.trim_start_matches("http://"), Clients::Signed).await;
    let (proxy, tunnels) = proxy().await;
    for (file, pem) in [("ca.pem", AUTHORITY_PEM), ("client.pem", CLIENT_PEM), ("client.key", CLIENT_KEY)] {
        std::fs::write(bench.path(file), pem).unwrap();
    }
    let table = format!(
        "type = \"alert_logic_ingest\"\nendpoint = \"https://localhost:{port}\"\naccess_key_id = \"{}\"\n\
         secret_key = \"{}\"\nsource_id = \"{}\"\nhost_id = \"{}\"\nmessage_type = \"json/cloudtrail\"\n\
         proxy = \"http://127.0.0.1:{proxy}\"\n\
         tls = {{ ca_file = \"ca.pem\", cert_file = \"client.pem\", key_file = \"client.key\" }}",
        options.access_key_id, options.secret_key, options.source_id, options.host_id
    );
    let config = Config::new().other("alert_logic_ingest", &table);
    bench.issue_all(&mut Generator::new(87), [50; 10]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    assert!(tunnels.load(std::sync::atomic::Ordering::Relaxed) > 0, "the proxy was not used");
    let report = bench.assert_passes(&config);
    assert_eq!(report.sinks[0].stored, 500, "{report}");
}
