//! `trailship check`: says what is wrong; the configuration first, then queues, buckets and every sink, live.

mod dead_letters;
mod handoffs;
mod test_event;

use std::sync::Arc;

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::types::QueueAttributeName;
use sinks::destinations::{Carrier, Finding, FindingLevel, Probe, ProbeStep};
use sinks::ports::{Authorize, Files as _, Transport as _};
use sinks::{Answer, Redactor};

use super::{Failure, Loading, say};
use crate::app;
use crate::aws::{Aws, describe};
use crate::cli::{Check, Cli, EXIT_DONE, EXIT_FAILED};
use crate::config::{Bucket, Config, Network, SinkConfig, SinkKind, Source, SourceKind, Sqs};
use crate::ports::{HttpTransport, LocalFiles, SystemClock, SystemRandom, Workers};

/// Fewer receives than this, and the queue may give up a message before the agent has.
const RECEIVES_MIN: u64 = 20;

/// A queue that keeps messages for less time than this loses them in an outage of a few days.
const RETENTION_MIN_S: u64 = 4 * 24 * 3600;

/// Gathers findings, and prints each as it comes.
#[derive(Default)]
struct Findings {
    warnings: usize,
    failures: usize,
}

impl Findings {
    fn add(&mut self, about: &str, finding: &Finding) {
        let word = match finding.level {
            FindingLevel::Good => "ok     ",
            FindingLevel::Warning => {
                self.warnings += 1;
                "warning"
            }
            FindingLevel::Failed => {
                self.failures += 1;
                "FAILED "
            }
        };
        say(&format!("{word} {about}: {}", finding.sentence));
    }
}

/// Checks.
pub async fn check(cli: &Cli, options: &Check) -> Result<u8, Failure> {
    let loading = Loading::begin(cli)?;
    let mut findings = Findings::default();
    let (config, unread) = match options.offline {
        true => (loading.config, Vec::new()),
        false => loading.with_secrets().await?,
    };
    if options.print {
        say(&config.effective);
    }
    findings.add("configuration", &Finding::good("valid"));
    for warning in &config.warnings {
        findings.add("configuration", &Finding::warning(warning.to_string()));
    }
    for (key, why) in &unread {
        findings.add(key, &Finding::failed(why.clone()));
    }
    if !options.offline {
        check_live(&config, options, &mut findings).await;
    }
    let failed = findings.failures > 0 || (options.strict && findings.warnings > 0);
    say(&format!("{} failed, {} warnings", findings.failures, findings.warnings));
    Ok(if failed { EXIT_FAILED } else { EXIT_DONE })
}

async fn check_live(config: &Config, options: &Check, findings: &mut Findings) {
    let identities = Arc::new(app::load_identities(config).await);
    for source in &config.sources {
        check_source(source, &identities, findings).await;
    }
    match makers(&identities) {
        Ok(makers) => {
            for sink in &config.sinks {
                let about = format!("sinks.{}", sink.name);
                let prefix = format!("{about}.");
                if config.unread.iter().any(|(key, _)| key.starts_with(&prefix)) {
                    findings.add(&about, &Finding::failed("not asked: a secret of it could not be read"));
                    continue;
                }
                check_sink(sink, &makers, options.apply, findings).await;
                if options.send_test_event {
                    findings.add(&format!("{about} test event"), &test_event::send(sink, &makers).await);
                }
            }
        }
        Err(error) => findings.add("sinks", &Finding::failed(format!("no worker threads: {error}"))),
    }
    for place in config.dead_letters() {
        let about = match &config.dead_letter {
            Some(common) if common == place => "dead_letter".to_owned(),
            _ => format!("dead letters in {place}"),
        };
        dead_letters::check(&about, place, &identities, findings).await;
    }
}

