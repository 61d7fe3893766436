//! All stand-ins in one process of their own, for a harness that kills the agent and not them.

use std::fs;
use std::future::Future;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Destination, Elasticsearch, ElasticsearchOptions, HttpAny, HttpAnyOptions, Loggly, LogglyOptions,
    Logstash, LogstashHttp, LogstashHttpOptions, LogstashOptions, SplunkHec, SplunkHecOptions, SumoLogic,
    SumoLogicOptions,
};
use crate::ledger::Ledger;

/// One stand-in of each kind, with a ledger in common.
pub struct Destinations {
    /// What they testify.
    pub ledger: Arc<Ledger>,
    /// Elasticsearch, as `elasticsearch`.
    pub elasticsearch: Elasticsearch,
    /// Splunk HEC, as `splunk_hec`.
    pub splunk_hec: SplunkHec,
    /// Loggly, as `loggly`.
    pub loggly: Loggly,
    /// Sumo Logic, as `sumo_logic`.
    pub sumo_logic: SumoLogic,
    /// Logstash's beats input, as `logstash`.
    pub logstash: Logstash,
    /// Logstash's http input, as `logstash_http`.
    pub logstash_http: LogstashHttp,
    /// Any HTTP receiver, as `http`.
    pub http: HttpAny,
}

impl Destinations {
    /// Starts them with their default options.
    ///
    /// # Errors
    /// Where a port cannot be bound.
    pub async fn start(ledger: Arc<Ledger>) -> io::Result<Self> {
        Ok(Self {
            elasticsearch: Elasticsearch::start(Arc::clone(&ledger), ElasticsearchOptions::default()).await?,
            splunk_hec: SplunkHec::start(Arc::clone(&ledger), SplunkHecOptions::default()).await?,
            loggly: Loggly::start(Arc::clone(&ledger), LogglyOptions::default()).await?,
            sumo_logic: SumoLogic::start(Arc::clone(&ledger), SumoLogicOptions::default()).await?,
            logstash: Logstash::start(Arc::clone(&ledger), LogstashOptions::default()).await?,
            logstash_http: LogstashHttp::start(Arc::clone(&ledger), LogstashHttpOptions::default()).await?,
            http: HttpAny::start(Arc::clone(&ledger), HttpAnyOptions::default()).await?,
            ledger,
        })
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<&Destination> {
        vec![
            &self.elasticsearch,
            &self.splunk_hec,
            &self.loggly,
            &self.sumo_logic,
            &self.logstash,
            &self.logstash_http,
            &self.http,
        ]
    }

    /// What a sender has to know. The secrets are those of the default options.
    #[must_use]
    pub fn addresses(&self) -> Value {
        json!({
            "elasticsearch": { "url": self.elasticsearch.url },
            "splunk_hec": { "url": self.splunk_hec.url, "token": SplunkHecOptions::default().token },
            "loggly": { "url": self.loggly.url, "token": LogglyOptions::default().token },
            "sumo_logic": { "url": self.sumo_logic.source_url() },
            // Its page; windows go to the endpoint.
            "logstash": { "url": self.logstash.url, "endpoint": self.logstash.endpoint },
            "logstash_http": { "url": self.logstash_http.url, "user": LogstashHttpOptions::default().user },
            "http": { "url": self.http.url },
        })
    }

    /// Writes `<sink>.evidence.ndjson` for each into a folder.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn write_evidence(&self, folder: &Path) -> io::Result<()> {
        for destination in self.all() {
            let path = folder.join(format!("{}.evidence.ndjson", destination.sink()));
            let mut file = BufWriter::new(fs::File::create(path)?);
            self.ledger.write_evidence(destination.sink(), &mut file)?;
            file.flush()?;
        }
        Ok(())
    }
}

