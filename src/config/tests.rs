//! What a configuration means, and what is said when it is wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::Checker;
use super::de::Reader;
use super::load::assemble;
use super::tree::Node;
use super::*;

const EXAMPLE: &str = include_str!("../../config.example.toml");

fn machine(variables: &[(&str, &str)]) -> Machine {
    let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Machine { variables, ..Machine::default() }
}

fn read_with(document: &str, machine: &Machine) -> Result<Config, Vec<String>> {
    let source = ConfigSource::Document { name: "t.toml".to_owned(), text: document.to_owned() };
    load(&source, machine).map_err(|error| error.problems.iter().map(ToString::to_string).collect())
}

fn read(document: &str) -> Result<Config, Vec<String>> {
    read_with(document, &machine(&[("KEY", "s3cret")]))
}

fn good(document: &str) -> Config {
    read(document).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[track_caller]
fn refused(document: &str, expected: &[&str]) {
    let problems = read(document).unwrap_err();
    assert_eq!(problems, expected);
}

/// A configuration with a sink, and `more` after it; `more` begins on line 3.
fn with(more: &str) -> String {
    format!("[sinks.out]\ntype = \"console\"\n{more}")
}

const QUEUE: &str = "[dead_letter]\ntype = \"s3\"\nbucket = \"d\"\n[sources.q]\ntype = \"sqs\"\n\
    queue_url = \"https://sqs.eu-west-1.amazonaws.com/1/q\"\nbuckets = [{ name = \"b\" }]\n";

fn http(type_and_own: &str) -> String {
    format!("[sinks.s]\n{type_and_own}\n")
}

const SEARCH: &str = "type = \"elasticsearch\"\nendpoints = [\"https://es.example:9200\"]";

#[test]
fn the_least_configuration_has_every_default() {
    let config = good(&with(""));
    assert_eq!(config.agent.listen.to_string(), "127.0.0.1:7464");
    assert_eq!(config.agent.memory_budget, 64 << 20);
    assert_eq!(config.agent.shutdown_grace, Duration::from_secs(25));
    assert_eq!(config.agent.state_dir.to_str(), Some("/var/lib/trailship"));
    assert_eq!(config.agent.console_front_ends, ["signin.amazonaws.com"]);
    assert_eq!(config.agent.limits.log_file_bytes, 8 << 30);
    assert!(config.aws.contains_key(DEFAULT_IDENTITY));
    assert!(config.sources.is_empty() && config.dead_letter.is_none() && config.warnings.is_empty());
    let sink = config.sinks.first().unwrap();
    assert!(sink.required);
    assert_eq!(sink.retry.give_up_after, Duration::from_secs(300));
    assert_eq!(config.sha256.len(), 64);
}

#[test]
fn a_queue_source_is_read_with_its_buckets() {
    let config = good(&with(QUEUE));
    let source = config.sources.first().unwrap();
    let SourceKind::Sqs(queue) = &source.kind else { panic!() };
    assert_eq!(queue.region.as_deref(), Some("eu-west-1"));
    assert_eq!((queue.leases_max, queue.read_attempts), (20_000, 5));
    assert_eq!(queue.buckets.first().unwrap().aws, DEFAULT_IDENTITY);
    assert!(source.filter.admits(Some("111122223333"), None, "log"));
    assert!(!source.filter.admits(Some("111122223333"), None, "insight"));
}

#[test]
fn every_problem_is_told_at_once_and_not_only_the_first() {
    refused(
        "[agent]\nlisten = \"here\"\nmemory_bugdet = \"1MiB\"\n[sinks.search]\ntype = \"elasticsearch\"\n\
         endpoints = [\"https://es.example\"]\nbatch = { max_byte = \"1MiB\", max_events = 0 }\ncompresion = \"none\"\n\
         [soruces.a]\n",
        &[
            "t.toml:2: agent.listen: not an address and port such as \"127.0.0.1:7464\" or \"[::]:7464\"",
            "t.toml:3: agent.memory_bugdet: unknown key; did you mean \"memory_budget\"?",
            "t.toml:7: sinks.search.batch.max_byte: unknown key; did you mean \"max_bytes\"?",
            "t.toml:7: sinks.search.batch.max_events: at least 1",
            "t.toml:8: sinks.search.compresion: unknown key; did you mean \"compression\"?",
            "t.toml:9: soruces: unknown key; did you mean \"sources\"?",
        ],
    );
}

#[test]
fn a_configuration_without_a_sink_is_refused() {
    let problems = read("").unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems.first().unwrap().starts_with("sinks: there is no sink"), "{problems:?}");
}

#[test]
fn a_queue_source_needs_dead_letters() {
    let document = with(QUEUE.split_once("[sources.q]").map(|(_, rest)| rest).unwrap());
    let problems = read(&document.replacen("type = \"sqs\"", "[sources.q]\ntype = \"sqs\"", 1)).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems.first().unwrap().starts_with("dead_letter: the section is missing: the queue source \"q\"")
    );
}

