//! Every destination at once: what one of them does is nothing to the others, and nothing is lost at any.

use std::sync::Arc;

use testkit::aws::QueueBehaviour;
use testkit::destinations::{
    AlertLogic, AlertLogicOptions, Failure, HttpAny, HttpAnyOptions, Logstash, LogstashHttp,
    LogstashHttpOptions, LogstashOptions, Mode, Syslog, SyslogFraming, SyslogLimit, SyslogMode,
    SyslogOptions,
};
use testkit::generate::Generator;

use crate::bench::{Bench, Setup};
use crate::config::{Config, Sink};

/// Log files of the run.
const FILES: u64 = 2_000;
/// Events in a log file, at most: there are many destinations.
const EVENTS_MAX: usize = 40;
const RETRY: &str = "retry = { initial = \"50ms\", max = \"500ms\" }";

/// The stand-ins that only this run has all together.
struct Others {
    _logstash: Arc<Logstash>,
    _logstash_http: Arc<LogstashHttp>,
    http: Arc<HttpAny>,
    syslog: Syslog,
    _collector: Syslog,
    _ingest: Arc<AlertLogic>,
}

/// Has a stand-in watched.
macro_rules! watched {
    ($bench:ident, $made:expr) => {{
        let made = Arc::new($made.await.unwrap());
        let counted = Arc::clone(&made);
        $bench.watch(move || counted.counts());
        made
    }};
}

/// Starts them, and adds a sink for each to the configuration.
async fn others(bench: &mut Bench, config: Config) -> (Others, Config) {
    let shared = Arc::clone(&bench.ledger);
    let ledger = || Arc::clone(&shared);
    let (beats, requests) = (LogstashOptions::default(), LogstashHttpOptions::default());
    let (any, ingest) = (HttpAnyOptions::default(), AlertLogicOptions::default());
    let whole = SyslogOptions { limit: SyslogLimit::Cut(1 << 20), ..SyslogOptions::default() };
    let lines =
        SyslogOptions { sink: "alert_logic".to_owned(), framing: SyslogFraming::Newline, ..whole.clone() };
    let logstash = watched!(bench, Logstash::start(ledger(), beats));
    let logstash_http = watched!(bench, LogstashHttp::start(ledger(), requests.clone()));
    let http = watched!(bench, HttpAny::start(ledger(), any));
    let service = watched!(bench, AlertLogic::start(ledger(), ingest.clone()));
    let syslog = Syslog::start(ledger(), whole).await.unwrap();
    let collector = Syslog::start(ledger(), lines).await.unwrap();
    bench.watch(syslog.counter());
    bench.watch(collector.counter());

    let (user, password) = requests.user.unwrap();
    let by_syslog = |kind: &str, url: &str| {
        format!(
            "type = \"{kind}\"\nendpoints = [\"{url}\"]\naccept_unacknowledged = true\n\
             max_message_bytes = \"1MiB\"\n{RETRY}"
        )
    };
    let config = config
        .other(
            "logstash",
            &format!("type = \"logstash\"\nendpoints = [\"{}\"]\n{RETRY}", logstash.endpoint),
        )
        .other(
            "logstash_http",
            &format!(
                "type = \"logstash_http\"\nendpoints = [\"{}\"]\nusername = \"{user}\"\npassword = \"{password}\"\n{RETRY}",
                logstash_http.url
            ),
        )
        .other("http", &format!("type = \"http\"\nurl = \"{}/in/{{account}}\"\n{RETRY}", http.url))
        .other("syslog", &by_syslog("syslog", &syslog.url))
        .other("alert_logic", &by_syslog("alert_logic", &collector.url))
        .other(
            "alert_logic_ingest",
            &format!(
                "type = \"alert_logic_ingest\"\nendpoint = \"{}\"\naccess_key_id = \"{}\"\nsecret_key = \"{}\"\n\
                 source_id = \"{}\"\nhost_id = \"{}\"\nmessage_type = \"json/cloudtrail\"\n{RETRY}",
                service.url, ingest.access_key_id, ingest.secret_key, ingest.source_id, ingest.host_id
            ),
        );
    let others = Others {
        _logstash: logstash,
        _logstash_http: logstash_http,
        http,
        syslog,
        _collector: collector,
        _ingest: service,
    };
    (others, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_log_files_arrive_at_every_destination_with_one_down_one_slow_and_one_that_refuses() {
    let queue = QueueBehaviour { shuffle: true, duplicates: 0.05, ..QueueBehaviour::default() };
    let mut bench = Bench::start_with(Setup { queue, ..Setup::default() }).await;
    bench.install_template().await;
    let config = Sink::ALL.iter().fold(Config::new(), |config, sink| config.sink(*sink, RETRY));
    let config = config.agent("memory_budget = \"192MiB\"");
    let (others, config) = others(&mut bench, config).await;
    #[cfg(feature = "parquet")]
    let config = config.other("parquet", &format!("type = \"parquet\"\npath = \"lake\"\n{RETRY}"));

    // One refuses every hundredth event for its content, one is slow, one forgets what it had when it is reset.
    bench.elasticsearch.set_mode(Failure::RefuseEvery(100));
    bench.sumo_logic.set_mode(Mode { delay_ms: 300, ..Mode::default() });
    others.syslog.set_mode(SyslogMode {
        reset_after: Some(5_000),
        forgets: true,
        resets: Some(2),
        ..SyslogMode::default()
    });
    let mut generator = Generator::new(41);
    let sizes: Vec<usize> = (0..FILES).map(|file| generator.draw_file_size(file).min(EVENTS_MAX)).collect();
    let third = sizes.len() / 3;
    let mut agent = bench.run(&config);
    let mut issued = 0;
    for (part, sizes) in sizes.chunks(third + 1).enumerate() {
        // One is down for the middle third.
        let is_down = part == 1;
        let mode: Mode = if is_down { Failure::Status(503).into() } else { Mode::default() };
        others.http.set_mode(Mode { everywhere: true, ..mode });
        issued += bench.issue_all(&mut generator, sizes.iter().copied()).await;
        if is_down {
            let has_rest = || bench.loggly.counts().stored >= issued;
            bench.until(&mut agent, "a healthy sink has everything although one is down", has_rest).await;
            assert!(others.http.counts().stored < issued);
        }
    }
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());

    #[cfg(feature = "parquet")]
    crate::parquet::testify_folder(&bench);
    let report = bench.assert_passes(&config);
    for sink in &report.sinks {
        assert_eq!(sink.lost.len(), 0, "{report}");
        let refused = sink.sink == "elasticsearch";
        assert_eq!(sink.dead_lettered > 0, refused, "{report}");
        assert_eq!(sink.stored + sink.dead_lettered, sink.issued, "{report}");
    }
    assert_eq!(others.syslog.counts().failures, 2, "it was to be reset");
}
