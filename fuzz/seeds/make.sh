#!/bin/sh
# Writes the seeds: one small input for each shape of message, each envelope of a log file, each section of a
# configuration, and each answer of a destination.
set -eu
cd "$(dirname "$0")"
mkdir -p notification log_file config answers

message() { printf '%s' "$2" > "notification/$1"; }
message validation 'CloudTrail validation message.'
message cloudtrail '{"s3Bucket":"b","s3ObjectKey":["AWSLogs/o-exampleorgid/111122223333/CloudTrail/eu-west-1/2023/07/10/111122223333_CloudTrail_eu-west-1_20230710T1145Z_x.json.gz"]}'
message sns '{"Type":"Notification","MessageId":"i","TopicArn":"t","Message":"{\"s3Bucket\":\"b\",\"s3ObjectKey\":[\"k\"]}"}'
message confirmation '{"Type":"SubscriptionConfirmation","Token":"t","SubscribeURL":"https://x"}'
message s3 '{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"r","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a+b%2Bc","size":1,"eTag":"e","versionId":"v","sequencer":"0"}}},{"eventSource":"aws:s3","eventName":"ObjectRemoved:Delete","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}'
message test_event '{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}'
message eventbridge_s3 '{"id":"i","detail-type":"Object Created","source":"aws.s3","region":"r","detail":{"bucket":{"name":"b"},"object":{"key":"k","size":5,"etag":"e","version-id":"v"}}}'
message eventbridge_cloudtrail '{"id":"i-1","detail-type":"AWS API Call via CloudTrail","source":"aws.ec2","detail":{"eventVersion":"1.08","eventID":"e"}}'
message cloudwatch '{"messageType":"DATA_MESSAGE","logEvents":[{"id":"1","timestamp":1,"message":"{\"eventID\":\"e\"}"}]}'
message lambda '{"awslogs":{"data":"e30="}}'
message handoff '[{"trailship.handoff":1,"bucket":"b","key":"k","version_id":null,"etag":"e","sink":"s","ranges":[[0,1],[3,9]],"attempts":0,"first_seen":"2023-07-10T11:42:01.000Z"}]'

# Chunk size, size of the pieces, compression; then the file.
file() { { printf "$2"; printf '%s' "$3"; } > "log_file/$1"; }
event='{"eventVersion":"1.08","userIdentity":{"type":"AssumedRole","principalId":"A:s","arn":"arn:aws:sts::1:assumed-role/r/s","accountId":"1","sessionContext":{"sessionIssuer":{"arn":"arn:aws:iam::1:role/r","userName":"r"},"ec2RoleDelivery":"2.0"},"invokedBy":"rds.amazonaws.com","onBehalfOf":{"userId":"u"}},"eventTime":"2023-07-10T11:42:36Z","eventName":"n\u202f\"\\","readOnly":true,"n":-1.68E9,"x":[null,false,{}],"eventID":"e"}'
file records '\000\377\000' "{\"Records\":[$event,{}]}"
file records_gzip '\000\003\002' "{\"a\":1,\"Records\":[$event,{}],\"b\":[]}"
file array_gzip_twice '\020\000\003' "[$event,$event]"
file events '\000\001\001' "$event
$event"
file cloudwatch '\000\377\000' '{"messageType":"DATA_MESSAGE","logEvents":[{"id":"1","message":"{\"eventID\":\"e\\n\",\"x\":\"\ud800\"}"}]}{"messageType":"CONTROL_MESSAGE","logEvents":[{"message":"x"}]}'
file digest '\000\377\000' '{"digestS3Object":"k","logFiles":[]}'
file config '\000\377\000' '{"fileVersion":"1.0","configSnapshotId":"i","configurationItems":[{"a":1}]}'
file pretty '\000\377\000' '{
  "Records": [ { "eventId": "e",	"timeWindow": { "windowStart": "w" } } ]
}
'
{ printf '\000\002\000'; printf '{"Records":[{}]}' | gzip -n; printf '[{}]' | gzip -n; printf '\000\000'; } > log_file/members