#[test]
fn types_are_known_ones() {
    let destinations: Vec<String> =
        sinks::destinations::TYPES.iter().map(|name| format!("\"{name}\"")).collect();
    let sinks = format!(
        "t.toml:4: sinks.b.type: unknown type \"elasticsaerch\": use one of \"console\", \"file\", {}; did you mean \
         \"elasticsearch\"?",
        destinations.join(", ")
    );
    refused(
        &with("[sinks.b]\ntype = \"elasticsaerch\"\n[sources.c]\npath = \"x\"\n[dead_letter]\ntype = 3"),
        &[
            &sinks,
            "t.toml:5: sources.c.type: the key is missing: use one of \"directory\", \"sqs\"",
            "t.toml:8: dead_letter.type: unknown type \"\": use one of \"file\", \"s3\", \"sqs\"",
        ],
    );
}

#[test]
fn a_section_that_is_no_table_is_refused() {
    refused(
        "agent = 1\nsinks = { a = 2 }\n",
        &[
            "t.toml:1: agent: expected a table: [agent], found an integer",
            "t.toml:1: agent: expected a table, found 1",
            "t.toml:2: sinks.a: expected a table: [sinks.a], found an integer",
        ],
    );
}

#[test]
fn names_that_would_not_do_as_labels_are_refused() {
    for name in ["\"a.b\"", "\"a b\"", "\"\"", &"x".repeat(64)] {
        let problems = read(&format!("[sinks.{name}]\ntype = \"console\"")).unwrap_err();
        assert!(problems.iter().any(|text| text.contains("a name has 1 to 63")), "{name}: {problems:?}");
    }
}

#[test]
fn a_batch_above_the_destinations_limit_is_refused() {
    refused(
        &http("type = \"sumo_logic\"\nurl = \"${KEY:-}\"\nbatch = { max_bytes = \"2MB\" }")
            .replace("${KEY:-}", "https://x.example/receiver/v1/http/Zm9v"),
        &[
            "t.toml:4: sinks.s.batch.max_bytes: at least \"1B\", and at most 1MB: more is refused at the destination",
        ],
    );
}

#[test]
fn plain_http_is_for_this_machine_or_on_demand() {
    let search = |endpoint: &str, more: &str| {
        read(&http(&format!("type = \"elasticsearch\"\nendpoints = [\"{endpoint}\"]\n{more}")))
    };
    assert!(search("http://127.0.0.1:9200", "").is_ok());
    assert!(search("http://localhost:9200", "").is_ok());
    assert!(search("http://es.example:9200", "allow_plaintext = true").is_ok());
    let problems = search("http://es.example:9200", "").unwrap_err();
    assert_eq!(
        problems,
        [
            "t.toml:3: sinks.s.endpoints.0: http:// sends events and secrets in the clear: use https://, or set \
          sinks.s.allow_plaintext = true"
        ]
    );
    let problems = search("http://169.254.170.2", "allow_plaintext = true").unwrap_err();
    assert!(problems.first().unwrap().contains("metadata service"), "{problems:?}");
    let aws = "[aws]\nendpoints = { s3 = \"http://minio.example:9000\" }\n";
    assert!(read(&with(aws)).unwrap_err().first().unwrap().contains("set aws.allow_plaintext = true"));
    assert!(read(&with(&format!("{aws}allow_plaintext = true"))).is_ok());
}

#[test]
fn an_address_in_the_environment_is_held_to_the_same() {
    let queue = with(QUEUE);
    let at = |name: &str, url: &str| machine(&[(name, url)]);
    let (all, queues) = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS");
    let problems = read_with(&queue, &at(queues, "http://queue.example:9324")).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = problems.first().unwrap();
    assert!(
        problem.contains("AWS_ENDPOINT_URL_SQS: http:// sends events and secrets in the clear"),
        "{problem}"
    );
    assert!(problem.contains("set aws.allow_plaintext = true"), "{problem}");
    let problems = read_with(&queue, &at(all, "https://169.254.169.254")).unwrap_err();
    assert!(problems.first().unwrap().contains("metadata service"), "{problems:?}");
    for good in ["https://queue.example", "http://127.0.0.1:9324"] {
        assert!(read_with(&queue, &at(all, good)).is_ok(), "{good}");
    }
    let allowed = format!("[aws]\nallow_plaintext = true\n{queue}");
    assert!(read_with(&allowed, &at(all, "http://queue.example:9324")).is_ok());
    // Nobody asks AWS, or nobody looks at it.
    assert!(read_with(&with(""), &at(all, "http://queue.example:9324")).is_ok());
    let ignored = machine(&[(all, "http://a.example"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]);
    assert!(read_with(&queue, &ignored).is_ok());
}

#[test]
fn a_metadata_service_is_no_destination_and_no_proxy() {
    for host in ["169.254.169.254", "0xa9fea9fe", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"] {
        let sink = format!("type = \"elasticsearch\"\nendpoints = [\"https://{host}\"]");
        let problems = read(&http(&sink)).unwrap_err();
        assert!(
            problems.first().unwrap().contains("sinks.s.endpoints.0: the address of a metadata"),
            "{problems:?}"
        );
        let problems = read(&http(&format!("{SEARCH}\nproxy = \"http://{host}:80\""))).unwrap_err();
        assert!(
            problems.first().unwrap().contains("sinks.s.proxy: the address of a metadata"),
            "{problems:?}"
        );
    }
}

#[test]
fn a_sink_that_makes_its_own_requests_has_a_proxy_and_no_compression() {
    let sink = "type = \"alert_logic_ingest\"\naccess_key_id = \"a\"\nsecret_key = \"${K}\"\nsource_id = \"s\"\n\
                host_id = \"h\"\nmessage_type = \"t\"";
    let with = |line: &str| read_with(&http(&format!("{sink}\n{line}")), &machine(&[("K", "hunter2")]));
    let config = with("proxy = \"http://u:passw0rd@proxy.example\"").unwrap();
    let SinkKind::Destination(network, _) = &config.sinks.first().unwrap().kind else { panic!() };
    assert_eq!(network.proxy.as_ref().unwrap().expose(), "http://u:passw0rd@proxy.example");
    assert!(config.effective.contains("proxy = ") && !config.effective.contains("passw0rd"));
    for line in ["compression = \"gzip\"", "ack_timeout = \"1s\""] {
        let problems = with(line).unwrap_err();
        assert!(problems.first().unwrap().contains("unknown key"), "{problems:?}");
    }
}

#[test]
fn the_destinations_own_keys_are_checked_with_their_lines() {
    refused(
        &http(&format!("{SEARCH}\nindexx = \"a\"\ntls = {{ ca_fil = \"\" }}")),
        &[
            "t.toml:4: sinks.s.indexx: unknown key; did you mean \"index\"?",
            "t.toml:5: sinks.s.tls.ca_fil: unknown key; did you mean \"ca_file\"?",
        ],
    );
    let problems = read(&http(&format!("{SEARCH}\nindex = \"a\"\ndata_stream = \"b\""))).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems.first().unwrap().starts_with("t.toml:"), "{problems:?}");
    assert!(problems.first().unwrap().contains(": sinks.s."), "{problems:?}");
}

