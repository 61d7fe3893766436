//! Secrets that are kept outside of the configuration: read at the start, and again when they have been replaced.

use std::fs;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use http::StatusCode;
use testkit::aws::{AwsFault, FaultRule};
use testkit::destinations::LogglyOptions;
use testkit::generate::Generator;
use testkit::http::{Handler, Request, Response, Server};

use crate::bench::{Bench, Setup, http_client};
use crate::config::{Config, Sink};

const SECRET: &str = "arn:aws:secretsmanager:us-east-1:111122223333:secret:trailship/search-AbCdEf";
const PARAMETER: &str = "/trailship/loggly";

/// Stands before Elasticsearch and lets only those in who have the key of the day.
struct Gate {
    key: Mutex<String>,
    target: String,
    target_key: String,
}

impl Gate {
    async fn before(bench: &Bench, key: &str) -> (Arc<Self>, Server) {
        let gate = Arc::new(Self {
            key: Mutex::new(key.to_owned()),
            target: bench.elasticsearch.url.clone(),
            target_key: bench.secrets.api_key.clone(),
        });
        let server = Server::start(0, gate.clone()).await.unwrap();
        (gate, server)
    }

    fn change(&self, key: &str) {
        *self.key.lock().unwrap() = key.to_owned();
    }
}

impl Handler for Gate {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        let wanted = format!("ApiKey {}", self.key.lock().unwrap());
        Box::pin(async move {
            if request.header("authorization") != Some(wanted.as_str()) {
                let error = serde_json::json!({ "status": 401, "error": {
                    "type": "security_exception", "reason": "unable to authenticate with provided credentials" } });
                return Response::json(StatusCode::UNAUTHORIZED, &error);
            }
            let url = format!("{}{}?{}", self.target, request.path, request.query);
            let mut forward = http_client().request(request.method.clone(), url).body(request.body.clone());
            for name in ["content-type", "content-encoding"] {
                if let Some(value) = request.header(name) {
                    forward = forward.header(name, value);
                }
            }
            let answer = forward.header("authorization", format!("ApiKey {}", self.target_key)).send().await;
            let answer = answer.unwrap();
            let status = answer.status();
            Response::text(status, "application/json", answer.bytes().await.unwrap())
        })
    }
}

/// A configuration in which Elasticsearch lies behind the gate and has this key.
fn text(bench: &Bench, config: &Config, gate: &Server, key: &str) -> String {
    let aws = bench.aws.url();
    let own = format!("api_key = \"{}\"", bench.secrets.api_key);
    let text = config.text(bench).replace(&bench.elasticsearch.url, &gate.url());
    assert!(text.contains(&own));
    text.replace(&own, &format!("api_key = {key}")).replace(
        "endpoints = { s3",
        &format!("endpoints = {{ secrets_manager = \"{aws}\", ssm = \"{aws}\", s3"),
    )
}

