//! Marked secrets: of every kind, at every destination, through every kind of failure. Then all that was written is
//! searched for them.

mod echo;
mod marks;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::aws::{AwsFault, FaultRule};
use testkit::destinations::{
    AlertLogic, AlertLogicOptions, Auth, Destination, Elasticsearch, ElasticsearchOptions, Failure, HttpAny,
    HttpAnyOptions, LogglyOptions, Logstash, LogstashHttp, LogstashHttpOptions, LogstashOptions, Mode,
    SplunkHecOptions, SumoLogicOptions,
};
use testkit::generate::Generator;
use testkit::http::Server;
use testkit::tls::{AUTHORITY_PEM, CLIENT_KEY, CLIENT_PEM};

use self::echo::Echo;
use self::marks::{KINDS, Search, mark, password, password_in_url};
use crate::agent::Agent;
use crate::bench::{Bench, QUEUE, Setup, http_client};
use crate::splunk::tls_before;

const ROLE: &str = "arn:aws:iam::111122223333:role/reader";
const SECRET: &str = "arn:aws:secretsmanager:us-east-1:111122223333:secret:trailship/search-AbCdEf";
const PARAMETER: &str = "/trailship/splunk";
/// Files that hold secrets because the test put them there.
const OWN_FILES: [&str; 5] = ["trailship.toml", "password", "ca.pem", "client.pem", "client.key"];
/// Lines of `[agent]` for a log that people read.
const TEXT_LINES: &str = "log_format = \"text\"\nlog_level = \"debug\"";
/// Sinks that a failure can be set for.
const SINKS: [&str; 9] = [
    "elasticsearch",
    "es_basic",
    "es_bearer",
    "splunk_hec",
    "loggly",
    "sumo_logic",
    "http",
    "logstash_http",
    "alert_logic_ingest",
];

/// Everything that one test runs against.
struct World {
    bench: Bench,
    es_basic: Elasticsearch,
    es_bearer: Elasticsearch,
    http: HttpAny,
    logstash_http: LogstashHttp,
    alert_logic: AlertLogic,
    logstash: Logstash,
    /// The port where TLS is spoken before Logstash.
    logstash_port: u16,
    search: Search,
}

impl World {
    async fn start() -> Self {
        let secrets = Setup {
            elasticsearch: ElasticsearchOptions {
                auth: Auth::ApiKey(mark("es-key")),
                ..ElasticsearchOptions::default()
            },
            splunk_hec: SplunkHecOptions { token: mark("splunk"), ..SplunkHecOptions::default() },
            loggly: LogglyOptions { token: mark("loggly"), ..LogglyOptions::default() },
            sumo_logic: SumoLogicOptions { code: mark("sumo"), ..SumoLogicOptions::default() },
            ..Setup::default()
        };
        let bench = Bench::start_with(secrets).await;
        let ledger = || Arc::clone(&bench.ledger);
        let search = |name: &str, auth| ElasticsearchOptions {
            sink: name.to_owned(),
            auth,
            ..ElasticsearchOptions::default()
        };
        let pair = STANDARD.encode(format!("me:{}", password("es-password")));
        let any = HttpAnyOptions {
            prefix: format!("/in/{}/", mark("http-path")),
            header: Some(("x-api-key".to_owned(), mark("http-header"))),
            ..HttpAnyOptions::default()
        };
        let user = Some(("me".to_owned(), password("logstash-http")));
        let beats = LogstashHttpOptions { user, ..LogstashHttpOptions::default() };
        let ingest = AlertLogicOptions { secret_key: mark("alert-logic"), ..AlertLogicOptions::default() };
        let logstash = Logstash::start(ledger(), LogstashOptions::default()).await.unwrap();
        let key_line = CLIENT_KEY.lines().nth(1).unwrap();
        let role = [("role's key", "testkit-secret"), ("role's token", "testkit-token")];
        let search_for = Search::new(&[("client key", key_line), role[0], role[1]]);
        bench.aws.require_external_id(ROLE, &mark("external-id"));
        bench.aws.put_secret(SECRET, &format!("{{\"token\":\"{}\"}}", mark("es-bearer")));
        bench.aws.put_parameter(PARAMETER, &mark("splunk"));
        for (name, text) in [
            ("password", &*password("es-password")),
            ("ca.pem", AUTHORITY_PEM),
            ("client.pem", CLIENT_PEM),
            ("client.key", CLIENT_KEY),
        ] {
            fs::write(bench.path(name), text).unwrap();
        }
        Self {
            es_basic: Elasticsearch::start(ledger(), search("es_basic", Auth::Basic(pair))).await.unwrap(),
            es_bearer: Elasticsearch::start(ledger(), search("es_bearer", Auth::Bearer(mark("es-bearer"))))
                .await
                .unwrap(),
            http: HttpAny::start(ledger(), any).await.unwrap(),
            logstash_http: LogstashHttp::start(ledger(), beats).await.unwrap(),
            alert_logic: AlertLogic::start(ledger(), ingest).await.unwrap(),
            logstash_port: tls_before(logstash.endpoint.trim_start_matches("tcp://")).await,
            logstash,
            search: search_for,
            bench,
        }
    }