#[test]
fn keys_without_a_meaning_for_the_type_are_refused() {
    refused(
        &with("timeout = \"1s\""),
        &["t.toml:3: sinks.out.timeout: has no meaning for a sink of type \"console\": take it away"],
    );
    refused(
        &http(&format!("{SEARCH}\nack_timeout = \"1s\"")),
        &["t.toml:4: sinks.s.ack_timeout: a sink of type \"elasticsearch\" answers at once: take it away"],
    );
}

#[test]
fn deflate_is_taken_where_the_destination_takes_it() {
    refused(
        &http(&format!("{SEARCH}\ncompression = \"deflate\"")),
        &[
            "t.toml:4: sinks.s.compression: a sink of type \"elasticsearch\" does not take deflate: use \"gzip\" or \
           \"none\"",
        ],
    );
    let sumo = "[sinks.sumo]\ntype = \"sumo_logic\"\nurl = \"https://sumo.example/receiver/v1/http/x\"\n\
        compression = \"deflate:6\"";
    let config = good(&with(sumo));
    assert!(config.effective.contains("compression = \"deflate:6\""), "{}", config.effective);
}

#[test]
fn a_budget_below_what_the_lanes_need_is_refused() {
    refused(
        &with("[agent]\nmemory_budget = \"8MiB\""),
        &[
            "t.toml:4: agent.memory_budget: 8MiB are too little for 1 sinks with events of up to 4MiB: at least 13056KiB",
        ],
    );
}

#[test]
fn an_automatic_budget_is_half_of_the_containers_memory() {
    let document = with("[agent]\nmemory_budget = \"auto\"");
    let machine = Machine { memory_limit: Some(512 << 20), ..Machine::default() };
    assert_eq!(read_with(&document, &machine).unwrap().agent.memory_budget, 256 << 20);
    assert_eq!(good(&document).agent.memory_budget, 64 << 20);
}

#[test]
fn the_state_folder_is_what_systemd_says_unless_it_is_given() {
    let machine = machine(&[("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")]);
    let config = read_with(&with(""), &machine).unwrap();
    assert_eq!(config.agent.state_dir.to_str(), Some("/var/lib/one"));
    let config = read_with(&with("[agent]\nstate_dir = \"here\""), &machine).unwrap();
    assert_eq!(config.agent.state_dir.to_str(), Some("here"));
}

#[test]
fn parts_that_would_step_on_each_other_are_refused() {
    let second = "[sources.r]\ntype = \"sqs\"\nqueue_url = \"https://sqs.eu-west-1.amazonaws.com/1/q\"\n\
        buckets = [{ name = \"b\" }]\n";
    refused(
        &with(&format!("{QUEUE}{second}")),
        &["t.toml:12: sources.r.queue_url: sources.q.queue_url reads the same queue: keep one of them"],
    );
    let file = |name: &str, path: &str| format!("[sinks.{name}]\ntype = \"file\"\npath = \"{path}\"\n");
    refused(
        &format!("{}{}", file("a", "out/x"), file("b", "./out/y/../x")),
        &["t.toml:6: sinks.b.path: sinks.a.path writes the same file: keep one of them"],
    );
    refused(
        &format!("{}[sources.d]\ntype = \"directory\"\npath = \"out\"\n", file("a", "out/x")),
        &[
            "t.toml:3: sinks.a.path: sources.d.path watches this folder: what is written would be shipped again and again",
        ],
    );
}