const SOON: &str = "retry = { initial = \"50ms\", max = \"200ms\" }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_that_is_replaced_is_read_again_and_delivery_goes_on() {
    let bench = Bench::start().await;
    let (gate, server) = Gate::before(&bench, "Zmlyc3Q=").await;
    fs::write(bench.path("key"), "Zmlyc3Q=\n").unwrap();
    let config = Config::new().sink(Sink::Elasticsearch, SOON).sink(Sink::File, "");
    let mut agent = bench.run_text(&text(&bench, &config, &server, "{ file = \"key\" }"));
    let mut generator = Generator::new(91);
    bench.issue_all(&mut generator, [20; 5]).await;
    bench.until_quiet(&mut agent).await;
    for key in ["c2Vjb25k", "dGhpcmQ="] {
        // The second time, the half minute in which nothing is read again has to pass first.
        fs::write(bench.path("key"), key).unwrap();
        gate.change(key);
        bench.issue_all(&mut generator, [20; 5]).await;
        bench.until_quiet(&mut agent).await;
    }
    assert!(!agent.coded("sink_denied").is_empty());
    assert_eq!(agent.coded("secrets_read_again").len(), 2);
    assert!(agent.stop().await.success());
    assert!(!agent.log().text().contains("c2Vjb25k"));
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == 300), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_aws_keeps_is_read_at_the_start_and_again_once_it_has_changed() {
    let bench = Bench::start().await;
    let (gate, server) = Gate::before(&bench, "Zmlyc3Q=").await;
    let put = |key: &str| bench.aws.put_secret(SECRET, &format!("{{\"user\":\"x\",\"api_key\":\"{key}\"}}"));
    put("Zmlyc3Q=");
    bench.aws.put_parameter(PARAMETER, &bench.secrets.loggly);
    // Both services have a bad moment.
    bench.aws.inject(FaultRule { times: Some(2), ..FaultRule::new("GetSecretValue", AwsFault::Throttle) });
    bench.aws.inject(FaultRule { times: Some(1), ..FaultRule::new("GetParameter", AwsFault::InternalError) });
    let config = Config::new().sink(Sink::Elasticsearch, SOON).sink(Sink::Loggly, SOON);
    let key = format!("{{ secrets_manager = \"{SECRET}\", key = \"api_key\" }}");
    let text = text(&bench, &config, &server, &key);
    let token = format!("token = \"{}\"", bench.secrets.loggly);
    assert!(text.contains(&token));
    let mut agent = bench.run_text(&text.replace(&token, &format!("token = {{ ssm = \"{PARAMETER}\" }}")));
    let mut generator = Generator::new(92);
    bench.issue_all(&mut generator, [20; 5]).await;
    bench.until_quiet(&mut agent).await;
    assert_eq!((bench.aws.secret_reads(SECRET), bench.aws.secret_reads(PARAMETER)), (1, 1));
    put("c2Vjb25k");
    gate.change("c2Vjb25k");
    bench.issue_all(&mut generator, [20; 5]).await;
    bench.until_quiet(&mut agent).await;
    assert_eq!((bench.aws.secret_reads(SECRET), bench.aws.secret_reads(PARAMETER)), (2, 1));
    assert!(agent.stop().await.success());
    let text = agent.log().text();
    assert!(!text.contains("c2Vjb25k") && !text.contains(&bench.secrets.loggly));
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == 200), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_cannot_be_read_is_named_with_its_key_and_the_remedy() {
    let bench = Bench::start().await;
    let (_gate, server) = Gate::before(&bench, "x").await;
    let config = Config::of(&[Sink::Elasticsearch, Sink::File]);
    let key = format!("{{ secrets_manager = \"{SECRET}\", key = \"api_key\" }}");
    fs::write(bench.path("trailship.toml"), text(&bench, &config, &server, &key)).unwrap();
    let said = |name: &str, arguments: &[&str]| {
        let output = bench.command(name).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let expected =
        format!("sinks.elasticsearch.api_key: the member api_key of the secret {SECRET} cannot be read: ");
    let (code, text) = said("run", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&expected) && text.contains("see its name, and the region"), "{text}");
    let (code, text) = said("check", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("FAILED  {expected}")), "{text}");
    assert!(text.contains("FAILED  sinks.elasticsearch: not asked"), "{text}");
    assert!(text.contains("ok      sinks.file:"), "the others are asked all the same: {text}");
    // Without asking anybody all that can be told is told.
    assert_eq!(said("check", &["--offline"]).0, Some(0));
    // What it holds is checked as if it stood in the file, and not shown.
    bench.aws.put_secret(SECRET, "{\"api_key\":\"bro\\nken\"}");
    let (code, text) = said("run", &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("control character") && !text.contains("bro"), "{text}");
    bench.aws.inject(FaultRule::new("GetSecretValue", AwsFault::Forbidden));
    let (code, text) = said("run", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("allow secretsmanager:GetSecretValue"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loggly_token_that_was_replaced_is_read_again_whatever_the_old_one_is_answered() {
    for status in [400, 403] {
        let loggly = LogglyOptions { wrong_token_status: status, ..LogglyOptions::default() };
        let bench = Bench::start_with(Setup { loggly, ..Setup::default() }).await;
        fs::write(bench.path("token"), "0000-replaced").unwrap();
        let table = format!(
            "type = \"loggly\"\nendpoint = {:?}\ntoken = {{ file = \"token\" }}\n{SOON}",
            bench.loggly.url
        );
        let config = Config::new().other("loggly", &table);
        let mut agent = bench.run(&config);
        agent.page("/livez").await;
        fs::write(bench.path("token"), &bench.secrets.loggly).unwrap();
        bench.issue_all(&mut Generator::new(93), [20; 5]).await;
        bench.until_quiet(&mut agent).await;
        assert_eq!(agent.coded("secrets_read_again").len(), 1, "{status}");
        assert_eq!(bench.letters(), Vec::<serde_json::Value>::new(), "{status}");
        assert!(agent.stop().await.success());
        let report = bench.assert_passes(&config);
        assert_eq!(report.sinks[0].stored, 100, "{report}");
    }
}