# A table each, with a sink where it has none.
config() { printf '%s\n' "$2" > "config/$1"; }
console='[sinks.out]
type = "console"'
config agent "[agent]
listen = \"0.0.0.0:7464\"
memory_budget = \"auto\"
state_dir = \"state\"
log_format = \"json\"
labels = { env = \"\${ENV:-prod}\", price = \"\$\$1\" }
limits = { event_bytes = \"1MiB\", ratio = 100, depth = 8 }
admin_token = \"\${KEY}\"
$console"
config aws "[aws]
region = \"eu-west-1\"
endpoints = { s3 = \"http://127.0.0.1:9000\" }
proxy = \"http://u:p@proxy.example:3128\"
[aws.archive]
assume_role = { arn = \"arn:aws:iam::111122223333:role/r\", external_id = \"\${KEY}\" }
[sources.q]
type = \"sqs\"
queue_url = \"https://sqs.eu-west-1.amazonaws.com/1/q\"
wait = \"20s\"
[[sources.q.buckets]]
name = \"trail-*\"
owner = \"111122223333\"
aws = \"archive\"
[sources.q.include]
kinds = [\"log\", \"insight\"]
[dead_letter]
type = \"s3\"
bucket = \"d\"
$console"
config directory "[sources.local]
type = \"directory\"
path = 'in'
poll_interval = \"1s\"
labels = { a = \"\"\"b\"\"\" }
[sinks.out]
type = \"file\"
path = \"out/events.ndjson\"
required = false
batch = { max_bytes = 1_000, max_events = 0x10, max_age = \"1h30m\" }
retry = { initial = \"200ms\", max = \"30s\" }
dead_letter = { type = \"sqs\", queue_url = \"https://sqs.eu-west-1.amazonaws.com/1/d\" }
[sinks.out.rotate]
max_age = \"1d\""
config wrong 'agent = 1
x = 1979-05-27
[sinks."a b"]
typ = "console"
[sinks.s]
type = "elasticsearc"
[[sinks]]
[sinks.t]
type = "loggly"
token = 1.5
token = ["${KEY}"'
for sink in \
    'elasticsearch|endpoints = ["https://es.example:9200"]|index = "trail-%Y.%m.%d-{account}"|api_key = "${KEY}"|tls = { ca_file = "ca.pem", insecure_skip_verify = true }' \
    'splunk_hec|endpoints = ["https://a.example:8088"]|token = "${KEY}"|ack = true|ack_timeout = "5m"' \
    'loggly|tokens = ["${KEY}", "b"]|tags = ["c"]' \
    'sumo_logic|url = "https://in.example/receiver/v1/http/${KEY}"|compression = "deflate:6"|oversized = "slice"' \
    'http|url = "https://in.example/${KEY}/{account}?a={date}"|headers = { x-key = "${KEY}" }|framing = "single"|success_statuses = [409]' \
    'logstash|endpoints = ["tls://logstash.example"]|window = 10|compression = "none"' \
    'logstash_http|endpoints = ["https://logstash.example"]|username = "u"|password = { ssm = "/a" }' \
    'syslog|endpoints = ["tcp://127.0.0.1:514"]|accept_unacknowledged = true|facility = "local0"|hostname = "{account}"' \
    'alert_logic|endpoints = ["tls://collector.example"]|required = false|framing = "octet_counting"' \
    'alert_logic_ingest|access_key_id = "a"|secret_key = { secrets_manager = "s", key = "k" }|source_id = "s"|host_id = "h"|message_type = "json/x"'
do
    name=${sink%%|*}
    config "$name" "[sinks.s]
type = \"$name\"
$(printf '%s' "${sink#*|}" | tr '|' '\n')"
done

# The destination, the status, the number of events; then the answer. What stands for what is in fuzz_targets/answers.rs.
answer() { { printf "$2"; printf '%s' "$3"; } > "answers/$1"; }
answer elasticsearch '\000\000\001' '{"took":3,"errors":true,"items":[{"create":{"_index":"i","_id":"e0","status":201}},{"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"{{secret}}"}}}]}'
answer elasticsearch_duplicate '\000\001\002' '{"errors":true,"items":[{"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"r"}}},{"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"r"}}},{"index":{"status":403,"error":{"type":"cluster_block_exception","reason":"r"}}}]}'
answer elasticsearch_denied '\000\010\000' '{"error":{"root_cause":[{"type":"security_exception","reason":"r"}],"type":"security_exception","reason":"{{secret}}"},"status":401}'
answer elasticsearch_root '\000\000\000' '{"name":"n","cluster_name":"c","version":{"number":"8.15.0","distribution":"opensearch","build_flavor":"default"},"tagline":"t"}'
answer splunk '\001\000\000' '{"text":"Success","code":0}'
answer splunk_ack '\001\001\005' '{"text":"Success","code":0,"ackId":18446744073709551615}'
answer splunk_acks '\001\002\004' '{"acks":{"1":true,"18446744073709551615":false}}'
answer splunk_invalid '\001\007\003' '{"text":"Invalid data format","code":6,"invalid-event-number":1}'
answer splunk_token '\001\011\000' '{"text":"Invalid token {{secret}}","code":4}'
answer loggly '\002\000\000' '{"response" : "ok"}'
answer loggly_refused '\002\011\000' '{"errors":[{"message":"Forbidden {{secret}}"}]}'
answer sumo_logic '\003\000\000' ''
answer sumo_logic_refused '\003\010\000' '{"id":"X","code":"invalid","message":"{{secret}}"}'
answer http '\004\013\001' '<html>{{secret}}</html>'
answer logstash_http '\005\000\001' 'ok'
{ printf '\006\000\001'; printf '2A\000\000\000\0002A\000\000\000\002'; } > answers/logstash
answer logstash_other '\006\000\001' 'HTTP/1.1 400 Bad Request'
answer alert_logic_ingest '\007\000\000' '{"authentication":{"token":"{{secret}}","token_expiration":1800000000,"account":{"id":"1"}}}
--
{"ingest":"ingest.example"}
--
'