#[test]
fn identities_are_named_ones_and_take_the_rest_from_the_default() {
    let aws = "[aws]\nregion = \"eu-west-1\"\nuse_fips = true\n[aws.archive]\nuse_fips = false\n\
        assume_role = { arn = \"arn:aws:iam::111122223333:role/r\" }\n";
    let queue = QUEUE.replace("name = \"b\"", "name = \"b\", aws = \"archive\"");
    let config = good(&with(&format!("{aws}{queue}")));
    let archive = config.aws.get("archive").unwrap();
    assert_eq!((archive.region.as_deref(), archive.use_fips), (Some("eu-west-1"), false));
    assert_eq!(archive.assume_role.as_ref().unwrap().session_name, "trailship");
    assert!(config.aws.get(DEFAULT_IDENTITY).unwrap().assume_role.is_none());
    assert!(config.warnings.is_empty());

    refused(
        &with(&format!("{aws}{}", queue.replace("aws = \"archive\"", "aws = \"archiv\""))),
        &["t.toml:15: sources.q.buckets.0.aws: there is no identity [aws.archiv]; did you mean \"archive\"?"],
    );
    let config = good(&with(aws));
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["t.toml:6: aws.archive: no source, bucket, sink, secret, ledger or dead letter uses this identity"]
    );
    refused(
        &with("[aws]\nregoin = \"x\"\n[aws.default]\n"),
        &[
            "t.toml:4: aws.regoin: unknown key; did you mean \"region\"?",
            "t.toml:5: aws.default: the name is taken: [aws] itself is the default identity",
        ],
    );
}

#[test]
fn buckets_of_anybody_are_refused() {
    let buckets = |buckets: &str| read(&with(&QUEUE.replace("{ name = \"b\" }", buckets)));
    assert!(buckets("{ name = \"*\" }").unwrap_err().first().unwrap().contains("say their owner"));
    assert_eq!(buckets("{ name = \"a-*\" }").unwrap().warnings.len(), 1);
    assert!(buckets("{ name = \"*\", owner = \"111122223333\" }").unwrap().warnings.is_empty());
    assert!(buckets("{ name = \"a/b\" }").is_err());
    assert!(buckets("{ name = \"b\", owner = \"1234\" }").is_err());
    assert!(buckets("").unwrap_err().first().unwrap().contains("sources.q.buckets: empty"));
}

#[test]
fn a_dead_letter_file_in_a_containers_own_layer_is_warned_of() {
    let mounts = "1 0 0:1 / / rw - overlay overlay rw\n";
    let machine = Machine { container_mounts: Some(mounts.to_owned()), ..Machine::default() };
    let warnings = |more: &str| {
        let document = with(&format!("[dead_letter]\ntype = \"file\"\npath = \"dead\"\n{more}"));
        read_with(&document, &machine).unwrap().warnings.len()
    };
    assert_eq!(warnings(""), 1);
    assert_eq!(warnings("durable = true"), 0);
}

#[test]
fn a_secret_in_the_file_is_warned_of_and_one_from_the_environment_is_not() {
    let warnings = |key: &str, variables: &[(&str, &str)]| {
        let document = http(&format!("{SEARCH}\n{key}"));
        let config = read_with(&document, &machine(variables)).unwrap();
        config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        warnings("api_key = \"a:b\"", &[]),
        [
            "t.toml:4: sinks.s.api_key: a secret stands in the file: say \"${VARIABLE}\" or { file = \"path\" } instead"
        ]
    );
    assert!(warnings("api_key = \"${K}\"", &[("K", "a:b")]).is_empty());
    let several = read(&with("[sinks.l]\ntype = \"loggly\"\ntokens = [\"${KEY}\", \"b\"]")).unwrap();
    let several: Vec<_> = several.warnings.iter().map(ToString::to_string).collect();
    assert!(
        several.len() == 1 && several.first().unwrap().starts_with("t.toml:5: sinks.l.tokens.1: "),
        "{several:?}"
    );
    assert!(warnings("", &[("TRAILSHIP__SINKS__S__API_KEY", "a:b")]).is_empty());
    assert_eq!(warnings("proxy = \"http://u:p@proxy.example\"", &[]).len(), 1);
    assert!(warnings("proxy = \"http://proxy.example\"", &[]).is_empty());
}