    /// The stand-ins in the order of [`SINKS`].
    fn destinations(&self) -> [&Destination; 9] {
        [
            &self.bench.elasticsearch,
            &self.es_basic,
            &self.es_bearer,
            &self.bench.splunk_hec,
            &self.bench.loggly,
            &self.bench.sumo_logic,
            &self.http,
            &self.logstash_http,
            &self.alert_logic,
        ]
    }

    /// The addresses of the stand-ins, by sink.
    fn addresses(&self) -> BTreeMap<&'static str, String> {
        SINKS.into_iter().zip(self.destinations().map(|it| it.url.clone())).collect()
    }

    /// The document with the sinks at these addresses and AWS at that one, with every kind of secret in it.
    #[allow(clippy::too_many_lines, reason = "it is one document")]
    fn text(&self, agent: &str, aws: &str, at: &BTreeMap<&'static str, String>) -> String {
        let (queue, password) = (self.bench.aws.queue(QUEUE).url(), password("logstash-http"));
        let queue = queue.replace(&self.bench.aws.url(), aws);
        let proxy = at["es_bearer"].replace("://", &format!("://me:{}@", mark("es-proxy")));
        let ingest_proxy =
            at["alert_logic_ingest"].replace("://", &format!("://me:{}@", mark("alert-logic-proxy")));
        let lines =
            "timeout = \"1s\"\nconnect_timeout = \"1s\"\nretry = { initial = \"20ms\", max = \"100ms\" }";
        let ingest = AlertLogicOptions::default();
        format!(
            r#"
[agent]
listen = "127.0.0.1:0"
state_dir = "state"
shutdown_grace = "4s"
memory_budget = "192MiB"
admin_token = "{admin}"
{agent}
[aws]
region = "us-east-1"
endpoints = {{ s3 = "{aws}", sqs = "{aws}", sts = "{aws}", secrets_manager = "{aws}", ssm = "{aws}" }}
[aws.reader]
assume_role = {{ arn = "{ROLE}", external_id = "{external_id}" }}
[sources.trail]
type = "sqs"
queue_url = "{queue}"
buckets = [{{ name = "trail", owner = "111122223333", aws = "reader" }}]
[sources.local]
type = "directory"
path = "in"
[dead_letter]
type = "file"
path = "dead-letters.ndjson"
[sinks.elasticsearch]
type = "elasticsearch"
endpoints = ["{es}"]
api_key = "${{ES_KEY}}"
{lines}
[sinks.es_basic]
type = "elasticsearch"
endpoints = ["{es_basic}"]
username = "me"
password = {{ file = "password" }}
{lines}
[sinks.es_bearer]
type = "elasticsearch"
endpoints = ["http://search.invalid"]
allow_plaintext = true
proxy = "{proxy}"
bearer_token = {{ secrets_manager = "{SECRET}", key = "token" }}
{lines}
[sinks.splunk_hec]
type = "splunk_hec"
endpoints = ["{splunk}"]
token = {{ ssm = "{PARAMETER}" }}
{lines}
[sinks.loggly]
type = "loggly"
endpoint = "{loggly}"
tokens = ["{loggly_token}", "{loggly_token_2}"]
{lines}
[sinks.sumo_logic]
type = "sumo_logic"
url = "{sumo}"
{lines}
[sinks.http]
type = "http"
url = "{http}/in/{http_path}/{{account}}"
headers = {{ x-api-key = "{http_header}" }}
bearer_token = "${{HTTP_BEARER}}"
{lines}
[sinks.logstash_http]
type = "logstash_http"
endpoints = ["{logstash_http}"]
username = "me"
password = '{password}'
{lines}
[sinks.alert_logic_ingest]
type = "alert_logic_ingest"
endpoint = "http://alert-logic.invalid"
allow_plaintext = true
proxy = "{ingest_proxy}"
access_key_id = "{access_key_id}"
secret_key = "{alert_logic_key}"
source_id = "{source_id}"
host_id = "{host_id}"
message_type = "json/cloudtrail"
{lines}
[sinks.logstash]
type = "logstash"
endpoints = ["tls://localhost:{logstash_port}"]
tls = {{ ca_file = "ca.pem", cert_file = "client.pem", key_file = "client.key" }}
{lines}
[sinks.file]
type = "file"
path = "out/events.ndjson"
"#,
            admin = mark("admin"),
            external_id = mark("external-id"),
            es = at["elasticsearch"],
            es_basic = at["es_basic"],
            splunk = at["splunk_hec"],
            loggly = at["loggly"],
            loggly_token = mark("loggly"),
            loggly_token_2 = mark("loggly-2"),
            sumo = self.bench.sumo_logic.source_url().replace(&self.bench.sumo_logic.url, &at["sumo_logic"]),
            http = at["http"],
            http_path = mark("http-path"),
            http_header = mark("http-header"),
            logstash_http = at["logstash_http"],
            alert_logic_key = mark("alert-logic"),
            access_key_id = ingest.access_key_id,
            source_id = ingest.source_id,
            host_id = ingest.host_id,
            logstash_port = self.logstash_port,
        )
    }

    /// A command of the binary with the secrets that come from the environment.
    fn command(&self, name: &str, text: &str) -> Command {
        fs::write(self.bench.path("trailship.toml"), text).unwrap();
        fs::create_dir_all(self.bench.path("in")).unwrap();
        let mut command = self.bench.command(name);
        for (variable, kind) in [
            ("AWS_SECRET_ACCESS_KEY", "aws-key"),
            ("AWS_SESSION_TOKEN", "aws-session"),
            ("ES_KEY", "es-key"),
            ("HTTP_BEARER", "http-bearer"),
        ] {
            command.env(variable, mark(kind));
        }
        command
    }

    /// Runs a command to its end and searches what it said; its exit status and that.
    #[track_caller]
    fn search_output(&self, command: &mut Command) -> (Option<i32>, String) {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        self.search.assert_clean(&format!("{command:?}"), &text);
        (output.status.code(), text)
    }

    /// The document with the secrets in it that AWS keeps otherwise.
    fn without_remote_secrets(&self, text: &str) -> String {
        let elsewhere = format!("{{ secrets_manager = \"{SECRET}\", key = \"token\" }}");
        text.replace(&elsewhere, &format!("\"{}\"", mark("es-bearer")))
            .replace(&format!("{{ ssm = \"{PARAMETER}\" }}"), &format!("\"{}\"", mark("splunk")))
    }

    /// Runs the agent until `echo` has been asked 120 times more, and searches all that was written.
    async fn run_before(&self, echo: &Server, text: &str, environment: &[(&str, &str)]) {
        let mut child = self
            .command("run", text)
            .envs(environment.iter().copied())
            .stdout(File::create(self.bench.path("stdout")).unwrap())
            .stderr(File::create(self.bench.path("stderr")).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let before = echo.requests();
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        while echo.requests() < before + 120 && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(echo.requests() > before, "nothing came to who repeats");
        let log = fs::read_to_string(self.bench.path("stderr")).unwrap();
        assert!(log.contains("receive_failed") || log.contains("WARN"), "{log}");
        assert!(self.search_files() > 0);
    }

    /// Searches everything that the agent serves.
    async fn search_pages(&self, agent: &Agent) {
        let address = address_of(&agent.log().text());
        for page in ["/metrics", "/status", "/readyz", "/", "/nothing"] {
            let answer = http_client().get(format!("{address}{page}")).send().await.unwrap();
            self.search.assert_clean(page, &answer.text().await.unwrap());
        }
    }

    /// Searches every file that is not the test's own.
    fn search_files(&self) -> usize {
        self.search.assert_folder_clean(&self.bench.path(""), &OWN_FILES)
    }
}