/// Runs them until the process is told to end (SIGINT or SIGTERM): `--dir FOLDER`.
///
/// Prints one line of JSON with their addresses when they listen, and writes it to `FOLDER/addresses.json`; at the
/// end writes each one's evidence to `FOLDER/<sink>.evidence.ndjson`.
///
/// # Errors
/// Where an argument is not understood, a port cannot be bound or a file not written.
pub async fn serve(args: impl Iterator<Item = String>) -> io::Result<()> {
    let args: Vec<String> = args.collect();
    let [flag, folder] = args.as_slice() else { return Err(usage()) };
    if flag != "--dir" {
        return Err(usage());
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let stop = async {
        tokio::select! {
            biased;
            // Without a way to hear of SIGINT there is still SIGTERM.
            Ok(()) = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    run(Path::new(folder), &mut io::stdout(), stop).await
}

fn usage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "say where to write: --dir FOLDER")
}

async fn run(folder: &Path, out: &mut impl Write, stop: impl Future<Output = ()>) -> io::Result<()> {
    let destinations = Destinations::start(Arc::new(Ledger::new())).await?;
    let addresses = destinations.addresses().to_string();
    fs::create_dir_all(folder)?;
    // A reader that waits for the file must not see half of it.
    let half = folder.join("addresses.json.new");
    fs::write(&half, &addresses)?;
    fs::rename(half, folder.join("addresses.json"))?;
    writeln!(out, "{addresses}")?;
    out.flush()?;
    stop.await;
    destinations.write_evidence(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::destinations::client::send;
    use crate::destinations::{Failure, Mode};

    #[tokio::test]
    async fn another_process_drives_them_and_gets_their_evidence() {
        let folder = std::env::temp_dir().join(format!("trailship-testkit-{}", std::process::id()));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn({
            let folder = folder.clone();
            async move {
                let mut out = Vec::new();
                let stop = async {
                    let _ = stopped.await;
                };
                run(&folder, &mut out, stop).await.map(|()| out)
            }
        });
        let path = folder.join("addresses.json");
        while !path.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let addresses: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let url = addresses["loggly"]["url"].as_str().unwrap();
        let bulk = format!("/bulk/{}/", addresses["loggly"]["token"].as_str().unwrap());
        assert_eq!(send(url, "POST", &bulk, &[], "{\"eventID\":\"e\"}\n").await.status, 200);

        let mode = Mode { requests: Some(1), ..Mode::from(Failure::Status(503)) };
        let got = send(url, "PUT", "/_testkit/mode", &[], serde_json::to_vec(&mode).unwrap()).await;
        assert_eq!(serde_json::from_value::<Mode>(got.json()).unwrap(), mode);
        assert_eq!(send(url, "PUT", "/_testkit/mode", &[], "{\"x\":1}").await.status, 400);
        assert_eq!(send(url, "GET", "/_testkit/other", &[], "").await.status, 404);
        assert_eq!(send(url, "POST", &bulk, &[], "{}\n").await.status, 503);
        assert_eq!(send(url, "POST", &bulk, &[], "{\"eventID\":\"f\"}\n").await.status, 200);
        let counts = send(url, "GET", "/_testkit/counts", &[], "").await.json();
        assert_eq!(counts["statuses"], json!({ "200": 2, "503": 1 }));
        assert_eq!((counts["stored"].as_u64(), counts["failures"].as_u64()), (Some(2), Some(1)));
        let evidence = send(url, "GET", "/_testkit/evidence", &[], "").await.body;
        assert_eq!(Ledger::new().read_evidence(evidence.as_bytes()).unwrap(), 3 + 2);

        stop.send(()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&task.await.unwrap().unwrap()).unwrap(), addresses);
        assert_eq!(fs::read_to_string(folder.join("loggly.evidence.ndjson")).unwrap(), evidence);
        fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn arguments_that_are_not_understood_are_refused() {
        for args in [&[][..], &["--dir"], &["--folder", "x"], &["--dir", "x", "y"]] {
            let error = serve(args.iter().map(ToString::to_string)).await.unwrap_err();
            assert!(error.to_string().contains("--dir FOLDER"));
        }
    }
}