#[test]
fn headers_and_addresses_of_any_http_receiver_are_hidden_and_may_stand_in_the_file() {
    let document = http(
        "type = \"http\"\nurl = \"https://in.example/t0psecret\"\nheaders = { x-tenant = \"s3cret\", X-Api-Key = \"k3y\" }",
    );
    let config = good(&document);
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings.first().unwrap().contains("sinks.s.headers.X-Api-Key: a secret stands in the file"));
    let shown = format!("{config:?}{}", config.effective);
    for secret in ["t0psecret", "s3cret", "k3y"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn what_a_destination_reads_as_a_secret_is_one_whatever_its_key_is_called() {
    for (sink, key) in [
        (
            "type = \"alert_logic_ingest\"\naccess_key_id = \"a\"\nsource_id = \"s\"\nhost_id = \"h\"\nmessage_type = \"t\"",
            "secret_key",
        ),
        ("type = \"splunk_hec\"\nendpoints = [\"https://a.example\"]", "token"),
    ] {
        let config = good(&http(&format!("{sink}\n{key} = \"hunter2\"")));
        assert!(!config.effective.contains("hunter2"), "{}", config.effective);
        let warned = config.warnings.iter().any(|problem| problem.key == format!("sinks.s.{key}"));
        assert!(warned, "{:?}", config.warnings);
    }
    // By its type alone.
    let reader = Reader::default();
    let tree = super::tree::parse(&"t.toml".into(), "any_name = \"hunter2\"\nother = \"x\"").unwrap();
    #[derive(serde::Deserialize)]
    struct Any {
        #[allow(dead_code)]
        any_name: sinks::Secret,
        #[allow(dead_code)]
        other: String,
    }
    assert!(reader.read::<Any>(&tree, "a.b").is_some());
    assert!(reader.is_secret("a.b.any_name") && !reader.is_secret("a.b.other"));
}

#[test]
fn an_empty_secret_is_an_error() {
    let problems =
        read_with(&http(&format!("{SEARCH}\napi_key = \"${{EMPTY}}\"")), &machine(&[("EMPTY", "")]));
    assert!(
        problems.unwrap_err().first().unwrap().starts_with("t.toml:4: sinks.s.api_key: the secret is empty")
    );
}

#[test]
fn a_key_whose_variable_is_missing_has_no_second_problem() {
    let problems = read(&with(&QUEUE.replace("https://sqs", "${NONE}sqs"))).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems.first().unwrap().contains("NONE is not set"), "{problems:?}");
}

