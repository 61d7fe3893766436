//! Peers that take for ever: an upload that stalls, an answer that comes byte by byte, a name that leads nowhere.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use testkit::destinations::{Failure, HttpAny, HttpAnyOptions};
use testkit::generate::Generator;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::bench::Bench;
use crate::config::{Config, Sink};

const PATIENCE: &str =
    "timeout = \"2s\"\nconnect_timeout = \"1s\"\nretry = { initial = \"50ms\", max = \"200ms\" }";

/// Stands before another server: at first it takes a byte of each connection now and then, so that whoever sends gets
/// stuck; opened, it lets everything through.
struct Tarpit {
    addr: SocketAddr,
    peer: SocketAddr,
    taken: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Tarpit {
    fn before(url: &str) -> io::Result<Self> {
        let peer = url.trim_start_matches("http://").parse().map_err(io::Error::other)?;
        let socket = TcpSocket::new_v4()?;
        // What the system takes in for it is as good as read: as little as can be.
        socket.set_recv_buffer_size(4096)?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(64)?;
        let (addr, taken) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(Self::swallow(listener, Arc::clone(&taken)));
        Ok(Self { addr, peer, taken, task })
    }

    async fn swallow(listener: TcpListener, taken: Arc<AtomicU64>) {
        // Dropped, it ends all connections.
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let taken = Arc::clone(&taken);
            connections.spawn(async move {
                while stream.read_u8().await.is_ok() {
                    taken.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
    }

    async fn open(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        let (listener, peer) = (TcpListener::bind(self.addr).await.unwrap(), self.peer);
        self.task = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut to) = TcpStream::connect(peer).await else { return };
                    // Who hangs up first is the sender's affair.
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stalls_and_an_answer_that_drips_end_in_time_and_hold_up_nobody() {
    let mut bench = Bench::start().await;
    let options = HttpAnyOptions { body_bytes_max: 16 << 20, ..HttpAnyOptions::default() };
    let http = Arc::new(HttpAny::start(Arc::clone(&bench.ledger), options).await.unwrap());
    let mut tarpit = Tarpit::before(&http.url).unwrap();
    let counted = Arc::clone(&http);
    bench.watch(move || counted.counts());
    // Long enough that it cannot be sent into the system's buffers as a whole.
    let upload = format!(
        "type = \"http\"\nurl = \"http://{}/\"\ncompression = \"none\"\n{PATIENCE}\n\
         batch = {{ max_bytes = \"4MiB\", max_events = 10000, max_age = \"1s\" }}",
        tarpit.addr
    );
    let config =
        Config::new().sink(Sink::Elasticsearch, PATIENCE).sink(Sink::Loggly, "").other("http", &upload);
    bench.elasticsearch.set_mode(Failure::SlowAnswer(10));
    let issued = bench.issue_all(&mut Generator::new(64), [100; 60]).await;
    let mut agent = bench.run(&config);
    let healthy = || bench.loggly.counts().stored >= issued;
    bench.until(&mut agent, "the healthy sink has everything", healthy).await;
    for sink in ["elasticsearch", "http"] {
        let timeouts = format!("trailship_sink_errors_total{{class=\"timeout\",sink=\"{sink}\"}}");
        while agent.metric(&timeouts).await < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(tarpit.taken.load(Ordering::SeqCst) > 0 && http.counts().stored == 0);
    assert_eq!(bench.messages(), 60, "nothing is acknowledged");

    tarpit.open().await;
    bench.elasticsearch.set_mode(Failure::None);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    let report = bench.assert_passes(&config);
    assert!(report.sink("elasticsearch").unwrap().conflicts > 0, "what was stored was sent again: {report}");
    assert!(report.sinks.iter().all(|sink| sink.stored == sink.issued), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_whose_name_leads_nowhere_holds_up_nobody_and_gets_everything_at_the_right_one() {
    let mut bench = Bench::start().await;
    let http = Arc::new(HttpAny::start(Arc::clone(&bench.ledger), HttpAnyOptions::default()).await.unwrap());
    let counted = Arc::clone(&http);
    bench.watch(move || counted.counts());
    // No name ends in `.invalid`: https://www.rfc-editor.org/rfc/rfc6761#section-6.4
    let table = format!("type = \"http\"\nurl = \"{}/\"\n{PATIENCE}", http.url);
    let config = Config::of(&[Sink::Loggly, Sink::File]).other("http", &table);
    let config = config.agent("shutdown_grace = \"4s\"");
    let text = config.text(&bench);
    let issued = bench.issue_all(&mut Generator::new(65), [20; 30]).await;
    let mut agent = bench.run_text(&text.replace(&http.url, "https://nowhere.invalid"));
    let log = agent.log();
    let failing = || log.coded("sink_failing").iter().any(|line| line["sink"] == "http");
    let healthy = || bench.loggly.counts().stored >= issued && failing();
    bench.until(&mut agent, "the healthy sink has everything, and the log names the other", healthy).await;
    assert_eq!(bench.messages(), 30, "nothing is acknowledged");
    assert_eq!(agent.page("/livez").await.0, 200);
    assert!(agent.stop().await.success());

    // The name leads to where it should, without a new configuration file: the address alone has changed.
    let mut agent = bench.run_text(&text);
    bench.until_quiet(&mut agent).await;
    assert!(agent.stop().await.success());
    bench.assert_passes(&config);
}