async fn check_source(
    source: &Source,
    identities: &std::collections::BTreeMap<String, Arc<Aws>>,
    findings: &mut Findings,
) {
    match &source.kind {
        SourceKind::Sqs(sqs) => {
            if let Some(aws) = identities.get(&sqs.aws) {
                check_queue(source, sqs, aws, findings).await;
            }
            for bucket in &sqs.buckets {
                if let Some(aws) = identities.get(&bucket.aws) {
                    let about = format!("sources.{} bucket {}", source.name, bucket.name);
                    findings.add(&about, &check_bucket(bucket, aws).await);
                }
            }
        }
        SourceKind::Directory(directory) => {
            let about = format!("sources.{}", source.name);
            let path = directory.path.display();
            findings.add(
                &about,
                &match crate::sources::directory::log_files_in(&directory.path) {
                    Ok(found) => Finding::good(format!("{path} holds {} log files", found.len())),
                    Err(error) => {
                        Finding::failed(format!("{path}: {error}: make the folder, or change `path`"))
                    }
                },
            );
        }
    }
}

async fn check_queue(source: &Source, sqs: &Sqs, aws: &Aws, findings: &mut Findings) {
    let about = format!("sources.{} queue", source.name);
    let client = aws.sqs(sqs.region.as_deref());
    let asked =
        client.get_queue_attributes().queue_url(&sqs.queue_url).attribute_names(QueueAttributeName::All);
    let answer = match asked.send().await {
        Ok(answer) => answer,
        Err(error) => {
            let text = format!(
                "{}: see `queue_url`, and that the role may sqs:GetQueueAttributes",
                describe(&error)
            );
            findings.add(&about, &Finding::failed(text));
            return;
        }
    };
    let attributes = answer.attributes().cloned().unwrap_or_default();
    let number = |name: &QueueAttributeName| attributes.get(name).and_then(|text| text.parse::<u64>().ok());
    let waiting = number(&QueueAttributeName::ApproximateNumberOfMessages).unwrap_or(0);
    findings.add(&about, &Finding::good(format!("reached, {waiting} messages wait")));
    let policy = attributes.get(&QueueAttributeName::RedrivePolicy);
    let policy: serde_json::Value =
        policy.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    if let Some(url) = &sqs.handoff_queue_url {
        let finding = handoffs::check(&client, url, &policy).await;
        findings.add(&format!("sources.{} hand-off queue", source.name), &finding);
    }
    let receives = &policy["maxReceiveCount"];
    let receives = receives.as_u64().or_else(|| receives.as_str().and_then(|text| text.parse().ok()));
    findings.add(&about, &match receives {
        None => Finding::warning("has no dead-letter queue: messages that nobody understands stay until they expire"),
        Some(receives) if receives < RECEIVES_MIN => Finding::warning(format!(
            "gives a message up after {receives} receives: raise maxReceiveCount to 100, so that an outage of a \
             sink does not look like a bad message"
        )),
        Some(receives) => Finding::good(format!("gives a message up after {receives} receives")),
    });
    if let Some(seconds) = number(&QueueAttributeName::MessageRetentionPeriod)
        && seconds < RETENTION_MIN_S
    {
        let days = seconds / 86_400;
        findings.add(&about, &Finding::warning(format!("keeps messages for {days} days: raise it to 14")));
    }
}

async fn check_bucket(bucket: &Bucket, aws: &Aws) -> Finding {
    if bucket.name.contains('*') {
        return Finding::good("a pattern: not asked");
    }
    let client = aws.s3(bucket.region.as_deref());
    let key = format!("{}AWSLogs/trailship-check", bucket.prefix);
    let asked = client.head_object().bucket(&bucket.name).key(&key);
    match asked.set_expected_bucket_owner(bucket.owner.clone()).send().await {
        Ok(_) => Finding::good("can be read"),
        Err(error) => match error.raw_response().map(|response| response.status().as_u16()) {
            Some(404) if error.code() != Some("NoSuchBucket") => Finding::good("can be asked for objects"),
            Some(403) => Finding::warning(
                "403: the role may not s3:ListBucket (then this cannot be told), the bucket is another account's \
                 than `owner`, or there is no permission at all",
            ),
            Some(301) => Finding::failed("is in another region: set `region` of the bucket"),
            Some(status) => Finding::failed(format!("HTTP {status}: does the bucket exist?")),
            None => Finding::failed(describe(&error)),
        },
    }
}

