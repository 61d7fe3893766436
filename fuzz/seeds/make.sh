#!/bin/sh
# Writes the seeds: one small input for each shape of message and each envelope of a log file.
set -eu
cd "$(dirname "$0")"
mkdir -p notification log_file

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
