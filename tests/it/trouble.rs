//! Trouble with AWS that only the real binary meets: clocks, credentials, an empty queue, messages that are a week old.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use testkit::Moment;
use testkit::generate::Generator;
use testkit::http::{Request, Response, Server};

use crate::bench::{Bench, DEAD_QUEUE, QUEUE, Setup, http_client};
use crate::config::{Config, Sink};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_clock_that_is_twenty_minutes_behind_requests_are_signed_with_the_time_that_aws_names() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::Elasticsearch, Sink::File]);
    bench.advance(Duration::from_secs(20 * 60));
    bench.aws.refuse_skewed_clocks();
    bench.issue_all(&mut Generator::new(51), [20; 40]).await;
    let mut agent = bench.run(&config);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let skewed = bench.aws.skewed();
    // Until the first answers have come; then it knows.
    assert!(skewed > 0 && skewed < 40, "{skewed} requests were refused");
    bench.assert_passes(&config);
}

/// Gives out credentials as ECS does: fails at first, then what the stand-in for AWS hands out, valid for some seconds.
async fn credentials(aws: String, failures: u64, seconds: u64) -> (Server, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let handler = move |_: Request| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        let url = format!("{aws}/_testkit/credentials?seconds={seconds}");
        async move {
            if number < failures {
                return Response::text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "not now");
            }
            let body = http_client().get(url).send().await.unwrap().bytes().await.unwrap();
            Response::text(StatusCode::OK, "application/json", body)
        }
    };
    (Server::start(0, Arc::new(handler)).await.unwrap(), asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_cannot_be_had_at_first_and_expire_on_the_way_are_fetched_again() {
    let bench = Bench::start().await;
    let config = Config::of(&[Sink::Elasticsearch, Sink::File]);
    // The SDK fetches new ones ten seconds before the old ones end.
    let (server, asked) = credentials(bench.aws.url(), 2, 13).await;
    let mut generator = Generator::new(52);
    bench.issue_all(&mut generator, [20; 20]).await;
    std::fs::write(bench.path("trailship.toml"), config.text(&bench)).unwrap();
    let mut command = bench.command("run");
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v2/credentials", server.url()));
    let mut agent = bench.run_command(command);
    bench.until_quiet(&mut agent).await;
    let before = asked.load(Ordering::SeqCst);
    assert!(before > 2, "{before} times asked");
    // For AWS they are over at once, for the agent's clock not yet.
    bench.advance(Duration::from_secs(60));
    bench.issue_all(&mut generator, [20; 20]).await;
    bench.until_quiet(&mut agent).await;
    assert!(asked.load(Ordering::SeqCst) > before, "new ones were to be fetched");
    assert!(agent.stop().await.success());
    bench.assert_passes(&config);
    let keys: std::collections::BTreeSet<_> =
        bench.aws.object_requests().into_iter().filter_map(|request| request.access_key).collect();
    assert!(keys.len() >= 2, "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_queue_is_asked_once_in_twenty_seconds() {
    let bench = Bench::start().await;
    let mut agent = bench.run(&Config::of(&[Sink::File]));
    // The first request waits for a second, so that the queue is soon known to answer.
    bench.until(&mut agent, "it asks", || bench.aws.arrived("ReceiveMessage") > 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.aws.arrived("ReceiveMessage"), 2, "the second request still waits");
    // What arrives meanwhile comes at once all the same.
    bench.issue_all(&mut Generator::new(53), [5]).await;
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_that_comes_back_from_the_dead_letter_queue_after_a_week_is_shipped() {
    let bench = Bench::start_with(Setup { receives_max: 1, ..Setup::default() }).await;
    let config = Config::of(&[Sink::Elasticsearch, Sink::File]);
    bench.issue_all(&mut Generator::new(54), [20]).await;
    let mut agent = bench.run(&config);
    bench.aws.act_at("GetObject", Moment::Arrived, 0, agent.killer());
    assert!(!agent.ended().await.success(), "it was to be killed");
    bench.ledger.crash();
    bench.advance(Duration::from_secs(301));
    let mut agent = bench.run(&config);
    bench.until(&mut agent, "the queue has given up on it", || bench.dead_messages() == 1).await;
    let bodies = bench.aws.queue(DEAD_QUEUE).bodies();

    // A week later somebody moves the message back.
    bench.advance(Duration::from_secs(7 * 24 * 3600));
    bodies.iter().for_each(|body| drop(bench.aws.queue(QUEUE).send(body).unwrap()));
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sinks.iter().all(|sink| sink.stored == 20), "{report}");
}