/// Where the agent's pages are, from its log in either format.
fn address_of(log: &str) -> String {
    let at = log.find("http://127.0.0.1:").unwrap_or_else(|| panic!("no address in {log}"));
    log[at..].split(['/', '"', ' ', '\n']).nth(2).map(|host| format!("http://{host}")).unwrap()
}

/// Faults of AWS that pass, one after the other.
const AWS_FAULTS: [AwsFault; 12] = [
    AwsFault::Throttle,
    AwsFault::InternalError,
    AwsFault::NotFound,
    AwsFault::Forbidden,
    AwsFault::KmsDenied,
    AwsFault::ExpiredToken,
    AwsFault::ClockSkew,
    AwsFault::Refuse,
    AwsFault::LoseAnswer,
    AwsFault::Truncate { bytes: None },
    AwsFault::Garbage,
    AwsFault::WrongChecksum,
];

/// From here on they are such that AWS has done what it was asked.
const UNANSWERED: usize = 8;

fn failures() -> Vec<Failure> {
    let statuses = [400, 401, 403, 404, 408, 413, 418, 429, 500, 503].map(Failure::Status);
    let others = [
        Failure::RefuseAll,
        Failure::Code(4),
        Failure::Code(9),
        Failure::ReadOnly(403),
        Failure::ItemsThrottled(1.0),
        Failure::PartlyStored,
        Failure::ShortAnswer,
        Failure::Garbage,
        Failure::AnswerLost,
        Failure::HalfAnswer,
        Failure::Hangup,
        Failure::Reset,
        Failure::NeverAnswer,
    ];
    statuses.into_iter().chain(others).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_marked_secret_is_written_anywhere_whatever_destinations_and_aws_do() {
    let world = World::start().await;
    let bench = &world.bench;
    let agent_lines = "log_format = \"json\"\nlog_level = \"trace\"";
    let text = world.text(agent_lines, &bench.aws.url(), &world.addresses());
    let mut agent = bench.run_command(world.command("run", &text));
    let mut generator = Generator::new(83);
    for (number, failure) in failures().into_iter().enumerate() {
        let destinations = world.destinations();
        let before: Vec<u64> = destinations.iter().map(|it| it.counts().failures).collect();
        let mode = Mode { everywhere: true, ..failure.clone().into() };
        destinations.iter().for_each(|it| it.set_mode(mode.clone()));
        world.logstash.set_mode(mode.clone());
        if let Some(fault) = AWS_FAULTS.get(number) {
            // A message that was received, and its answer lost, would not be seen again for five minutes.
            let receives = (number < UNANSWERED).then_some("ReceiveMessage");
            for operation in ["GetObject", "DeleteMessageBatch", "AssumeRole"].into_iter().chain(receives) {
                bench.aws.inject(FaultRule::new(operation, *fault).times(2));
            }
        }
        bench.issue(&generator.log_file(2));
        let failed = || destinations.iter().zip(&before).all(|(it, before)| it.counts().failures > *before);
        bench.until(&mut agent, &format!("{failure:?} has happened everywhere"), failed).await;
        world.search_pages(&agent).await;
        destinations.iter().for_each(|it| it.set_mode(Mode::default()));
        world.logstash.set_mode(Mode::default());
        bench.until_quiet(&mut agent).await;
    }
    // One event that nobody takes, one log file that nobody can read.
    let sample = generator.log_file(3);
    let bad = sample.issued[1].event_id.clone().unwrap();
    world.destinations().iter().for_each(|it| it.set_mode(Failure::RefuseContaining(bad.clone())));
    bench.issue(&sample);
    bench.aws.put_object(crate::bench::BUCKET, &generator.log_file(1).key, "no log file").unwrap();
    // The others have no refusal that names an event.
    let refused = || world.destinations()[..6].iter().all(|it| it.counts().refused > 0);
    bench.until(&mut agent, "all have refused it", refused).await;
    // Where nothing else was accepted after it, it waits for a witness, and for another if it was refused once more.
    for _ in 0..60 {
        bench.issue(&generator.log_file(3));
        tokio::time::sleep(Duration::from_millis(500)).await;
        if bench.messages() == 0 {
            break;
        }
    }
    bench.until_quiet(&mut agent).await;
    world.search_pages(&agent).await;
    assert!(agent.stop().await.success());
    let log = agent.log().text();
    for code in ["sink_denied", "sink_failing", "event_dead_lettered", "log_file_dead_lettered"] {
        assert!(log.contains(code), "{code} is not in the log");
    }
    // The log, the dead letters, the events, what is remembered of the folder.
    assert!(world.search_files() >= 3);
    let (code, _) = world.search_output(&mut world.command("redrive", &text));
    assert_eq!(code, Some(1), "the log file that cannot be read stays");
}

/// A port that nobody listens on; a peer that is not trusted; one that repeats what it was sent.
async fn bad_addresses(world: &World, echo: &Server) -> Vec<(&'static str, String)> {
    let tls = tls_before(world.bench.loggly.url.trim_start_matches("http://")).await;
    vec![
        ("nobody", "http://127.0.0.1:1".to_owned()),
        ("no such name", "https://nowhere.invalid".to_owned()),
        ("not trusted", format!("https://localhost:{tls}")),
        ("TLS where there is none", world.bench.loggly.url.replace("http://127.0.0.1", "https://localhost")),
        ("echo", echo.url()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_marked_secret_is_written_where_peers_are_absent_untrusted_or_repeat_the_request() {
    let world = World::start().await;
    let bench = &world.bench;
    let echo = Server::start(0, Arc::new(Echo::default())).await.unwrap();
    bench.issue_all(&mut Generator::new(84), [5; 3]).await;
    for (number, (name, url)) in bad_addresses(&world, &echo).await.into_iter().enumerate() {
        let format = if number % 2 == 0 { "text" } else { "json" };
        let lines = format!("log_format = \"{format}\"\nlog_level = \"debug\"");
        let at = SINKS.into_iter().map(|sink| (sink, url.clone())).collect();
        let text = world.text(&lines, &bench.aws.url(), &at);
        let mut agent = bench.run_command(world.command("run", &text));
        let before = echo.requests();
        let all_fail = |log: &str| {
            let lines =
                || log.lines().filter(|line| line.contains("sink_failing") || line.contains("sink_denied"));
            let is_of = |line: &str, sink: &str| {
                line.contains(&format!("sink={sink} ")) || line.contains(&format!("\"sink\":\"{sink}\""))
            };
            SINKS.iter().all(|sink| lines().any(|line| is_of(line, sink)))
        };
        let what = format!("all sinks fail where there is {name}");
        // The one that answers is asked for every kind of answer that it has.
        let told =
            || all_fail(&agent_log(bench, number)) && (name != "echo" || echo.requests() > before + 300);
        bench.until(&mut agent, &what, told).await;
        world.search_pages(&agent).await;
        assert!(agent.stop().await.success());
        // As a command that asks everything once, and as one that shows what is in effect.
        world.search_output(world.command("check", &text).args(["--print", "--send-test-event"]));
        world.search_files();
    }
}

fn agent_log(bench: &Bench, number: usize) -> String {
    fs::read_to_string(bench.path(&format!("agent-{}.log", number + 1))).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_marked_secret_is_written_where_aws_itself_repeats_the_request() {
    let world = World::start().await;
    let echo = Server::start(0, Arc::new(Echo::default())).await.unwrap();
    let text = world.text(TEXT_LINES, &echo.url(), &world.addresses());
    // What AWS keeps cannot be read: that is said, and no more.
    let (code, _) = world.search_output(&mut world.command("run", &text));
    assert_eq!(code, Some(1));
    world.search_output(world.command("check", &text).arg("--print"));
    world.run_before(&echo, &world.without_remote_secrets(&text), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_marked_secret_is_written_where_a_proxy_of_the_environment_or_of_aws_repeats_the_request() {
    let world = World::start().await;
    let echo = Server::start(0, Arc::new(Echo::default())).await.unwrap();
    let through = |kind| echo.url().replace("://", &format!("://me:{}@", password_in_url(kind)));
    let text = world.text(TEXT_LINES, &world.bench.aws.url(), &world.addresses());
    let text = world.without_remote_secrets(&text);
    // As every client reads it: with a scheme or without.
    let bare = through("env-proxy").replace("http://", "");
    let proxies = [("HTTP_PROXY", through("env-proxy")), ("http_proxy", bare.clone()), ("ALL_PROXY", bare)];
    for (variable, proxy) in &proxies {
        let environment = [(*variable, proxy.as_str())];
        world.search_output(world.command("check", &text).arg("--print").envs(environment));
        world.run_before(&echo, &text, &environment).await;
    }
    let text = text.replace("[aws]", &format!("[aws]\nproxy = \"{}\"", through("aws-proxy")));
    world.search_output(world.command("check", &text).arg("--print"));
    world.run_before(&echo, &text, &[]).await;
}

/// One wrong way after the other to write the line of each secret.
fn mistakes(line: &str) -> Vec<String> {
    let (key, value) = line.split_once(" = ").unwrap();
    vec![
        format!("{key}x = {value}"),
        format!("{key} = [[{value}]]"),
        format!("{key} = {{ fil = {value} }}"),
        format!("{key} = {{ secrets_manager = {value}, ssm = {value} }}"),
        format!("{key} = {value} {value}"),
        format!("{key} = {}", value.trim_end_matches(['"', '\'', ']', '}', ' '])),
        format!("{key} = {}\\u0001\"", value.trim_end_matches(['"', '\'', ']', '}', ' '])),
        format!("{line}\n{line}"),
        format!("{key} = {value}\n{value}"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_marked_secret_is_written_in_what_is_said_of_a_wrong_configuration() {
    let world = World::start().await;
    let text = world.text("", &world.bench.aws.url(), &world.addresses());
    let marked = |line: &&str| KINDS.iter().any(|kind| line.contains(&mark(kind)));
    let lines: Vec<&str> = text.lines().filter(marked).collect();
    assert!(lines.len() >= 8, "{lines:?}");
    let mut refused = 0;
    for line in lines {
        for wrong in mistakes(line) {
            let text = text.replace(line, &wrong);
            let (code, said) =
                world.search_output(world.command("check", &text).args(["--offline", "--print"]));
            assert!(code == Some(2) || code == Some(0), "{said}");
            refused += usize::from(code == Some(2));
        }
    }
    assert!(refused > 60, "{refused}");
    // From the environment: as it stands, in a key that is none, of a type that is wrong.
    for (variable, value) in [
        ("ES_KEY", format!("{}\n", mark("es-key"))),
        ("TRAILSHIP__SINKS__LOGGLY__TOKENS", format!("[[\"{}\"]]", mark("loggly"))),
        ("TRAILSHIP__SINKS__LOGGLY__TOKENS", format!("[\"{}", mark("loggly"))),
        ("TRAILSHIP__AGENT__ADMIN_TOKEN", format!("{{ fil = \"{}\" }}", mark("admin"))),
        ("TRAILSHIP__SINKS__SPLUNK_HEC__TOKN", mark("splunk")),
        ("TRAILSHIP_CONFIG_TOML", format!("[agent]\nadmin_token = \"{}", mark("admin"))),
    ] {
        let mut command = world.command("check", &text);
        let (code, said) = world.search_output(command.arg("--offline").env(variable, value));
        assert_eq!(code, Some(2), "{variable}: {said}");
    }
    // A key file that is no key; a secret's file that is none.
    fs::write(world.bench.path("client.key"), format!("-----BEGIN PRIVATE KEY-----\n{}\n", mark("es-key")))
        .unwrap();
    fs::write(world.bench.path("password"), format!("{}\nsecond", mark("es-password"))).unwrap();
    world.search_output(&mut world.command("check", &text));
    world.search_output(&mut world.command("run", &text));
}