#[test]
fn nothing_secret_is_ever_printed() {
    let variables = [("KEY", "s3cret"), ("HOST", "es.example")];
    let document = "[agent]\nadmin_token = \"t0ken\"\n[aws]\nproxy = \"http://u:passw0rd@proxy.example\"\n\
        [sinks.s]\ntype = \"elasticsearch\"\nendpoints = [\"https://${HOST}:9200\"]\napi_key = \"${KEY}\"\n\
        [sinks.sumo]\ntype = \"sumo_logic\"\nurl = \"https://sumo.example/receiver/v1/http/t0psecret\"\n\
        [sinks.two]\ntype = \"loggly\"\ntokens = [\"l0ggly-a\", \"l0ggly-b\"]\n\
        [sinks.many]\ntype = \"sumo_logic\"\nurls = [\"https://m.example/receiver/v1/http/0ther\"]\n\
        [sinks.sumo.batch]\nmax_age = \"${HOST:-}\"\n";
    let bad = read_with(document, &machine(&variables)).unwrap_err();
    assert_eq!(bad.len(), 1, "{bad:?}");
    let config = read_with(&document.replace("${HOST:-}", "2s"), &machine(&variables)).unwrap();
    let shown = format!("{bad:?}{config:?}{}", config.effective);
    for secret in ["s3cret", "es.example", "t0ken", "passw0rd", "t0psecret", "l0ggly", "0ther"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn the_effective_configuration_has_the_defaults_and_reads_back_as_itself() {
    let document = format!("{}{QUEUE}{}", with(""), http(SEARCH));
    let config = good(&document);
    assert!(config.effective.contains("give_up_after = \"5m\""), "{}", config.effective);
    assert!(config.effective.contains("max_bytes = \"8MiB\""), "{}", config.effective);
    let again = good(&config.effective);
    assert_eq!(again.effective, config.effective);
    assert_eq!(again.sha256, config.sha256);
    let other = good(&document.replace("bucket = \"d\"", "bucket = \"e\""));
    assert_ne!(other.sha256, config.sha256);
}

#[test]
fn an_overlay_replaces_one_value_and_its_problems_name_it() {
    let document = http(&format!("{SEARCH}\nbatch = {{ max_events = 7 }}"));
    let name = "TRAILSHIP__SINKS__S__BATCH__MAX_EVENTS";
    let config = read_with(&document, &machine(&[(name, "2000")])).unwrap();
    assert_eq!(config.sinks.first().unwrap().batch.max_events, 2000);
    let problems = read_with(&document, &machine(&[(name, "many")])).unwrap_err();
    let expected = format!(
        "{name}: sinks.s.batch.max_events: expected a whole number that is not negative, found \"many\""
    );
    assert_eq!(problems, [expected]);
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let path = std::path::Path::new("/a.toml");
    let all = machine(&[("TRAILSHIP_CONFIG_TOML", "x = 1"), ("TRAILSHIP_CONFIG", "/b.toml")]);
    assert_eq!(ConfigSource::choose(Some(path), &all), ConfigSource::File("/a.toml".into()));
    assert_eq!(ConfigSource::choose(Some(std::path::Path::new("-")), &all), ConfigSource::Stdin);
    assert!(matches!(ConfigSource::choose(None, &all), ConfigSource::Document { .. }));
    let file = machine(&[("TRAILSHIP_CONFIG", "/b.toml")]);
    assert_eq!(ConfigSource::choose(None, &file), ConfigSource::File("/b.toml".into()));
    assert_eq!(ConfigSource::choose(None, &machine(&[])), ConfigSource::File("trailship.toml".into()));
}

#[test]
fn a_file_that_is_not_there_says_what_to_do() {
    let error = load(&ConfigSource::File("/nowhere/t.toml".into()), &Machine::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("/nowhere/t.toml: cannot be read: ") && text.contains("--config FILE"),
        "{text}"
    );
}

#[test]
fn the_example_works_as_it_stands() {
    let config = good(EXAMPLE);
    assert_eq!(config.warnings, []);
    assert!(
        matches!(&config.sources.first().unwrap().kind, SourceKind::Directory(d) if d.path.ends_with("samples"))
    );
    // What the example shows is what would hold without it.
    let least = "[agent]\nstate_dir = \"state\"\nlabels = { env = \"example\" }\n\
        [sources.local]\ntype = \"directory\"\npath = \"samples\"\n[sinks.out]\ntype = \"file\"\n\
        path = \"out/events.ndjson\"\n[dead_letter]\ntype = \"file\"\npath = \"out/dead-letters.ndjson\"\n\
        [aws]\nuse_fips = false\nuse_dualstack = false\nallow_plaintext = false\n";
    assert_eq!(config.effective, good(least).effective);
}

/// The document with every inactive key active.
fn uncommented(document: &str) -> String {
    let active = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| !c.is_whitespace()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    document.lines().map(active).collect::<Vec<_>>().join("\n")
}

/// Checks a document as to its keys; adds those that its structs know to `known`, those it has to `present`.
fn keys(document: &str, known: &mut Keys, present: &mut Keys, types: &mut BTreeSet<String>) -> Vec<String> {
    let machine = machine(&[
        ("ALERT_LOGIC_SECRET_KEY", "k"),
        ("COLLECTOR_KEY", "k"),
        ("COLLECTOR_PASSWORD", "p"),
        ("COLLECTOR_TOKEN", "a token"),
        ("ES_API_KEY", "a:b"),
        ("ES_PASSWORD", "p"),
        ("ES_TOKEN", "t"),
        ("LOGGLY_TOKEN", "0-1"),
        ("LOGGLY_TOKEN_2", "0-2"),
        ("LOGSTASH_PASSWORD", "p"),
        ("SPLUNK_TOKEN", "t"),
        ("SUMO_URL", "https://sumo.example/receiver/v1/http/x"),
        ("SUMO_URL_2", "https://sumo.example/receiver/v1/http/y"),
        ("TRAILSHIP_ADMIN_TOKEN", "t"),
        ("TRAILSHIP_EXTERNAL_ID", "x"),
    ]);
    let (tree, problems) = assemble("t.toml", document, &machine).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(problems, []);
    let checker = Checker::new(&tree, &machine);
    checker.config();
    for (path, fields) in checker.reader.known() {
        let table = tree.nearest(&path.split('.').collect::<Vec<_>>());
        let group: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        known.entry(group.clone()).or_default().extend(group.iter().cloned());
        let keys = table.as_table().into_iter().flatten().map(|(key, _)| key.clone());
        present.entry(group).or_default().extend(keys);
    }
    tree.visit(&mut Vec::new(), &mut |path: &[String], node: &Node| {
        if path.last().is_some_and(|key| key == "type") {
            types.extend(node.as_str().map(str::to_owned));
        }
    });
    checker.reader.into_problems().iter().map(ToString::to_string).collect()
}

/// Keys by the struct that knows them, which goes by its keys.
type Keys = BTreeMap<Vec<String>, BTreeSet<String>>;

#[test]
fn the_example_names_every_key_that_exists_and_no_other() {
    let mut parts = EXAMPLE.split("#[dead_letter]");
    let (mut known, mut present, mut types) = Default::default();
    let first = parts.next().unwrap();
    let mut problems = keys(&uncommented(first), &mut known, &mut present, &mut types);
    for other in parts {
        let alone = uncommented(&format!("#[dead_letter]{other}"));
        problems.extend(keys(&with(&alone), &mut known, &mut present, &mut types));
    }

    // Some keys exclude each other; of those the destination tells the first.
    let exclusive = [
        "sinks.lake.path: `path` and `bucket` exclude",
        "sinks.search.api_key: keep one of",
        "sinks.http.bearer_token: keep it, or",
        "sinks.loggly.tokens: give token or tokens",
        "sinks.sumo.urls: give url or urls",
        // For another type.
        "ledger.aws: has no meaning for type = \"memory\"",
        "ledger.region: has no meaning for type = \"memory\"",
        "ledger.table: has no meaning for type = \"memory\"",
        "ledger.ttl: has no meaning for type = \"memory\"",
        // All sinks at once.
        "agent.memory_budget: 64MiB are too little",
    ];
    assert_eq!(problems.len(), exclusive.len(), "{problems:#?}");
    for what in exclusive {
        assert!(problems.iter().any(|problem| problem.contains(what)), "{what}: {problems:#?}");
    }

    for (group, fields) in &known {
        let missing: Vec<_> = fields.difference(&present[group]).collect();
        assert!(missing.is_empty(), "config.example.toml lacks {missing:?} of {group:?}");
    }
    let mut expected: BTreeSet<String> = sinks::destinations::TYPES.iter().map(|t| (*t).to_owned()).collect();
    expected.extend(["file", "console", "sqs", "directory", "s3", "memory"].map(str::to_owned));
    assert_eq!(types, expected);
}

#[test]
fn a_sink_can_have_dead_letters_of_its_own() {
    let own =
        "dead_letter = { type = \"sqs\", queue_url = \"https://sqs.eu-west-1.amazonaws.com/1/letters\" }";
    let config = good(&with(own));
    let letters = config.sinks.first().unwrap().dead_letter.clone().unwrap();
    let DeadLetter::Sqs { region, aws, .. } = &letters else { panic!("{letters}") };
    assert_eq!((region.as_deref(), aws.as_str()), (Some("eu-west-1"), "default"));
    assert_eq!(config.dead_letters(), [&letters]);
    assert!(
        config.effective.contains("[sinks.out.dead_letter]\naws = \"default\"\nqueue_url"),
        "{}",
        config.effective
    );
    refused(
        &with("dead_letter = \"here\""),
        &["t.toml:3: sinks.out.dead_letter: expected a table: [sinks.out.dead_letter], found a string"],
    );
    refused(
        &with("dead_letter = { type = \"s3\", bukket = \"b\", bucket = \"b\" }"),
        &["t.toml:3: sinks.out.dead_letter.bukket: unknown key; did you mean \"bucket\"?"],
    );
    refused(
        &with("dead_letter = { type = \"sqs\", queue_url = \"https://x.example/q.fifo\", aws = \"nobody\" }"),
        &[
            "t.toml:3: sinks.out.dead_letter.queue_url: a FIFO queue, which drops what it takes for repetitions: use a \
         standard queue",
            "t.toml:3: sinks.out.dead_letter.aws: there is no identity [aws.nobody]",
        ],
    );
}

#[test]
fn dead_letters_do_not_go_to_a_queue_that_is_read_nor_into_a_sink_s_file() {
    let queue = with(QUEUE);
    let url = "https://sqs.eu-west-1.amazonaws.com/1/q";
    assert!(queue.contains(url), "{queue}");
    let letters = format!("dead_letter = {{ type = \"sqs\", queue_url = \"{url}\" }}\n");
    let problems = read(&queue.replacen("[sinks.out]\n", &format!("[sinks.out]\n{letters}"), 1)).unwrap_err();
    assert!(
        problems.iter().any(|it| it.contains("sources.q reads this queue: use one of its own")),
        "{problems:?}"
    );
    let file = "[sinks.a]\ntype = \"file\"\npath = \"x\"\n[sinks.b]\ntype = \"console\"\n\
                dead_letter = { type = \"file\", path = \"./x\" }\n";
    let problems = read(file).unwrap_err();
    assert!(problems.first().unwrap().contains("writes the same file"), "{problems:?}");
    // Two sinks with one place for their letters are no problem.
    let shared = "[sinks.a]\ntype = \"console\"\ndead_letter = { type = \"file\", path = \"x\" }\n\
                  [sinks.b]\ntype = \"file\"\npath = \"y\"\ndead_letter = { type = \"file\", path = \"x\" }\n";
    assert_eq!(good(shared).dead_letters().len(), 1);
}

#[test]
fn a_secret_that_aws_keeps_is_known_only_once_it_was_read() {
    let arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:x-AbCdEf";
    let document = format!(
        "[sinks.s]\ntype = \"sumo_logic\"\nurl = {{ secrets_manager = \"{arn}\", key = \"url\" }}\n\
         [agent]\nadmin_token = {{ ssm = \"/trailship/admin\", aws = \"other\" }}\n[aws.other]\nregion = \"eu-west-1\"\n"
    );
    let config = good(&document);
    let unread: Vec<String> = config.unread.iter().map(|(key, secret)| format!("{key}: {secret}")).collect();
    let member = format!("sinks.s.url: the member url of the secret {arn}");
    assert_eq!(unread, ["agent.admin_token: the parameter /trailship/admin", member.as_str()]);
    assert!(config.effective.contains(arn), "{}", config.effective);
    let error = config.sinks.first().unwrap().build(0).unwrap_err().to_string();
    assert_eq!(error, format!("{member} was not read"));

    // Once it was read it is checked as if it stood in the document, and never shown.
    let source = ConfigSource::Document { name: "t.toml".to_owned(), text: document.clone() };
    let draft = Draft::read(&source, &machine(&[])).unwrap();
    let with_url = |url: &str| {
        let texts = config.unread.iter().map(|(_, secret)| (secret.clone(), url.to_owned())).collect();
        draft.check(&machine(&[]), SecretTexts::new(texts))
    };
    let read = with_url("https://sumo.example/receiver/v1/http/c0de").unwrap();
    assert!(read.unread.is_empty() && !read.effective.contains("c0de"));
    assert_eq!(read.agent.admin_token.unwrap().expose(), "https://sumo.example/receiver/v1/http/c0de");
    let built = read.sinks.first().unwrap().build(0).unwrap().unwrap();
    assert_eq!(built.endpoints, ["https://sumo.example"]);
    for (url, expected) in [
        ("https://sumo.example/c0de", "t.toml:3: sinks.s.url: not the whole address"),
        ("http://sumo.example/receiver/v1/http/c0de", "t.toml:1: sinks.s: http:// sends events"),
        ("", "t.toml:3: sinks.s.url: the member url of the secret"),
    ] {
        let error = with_url(url).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("c0de"), "{error}");
    }
}

#[test]
fn a_wrong_way_to_name_a_secret_is_refused_with_its_key() {
    let splunk = |token: &str| {
        format!("[sinks.s]\ntype = \"splunk_hec\"\nendpoints = [\"https://s.example\"]\ntoken = {token}\n")
    };
    for (token, expected) in [
        ("{ ssm = \"a\", key = \"b\" }", "a parameter has no `key`: take it away"),
        (
            "{ ssm = \"a\", secrets_manager = \"b\" }",
            "one of `secrets_manager` and `ssm`: take the other away",
        ),
        ("{ ssm = \" \" }", "empty: name the secret, its member, or the parameter"),
    ] {
        refused(&splunk(token), &[&format!("t.toml:4: sinks.s.token: {expected}")]);
    }
    refused(
        &splunk("{ ssm = \"a\", kee = \"b\" }"),
        &["t.toml:4: sinks.s.token.kee: unknown key; did you mean \"key\"?"],
    );
    refused(
        &splunk("{ ssm = \"a\", aws = \"nobody\" }"),
        &["t.toml:4: sinks.s.token.aws: there is no identity [aws.nobody]"],
    );
    let role = "[aws]\nassume_role = { arn = \"arn:aws:iam::111122223333:role/x\", external_id = { ssm = \"a\" } }\n";
    let problems = read(&with(role)).unwrap_err();
    assert!(
        problems.first().unwrap().contains("aws.assume_role.external_id: cannot be kept by AWS"),
        "{problems:?}"
    );
}

#[test]
fn a_ledger_is_in_memory_unless_a_table_or_none_is_wanted() {
    let ledger = |more: &str| good(&with(more)).ledger;
    assert_eq!((ledger("").log_files_max, ledger("").table), (100_000, None));
    assert_eq!(ledger("[ledger]\ntype = \"none\"").log_files_max, 0);
    let arn = "arn:aws:dynamodb:eu-west-1:111122223333:table/seen";
    let table =
        ledger(&format!("[ledger]\ntype = \"dynamodb\"\ntable = \"{arn}\"\nttl = \"2d\"")).table.unwrap();
    assert_eq!((table.name.as_str(), table.region.as_deref()), (arn, Some("eu-west-1")));
    assert_eq!((table.aws.as_str(), table.ttl), ("default", Duration::from_secs(2 * 86_400)));
}

#[test]
fn a_ledger_says_what_is_wrong_with_it() {
    refused(
        &with("[ledger]\ntype = \"dynamodb\"\nttl = \"5m\"\naws = \"nobody\""),
        &[
            "t.toml:3: ledger.table: the key is missing: name a table of DynamoDB whose partition key is the string \"id\"",
            "t.toml:5: ledger.ttl: from \"1h\" to \"3650d\"",
            "t.toml:6: ledger.aws: there is no identity [aws.nobody]",
        ],
    );
    refused(
        &with("[ledger]\ntable = \"seen\"\nmax_log_files = 0"),
        &[
            "t.toml:4: ledger.table: has no meaning for type = \"memory\": take it away, or say \"dynamodb\"",
            "t.toml:5: ledger.max_log_files: from 1 to 10000000",
        ],
    );
    refused(
        &with("[ledger]\ntype = \"none\"\nmax_log_files = 5"),
        &["t.toml:5: ledger.max_log_files: has no meaning for type = \"none\": take it away"],
    );
}

/// What a ledger calls the sink `s` with these lines.
fn mark(lines: &str) -> String {
    good(&format!("[sinks.s]\n{lines}")).sinks.first().unwrap().mark.clone()
}

#[test]
fn a_sink_is_another_one_to_a_ledger_where_its_events_go_elsewhere_and_not_for_how_they_go() {
    let search = "type = \"elasticsearch\"\nendpoints = [\"https://a.example\"]\n";
    let first = mark(&format!("{search}api_key = \"a:b\""));
    assert!(first.starts_with("s@") && first.len() == 14, "{first}");
    for same in [
        "api_key = \"c:d\"",
        "username = \"u\"\npassword = \"p\"",
        "api_key = \"a:b\"\nbatch = { max_events = 7 }\nconcurrency = { max = 2 }\nlabels = { a = \"b\" }",
        "api_key = \"a:b\"\ntimeout = \"9s\"\nrequired = true\ncompression = \"gzip:6\"\nadditions = \"none\"",
    ] {
        assert_eq!(mark(&format!("{search}{same}")), first, "{same}");
    }
    for other in ["api_key = \"a:b\"\nindex = \"other\"", "api_key = \"a:b\"\ndata_stream = \"logs-a-b\""] {
        assert_ne!(mark(&format!("{search}{other}")), first, "{other}");
    }
    // An address that is a secret, and a token that is the account.
    let sumo = |code: &str| {
        mark(&format!("type = \"sumo_logic\"\nurl = \"https://sumo.example/receiver/v1/http/{code}\""))
    };
    let loggly = |token: &str| mark(&format!("type = \"loggly\"\ntoken = \"{token}\""));
    assert_eq!(sumo("a"), sumo("a"));
    assert_ne!(sumo("a"), sumo("b"));
    assert_ne!(loggly("0-1"), loggly("0-2"));
    let splunk = |token: &str| {
        mark(&format!("type = \"splunk_hec\"\nendpoints = [\"https://a.example\"]\ntoken = \"{token}\""))
    };
    assert_eq!(splunk("a"), splunk("b"));
}