fn makers(identities: &Arc<std::collections::BTreeMap<String, Arc<Aws>>>) -> std::io::Result<app::Makers> {
    Ok(app::Makers {
        compute: Arc::new(Workers::start(1)?),
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(SystemRandom::default()),
        files: Arc::new(LocalFiles),
        wires: Arc::new(app::Sockets),
        identities: Arc::clone(identities),
    })
}

async fn check_sink(sink: &SinkConfig, makers: &app::Makers, apply: bool, findings: &mut Findings) {
    let about = format!("sinks.{}", sink.name);
    match &sink.kind {
        SinkKind::Console => findings.add(&about, &Finding::good("standard output")),
        SinkKind::File(file) => {
            let folder = file.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let probe = folder.unwrap_or(std::path::Path::new(".")).join(".trailship-check");
            findings.add(&about, &writable(&probe).await);
        }
        SinkKind::Destination(network, _) => {
            if let Err(error) = check_destination(&about, sink, network, makers, apply, findings).await {
                findings.add(&about, &Finding::failed(error.to_string()));
            }
        }
    }
}

async fn check_destination(
    about: &str,
    sink: &SinkConfig,
    network: &Network,
    makers: &app::Makers,
    apply: bool,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let Some(built) = sink.build(0)? else { return Ok(()) };
    if let Carrier::Own(_) | Carrier::Objects(_) = &built.carrier {
        let (made, _) = makers.sink(sink)?;
        for (what, finding) in made.check().await {
            findings.add(&format!("{about} {what}"), &finding);
        }
        return Ok(());
    }
    let asking = Asking {
        transport: app::transport(&built, network)?,
        authorize: makers.authorize(&built)?,
        redactor: built.redactor,
    };
    if let Some(probe) = &built.probe {
        ask_sink(about, probe, &asking, apply, findings).await;
    }
    Ok(())
}

/// How a destination is asked.
struct Asking {
    transport: HttpTransport,
    authorize: Option<Arc<dyn Authorize>>,
    redactor: Redactor,
}

impl Asking {
    async fn exchange(&self, step: ProbeStep) -> Result<Answer, String> {
        let (mut head, body) = (step.head, step.body.into());
        let asked = async {
            if let Some(authorize) = &self.authorize {
                authorize.authorize(&mut head, &body).await?;
            }
            self.transport.exchange(head, body).await
        };
        asked.await.map_err(|why| self.redactor.clean(&why.to_string()))
    }
}

async fn ask_sink(
    about: &str,
    probe: &Arc<dyn Probe>,
    asking: &Asking,
    apply: bool,
    findings: &mut Findings,
) {
    let mut answers = Vec::new();
    for (number, step) in probe.steps().into_iter().enumerate() {
        let what = format!("{about} {}", step.what);
        let answer = asking.exchange(step).await;
        findings.add(
            &what,
            &match &answer {
                Ok(answer) => probe.read(number, answer),
                Err(why) => Finding::failed(why.clone()),
            },
        );
        answers.push(answer.ok());
    }
    if !apply {
        return;
    }
    match probe.apply(&answers) {
        Err(why) => findings.add(about, &Finding::failed(why)),
        Ok(steps) => {
            for step in steps {
                let what = format!("{about} {}", step.what);
                findings.add(
                    &what,
                    &match asking.exchange(step).await {
                        Ok(answer) if (200..300).contains(&answer.status) => Finding::good("set up"),
                        Ok(answer) => Finding::failed(format!(
                            "HTTP {}: {}",
                            answer.status,
                            answer.excerpt(&asking.redactor)
                        )),
                        Err(why) => Finding::failed(why),
                    },
                );
            }
        }
    }
}

/// Whether files can be written beside `probe`.
async fn writable(probe: &std::path::Path) -> Finding {
    let folder = probe.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(std::path::Path::new("this folder")).display().to_string();
    match LocalFiles.replace(probe, bytes::Bytes::new()).await {
        Ok(()) => {
            let _ = std::fs::remove_file(probe);
            Finding::good(format!("{folder} can be written to"))
        }
        Err(error) => Finding::failed(format!("{folder} cannot be written to: {error}")),
    }
}
