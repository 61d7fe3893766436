//! Where a configuration comes from, and what is said of a wrong one.

use std::fs;
use std::io::BufReader;
use std::path::Path;
use std::process::Output;

use testkit::generate::Generator;
use testkit::ledger::{Additions, Ledger, QueueEvidence, SinkRule, judge};

use crate::agent::{Agent, command};
use crate::bench::Bench;
use crate::config::{Config, Sink};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_document_and_single_values_can_come_from_the_environment() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::File, Sink::Loggly]);
    // With the document's own values the sink would write elsewhere, and Loggly would refuse the token.
    let text = config.text(&bench).replace("out/events.ndjson", "elsewhere/events.ndjson");
    let text = text.replace(&bench.secrets.loggly, "${LOGGLY_TOKEN:-wrong}");
    let mut command = bench.command("run");
    command
        .env("TRAILSHIP_CONFIG_TOML", text)
        .env("TRAILSHIP__SINKS__FILE__PATH", "out/events.ndjson")
        .env("TRAILSHIP__SOURCES__TRAIL__FETCH_CONCURRENCY", "2")
        .env("LOGGLY_TOKEN", &bench.secrets.loggly);
    let mut agent = bench.run_command(command);
    bench.issue_all(&mut Generator::new(71), [10; 20]).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    bench.assert_passes(&config);
    assert!(!bench.path("elsewhere").exists() && bench.path("out/events.ndjson").exists());
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(|_| ()).unwrap()
        }
    }
}

/// Notes what the log files of a folder hold, as `gzip` and `serde_json` read them.
fn note_samples(folder: &Path, from: &Path, ledger: &Ledger) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            note_samples(&path, from, ledger);
            continue;
        }
        let file = fs::File::open(&path).unwrap();
        #[allow(clippy::disallowed_types, reason = "the samples are known, and of one member")]
        let reader = flate2::read::GzDecoder::new(file);
        #[derive(serde::Deserialize)]
        struct LogFile {
            #[serde(rename = "Records")]
            records: Vec<Box<serde_json::value::RawValue>>,
        }
        let log_file: LogFile = serde_json::from_reader(reader).unwrap();
        let key = path.strip_prefix(from).unwrap().to_str().unwrap();
        for (index, event) in log_file.records.iter().enumerate() {
            use sha2::Digest as _;
            let hash = sha2::Sha256::digest(event.get()).into();
            ledger.issue("file", key, index as u64, None, hash);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_configuration_ships_the_bundled_samples_as_it_stands() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    copy(&repository.join("samples"), &folder.path().join("samples"));
    let ledger = Ledger::new();
    note_samples(&folder.path().join("samples"), folder.path(), &ledger);
    assert!(ledger.issued() > 0);
    let mut command = command(folder.path());
    command.args(["run", "--config"]).arg(repository.join("config.example.toml"));
    // The port may be taken on the machine of the test; all else is as it stands.
    command.env("TRAILSHIP__AGENT__LISTEN", "127.0.0.1:0");
    let mut agent = Agent::start(command, folder.path(), "agent.log");
    let out = folder.path().join("out/events.ndjson");
    let lines = || fs::read(&out).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() as u64;
    while lines() < ledger.issued() {
        assert!(agent.runs(), "the agent has ended");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(agent.stop().await.success());
    ledger.read_lines("out", Additions::PLAIN, BufReader::new(fs::File::open(out).unwrap())).unwrap();
    let report = judge(&ledger, &[SinkRule::new("out")], &QueueEvidence::default());
    assert!(report.passes(), "{report}");
    assert_eq!(report.sinks[0].duplicates_with_cause(), 0, "{report}");
}

/// What a command says whose configuration is `text`.
fn run_with(text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("trailship.toml"), text).unwrap();
    command(folder.path()).arg("run").output().unwrap()
}

#[track_caller]
fn check_refused(text: &str, line: usize, parts: &[&str]) {
    let output = run_with(text);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("trailship.toml:{line}")), "line {line}: {said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_line_and_the_remedy() {
    let source = "[sources.local]\ntype = \"directory\"\npath = \"in\"\n";
    let sink = "[sinks.out]\ntype = \"file\"\npath = \"out\"\n";
    check_refused(&format!("{source}{sink}pth = \"x\"\n"), 7, &["pth", "path"]);
    check_refused(&format!("{source}[sinks.out]\ntype = \"fiel\"\n"), 5, &["sinks.out.type", "fiel", "file"]);
    check_refused(
        &format!("{source}{sink}batch = {{ max_age = \"soon\" }}\n"),
        7,
        &["sinks.out.batch.max_age", "soon", "30s"],
    );
    check_refused(
        "[sources.q]\ntype = \"sqs\"\nqueue_url = \"https://sqs.eu-west-1.amazonaws.com/111122223333/q\"\nbuckets = []\n[sinks.out]\ntype = \"console\"\n",
        4,
        &["sources.q.buckets", "name the buckets"],
    );
    check_refused(
        &format!(
            "{source}[sinks.search]\ntype = \"elasticsearch\"\nendpoints = [\"https://es.example\"]\napi_key = \"${{NOT_SET}}\"\n"
        ),
        7,
        &["NOT_SET"],
    );
}

#[test]
fn without_any_configuration_it_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path()).arg("run").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("trailship.toml"), "{said}");
}
