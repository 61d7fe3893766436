//! What is called: one row for each call, with its share and the parts that only it has.

/// One API call, sign-in or service event.
pub(super) struct Call {
    /// Its share among the calls of its list.
    pub(super) weight: usize,
    /// First label of the event source.
    pub(super) service: &'static str,
    pub(super) name: &'static str,
    pub(super) read: bool,
    pub(super) data: bool,
    pub(super) event_type: &'static str,
    /// Values of `requestParameters` and `responseElements`.
    pub(super) request: &'static str,
    pub(super) response: &'static str,
    /// Further members between `responseElements` and `requestID`, each ending with a comma.
    pub(super) extra: &'static str,
    /// The value of `resources`; empty where there is none.
    pub(super) resources: &'static str,
    /// The value of `apiVersion`; empty where there is none.
    pub(super) api_version: &'static str,
}

const fn read(weight: usize, service: &'static str, name: &'static str, request: &'static str) -> Call {
    Call {
        weight,
        service,
        name,
        read: true,
        data: false,
        event_type: "AwsApiCall",
        request,
        response: "null",
        extra: "",
        resources: "",
        api_version: "",
    }
}

const fn write(
    weight: usize,
    service: &'static str,
    name: &'static str,
    request: &'static str,
    response: &'static str,
) -> Call {
    Call { read: false, response, ..read(weight, service, name, request) }
}

impl Call {
    const fn on(mut self, resources: &'static str) -> Self {
        self.resources = resources;
        self
    }

    const fn data(mut self) -> Self {
        self.data = true;
        self
    }

    const fn with(mut self, extra: &'static str) -> Self {
        self.extra = extra;
        self
    }

    const fn api(mut self, version: &'static str) -> Self {
        self.api_version = version;
        self
    }

    const fn kind(mut self, event_type: &'static str) -> Self {
        self.event_type = event_type;
        self
    }
}

const S3_EXTRA: &str = r#""additionalEventData":{"SignatureVersion":"SigV4","CipherSuite":"TLS_AES_128_GCM_SHA256","bytesTransferredIn":0,"AuthenticationMethod":"AuthHeader","x-amz-id-2":"~b:75~=","bytesTransferredOut":~n:900000~},"#;
const S3_OBJECT: &str = r#"[{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::example-data-lake/orders/part-~n:400~.parquet"},{"accountId":"~acct~","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::example-data-lake"}]"#;
const S3_BUCKET: &str =
    r#"[{"accountId":"~acct~","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::example-data-lake"}]"#;
const KMS_KEY: &str = r#"[{"accountId":"~acct~","type":"AWS::KMS::Key","ARN":"arn:aws:kms:~region~:~acct~:key/1f0c2b7e-5a43-4c0e-9d2b-7c1e5f3a9b60"}]"#;
const ROLE: &str =
    r#"[{"accountId":"~acct~","type":"AWS::IAM::Role","ARN":"arn:aws:iam::~acct~:role/~role~"}]"#;
const CREDENTIALS: &str = r#"{"credentials":{"accessKeyId":"ASIA~k:60~","sessionToken":"~b:300~==","expiration":"May 1, 2024, 1:02:03 PM"},"assumedRoleUser":{"assumedRoleId":"AROA~k:9~:shop-api","arn":"arn:aws:sts::~acct~:assumed-role/shop-api/shop-api"}}"#;

/// Calls that anyone makes.
pub(super) const GENERAL: &[Call] = &[
    read(90, "ec2", "DescribeInstances", r#"{"maxResults":100,"instancesSet":{},"filterSet":{"items":[{"name":"instance-state-name","valueSet":{"items":[{"value":"running"}]}},{"name":"vpc-id","valueSet":{"items":[{"value":"vpc-~p:4~"}]}}]}}"#),
    read(35, "ec2", "DescribeNetworkInterfaces", r#"{"networkInterfaceIdSet":{"items":[{"networkInterfaceId":"eni-~p:40~"},{"networkInterfaceId":"eni-~p:40~"}]},"filterSet":{}}"#),
    read(25, "ec2", "DescribeSecurityGroups", r#"{"securityGroupSet":{},"securityGroupIdSet":{"items":[{"groupId":"sg-~p:20~"}]},"filterSet":{}}"#),
    read(20, "ec2", "DescribeVolumes", r#"{"volumeSet":{},"filterSet":{"items":[{"name":"attachment.instance-id","valueSet":{"items":[{"value":"i-~p:60~"}]}}]}}"#),
    read(12, "ec2", "DescribeTags", r#"{"maxResults":1000,"filterSet":{"items":[{"name":"resource-id","valueSet":{"items":[{"value":"i-~p:60~"}]}}]}}"#),
    read(10, "ec2", "DescribeRegions", r#"{"regionSet":{},"allRegions":true}"#),
    read(10, "ec2", "DescribeSubnets", r#"{"subnetSet":{"items":[{"subnetId":"subnet-~p:6~"}]},"filterSet":{}}"#),
    read(45, "sts", "GetCallerIdentity", "null"),
    write(14, "sts", "AssumeRole", r#"{"roleArn":"arn:aws:iam::~acct~:role/~role~","roleSessionName":"shop-api","durationSeconds":3600}"#, CREDENTIALS).on(ROLE),
    read(60, "kms", "Decrypt", r#"{"encryptionAlgorithm":"SYMMETRIC_DEFAULT","encryptionContext":{"aws:s3:arn":"arn:aws:s3:::example-data-lake/orders/part-~n:400~.parquet"}}"#).on(KMS_KEY),
    read(25, "kms", "GenerateDataKey", r#"{"keyId":"arn:aws:kms:~region~:~acct~:key/1f0c2b7e-5a43-4c0e-9d2b-7c1e5f3a9b60","keySpec":"AES_256","encryptionContext":{"aws:s3:arn":"arn:aws:s3:::example-data-lake/orders/part-~n:400~.parquet"}}"#).on(KMS_KEY),
    read(6, "kms", "DescribeKey", r#"{"keyId":"alias/orders"}"#).on(KMS_KEY),
    read(45, "s3", "GetObject", r#"{"bucketName":"example-data-lake","Host":"example-data-lake.s3.~region~.amazonaws.com","key":"orders/part-~n:400~.parquet"}"#).on(S3_OBJECT).with(S3_EXTRA).data(),
    write(15, "s3", "PutObject", r#"{"bucketName":"example-data-lake","Host":"example-data-lake.s3.~region~.amazonaws.com","key":"orders/part-~n:400~.parquet","x-amz-server-side-encryption":"aws:kms"}"#, r#"{"x-amz-server-side-encryption":"aws:kms","x-amz-server-side-encryption-aws-kms-key-id":"arn:aws:kms:~region~:~acct~:key/1f0c2b7e-5a43-4c0e-9d2b-7c1e5f3a9b60"}"#).on(S3_OBJECT).with(S3_EXTRA).data(),
    read(10, "s3", "HeadObject", r#"{"bucketName":"example-data-lake","Host":"example-data-lake.s3.~region~.amazonaws.com","key":"orders/part-~n:400~.parquet"}"#).on(S3_OBJECT).with(S3_EXTRA).data(),
    read(15, "s3", "ListBuckets", r#"{"Host":"s3.~region~.amazonaws.com"}"#).with(S3_EXTRA),
    read(12, "s3", "GetBucketAcl", r#"{"bucketName":"example-data-lake","Host":"s3.~region~.amazonaws.com","acl":""}"#).on(S3_BUCKET).with(S3_EXTRA),
    read(10, "s3", "GetBucketPolicy", r#"{"bucketName":"example-data-lake","Host":"s3.~region~.amazonaws.com","policy":""}"#).on(S3_BUCKET).with(S3_EXTRA),
    write(2, "s3", "PutBucketPolicy", r#"{"bucketName":"example-data-lake","bucketPolicy":{"Version":"2012-10-17","Statement":[{"Sid":"AllowRead","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::~acct~:role/~role~"},"Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::example-data-lake","arn:aws:s3:::example-data-lake/*"]}]},"Host":"s3.~region~.amazonaws.com","policy":""}"#, "null").on(S3_BUCKET).with(S3_EXTRA),
    read(25, "logs", "DescribeLogStreams", r#"{"logGroupName":"/aws/lambda/order-processor","orderBy":"LastEventTime","descending":true}"#).api("20140328"),
    write(15, "logs", "CreateLogStream", r#"{"logGroupName":"/aws/ecs/shop-api","logStreamName":"shop-api/shop-api/~h:32~"}"#, "null").api("20140328"),
    read(12, "logs", "DescribeLogGroups", r#"{"limit":50}"#).api("20140328"),
    read(25, "elasticloadbalancing", "DescribeTargetHealth", r#"{"targetGroupArn":"arn:aws:elasticloadbalancing:~region~:~acct~:targetgroup/shop-api/73e2d6bc24d8a067"}"#).api("2015-12-01"),
    read(8, "elasticloadbalancing", "DescribeLoadBalancers", r#"{"pageSize":400}"#).api("2015-12-01"),
    write(6, "elasticloadbalancing", "RegisterTargets", r#"{"targetGroupArn":"arn:aws:elasticloadbalancing:~region~:~acct~:targetgroup/shop-api/73e2d6bc24d8a067","targets":[{"id":"10.0.~n:250~.~n:250~","port":8080}]}"#, "null").api("2015-12-01"),
    write(30, "ssm", "UpdateInstanceInformation", r#"{"agentVersion":"3.3.131.0","agentStatus":"Active","platformType":"Linux","platformName":"Amazon Linux","platformVersion":"2023","iPAddress":"10.0.~n:250~.~n:250~","computerName":"ip-10-0-~n:250~-~n:250~.~region~.compute.internal","agentName":"amazon-ssm-agent","availabilityZone":"~region~a","availabilityZoneId":"use1-az4","sSMConnectionChannel":"ssmmessages","instanceId":"i-~p:60~"}"#, "null"),
    read(15, "ssm", "GetParameters", r#"{"names":["/shop/api/database-url","/shop/api/feature-flags"],"withDecryption":true}"#),
    read(8, "ssm", "GetParametersByPath", r#"{"path":"/shop/","recursive":true,"withDecryption":true,"nextToken":"~b:40~"}"#),
    read(15, "secretsmanager", "GetSecretValue", r#"{"secretId":"arn:aws:secretsmanager:~region~:~acct~:secret:shop/database-Ab12Cd"}"#),
    read(4, "secretsmanager", "DescribeSecret", r#"{"secretId":"shop/database"}"#),
    read(25, "ecr", "BatchGetImage", r#"{"registryId":"~acct~","repositoryName":"shop-api","imageIds":[{"imageTag":"2024-05-01"}],"acceptedMediaTypes":["application/vnd.docker.distribution.manifest.v2+json","application/vnd.oci.image.manifest.v1+json"]}"#).on(r#"[{"accountId":"~acct~","ARN":"arn:aws:ecr:~region~:~acct~:repository/shop-api"}]"#),
    read(10, "ecr", "GetAuthorizationToken", "null"),
    read(20, "dynamodb", "DescribeTable", r#"{"tableName":"orders"}"#).on(r#"[{"accountId":"~acct~","type":"AWS::DynamoDB::Table","ARN":"arn:aws:dynamodb:~region~:~acct~:table/orders"}]"#).api("2012-08-10"),
    read(20, "monitoring", "DescribeAlarms", r#"{"maxRecords":100,"alarmNamePrefix":"shop-"}"#),
    read(15, "monitoring", "ListMetrics", r#"{"namespace":"AWS/ApplicationELB","recentlyActive":"PT3H"}"#),
    write(5, "monitoring", "PutMetricAlarm", r#"{"alarmName":"shop-api-5xx","alarmDescription":"more than 5 % errors, see \"runbook\"","actionsEnabled":true,"metricName":"HTTPCode_Target_5XX_Count","namespace":"AWS/ApplicationELB","statistic":"Sum","period":60,"evaluationPeriods":5,"threshold":~n:90~.5,"comparisonOperator":"GreaterThanThreshold"}"#, "null"),
    write(20, "ecs", "SubmitTaskStateChange", r#"{"cluster":"arn:aws:ecs:~region~:~acct~:cluster/shop","task":"arn:aws:ecs:~region~:~acct~:task/shop/~h:32~","status":"RUNNING"}"#, r#"{"acknowledgment":"NO_ACK"}"#),
    read(12, "ecs", "DescribeServices", r#"{"cluster":"shop","services":["shop-api","shop-worker"]}"#),
    write(8, "ecs", "DiscoverPollEndpoint", r#"{"containerInstance":"arn:aws:ecs:~region~:~acct~:container-instance/shop/~h:32~","cluster":"shop"}"#, r#"{"endpoint":"https://ecs-a-1.~region~.amazonaws.com/","telemetryEndpoint":"https://ecs-t-1.~region~.amazonaws.com/"}"#),
    read(15, "eks", "DescribeCluster", r#"{"name":"platform"}"#),
    read(12, "lambda", "GetFunction20150331v2", r#"{"functionName":"arn:aws:lambda:~region~:~acct~:function:order-processor"}"#).api("2015-03-31"),
    write(10, "lambda", "Invoke", r#"{"functionName":"arn:aws:lambda:~region~:~acct~:function:order-processor","invocationType":"Event"}"#, "null").on(r#"[{"accountId":"~acct~","type":"AWS::Lambda::Function","ARN":"arn:aws:lambda:~region~:~acct~:function:order-processor"}]"#).with(r#""additionalEventData":{"functionVersion":"arn:aws:lambda:~region~:~acct~:function:order-processor:$LATEST"},"#).data(),
    write(2, "lambda", "UpdateFunctionCode20150331v2", r#"{"functionName":"order-processor","publish":false,"dryRun":false,"s3Bucket":"example-artifacts","s3Key":"order-processor/~h:40~.zip"}"#, r#"{"functionName":"order-processor","functionArn":"arn:aws:lambda:~region~:~acct~:function:order-processor","runtime":"provided.al2023","role":"arn:aws:iam::~acct~:role/service-role/order-processor-execution","handler":"bootstrap","codeSize":~n:9000000~,"timeout":30,"memorySize":256,"codeSha256":"~b:43~=","version":"$LATEST","tracingConfig":{"mode":"PassThrough"},"revisionId":"~u~","state":"Active","packageType":"Zip","architectures":["arm64"],"ephemeralStorage":{"size":512}}"#).api("2015-03-31"),
    read(15, "iam", "GetRole", r#"{"roleName":"~role~"}"#),
    read(10, "iam", "ListAttachedRolePolicies", r#"{"roleName":"~role~"}"#),
    read(6, "iam", "GetUser", "null"),
    write(3, "iam", "PutRolePolicy", r#"{"roleName":"~role~","policyName":"inline-~h:6~","policyDocument":"{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\n      \"Sid\": \"Stmt~n:99999~\",\n      \"Effect\": \"Allow\",\n      \"Action\": [\n        \"s3:GetObject\",\n        \"kms:Decrypt\"\n      ],\n      \"Resource\": \"arn:aws:s3:::example-data-lake/*\",\n      \"Condition\": {\"StringLike\": {\"aws:PrincipalArn\": \"arn:aws:iam::*:role/\\\\path\\\\*\"}}\n    }\n  ]\n}"}"#, "null"),
    write(2, "iam", "AttachRolePolicy", r#"{"roleName":"~role~","policyArn":"arn:aws:iam::aws:policy/ReadOnlyAccess"}"#, "null"),
    write(1, "iam", "CreateAccessKey", r#"{"userName":"deploy-bot"}"#, r#"{"accessKey":{"accessKeyId":"AKIA~k:8~","status":"Active","userName":"deploy-bot","createDate":"May 1, 2024, 12:00:00 PM"}}"#),
    write(1, "iam", "CreateUser", r#"{"userName":"contractor-~n:90~","tags":[{"key":"team","value":"payments"}]}"#, r#"{"user":{"path":"/","userName":"contractor","userId":"AIDA~k:9~","arn":"arn:aws:iam::~acct~:user/contractor","createDate":"May 1, 2024, 12:00:00 PM"}}"#),
    write(4, "ec2", "RunInstances", r#"{"instancesSet":{"items":[{"imageId":"ami-~p:3~","minCount":1,"maxCount":1,"keyName":"ops"}]},"groupSet":{"items":[{"groupId":"sg-~p:20~"}]},"userData":"<sensitiveDataRemoved>","instanceType":"m7g.large","blockDeviceMapping":{"items":[{"deviceName":"/dev/xvda","ebs":{"volumeSize":50,"deleteOnTermination":true,"volumeType":"gp3","iops":3000,"throughput":125}}]},"monitoring":{"enabled":false},"disableApiTermination":false,"clientToken":"~u~","tagSpecificationSet":{"items":[{"resourceType":"instance","tags":[{"key":"Name","value":"web-~n:500~"},{"key":"note","value":"quote \" and brace }} and backslash \\ end"}]}]}}"#, r#"{"requestId":"~u~","reservationId":"r-~h:17~","ownerId":"~acct~","groupSet":{},"instancesSet":{"items":[{"instanceId":"i-~h:17~","imageId":"ami-~p:3~","currentState":{"code":0,"name":"pending"},"previousState":{"code":0,"name":"pending"},"instanceState":{"code":0,"name":"pending"},"privateDnsName":"ip-10-0-~n:250~-~n:250~.ec2.internal","keyName":"ops","amiLaunchIndex":0,"productCodes":{},"instanceType":"m7g.large","launchTime":~ms~,"placement":{"availabilityZone":"~region~b","tenancy":"default"},"monitoring":{"state":"disabled"},"subnetId":"subnet-~p:6~","vpcId":"vpc-~p:4~","stateReason":{"code":"pending","message":"pending"},"architecture":"arm64","rootDeviceType":"ebs","rootDeviceName":"/dev/xvda","blockDeviceMapping":{},"virtualizationType":"hvm","hypervisor":"xen","tagSet":{"items":[{"key":"Name","value":"web"}]},"clientToken":"~u~","groupSet":{"items":[{"groupId":"sg-~p:20~","groupName":"web"}]},"sourceDestCheck":true,"networkInterfaceSet":{"items":[{"networkInterfaceId":"eni-~h:17~","subnetId":"subnet-~p:6~","vpcId":"vpc-~p:4~","ownerId":"~acct~","status":"in-use","macAddress":"0a:~h:2~:~h:2~:~h:2~:~h:2~:~h:2~","sourceDestCheck":true,"interfaceType":"interface","groupSet":{"items":[{"groupId":"sg-~p:20~","groupName":"web"}]},"attachment":{"attachmentId":"eni-attach-~h:17~","deviceIndex":0,"networkCardIndex":0,"status":"attaching","attachTime":~ms~,"deleteOnTermination":true},"privateIpAddressesSet":{"item":[{"privateIpAddress":"10.0.~n:250~.~n:250~","primary":true}]},"ipv6AddressesSet":{},"tagSet":{}}]},"ebsOptimized":false,"enaSupport":true,"cpuOptions":{"coreCount":2,"threadsPerCore":1},"capacityReservationSpecification":{"capacityReservationPreference":"open"},"enclaveOptions":{"enabled":false},"metadataOptions":{"state":"pending","httpTokens":"required","httpPutResponseHopLimit":2,"httpEndpoint":"enabled","httpProtocolIpv6":"disabled","instanceMetadataTags":"disabled"},"maintenanceOptions":{"autoRecovery":"default"}}]},"requesterId":"~acct~"}"#),
    write(3, "ec2", "TerminateInstances", r#"{"instancesSet":{"items":[{"instanceId":"i-~p:60~"}]}}"#, r#"{"requestId":"~u~","instancesSet":{"items":[{"instanceId":"i-~p:60~","currentState":{"code":32,"name":"shutting-down"},"previousState":{"code":16,"name":"running"}}]}}"#),
    write(3, "ec2", "CreateTags", r#"{"resourcesSet":{"items":[{"resourceId":"vol-~p:30~"}]},"tagSet":{"items":[{"key":"owner","value":"payments"},{"key":"cost-centre","value":"~n:900~"}]}}"#, r#"{"requestId":"~u~","_return":true}"#),
    write(2, "ec2", "AuthorizeSecurityGroupIngress", r#"{"groupId":"sg-~p:20~","ipPermissions":{"items":[{"ipProtocol":"tcp","fromPort":443,"toPort":443,"groups":{},"ipRanges":{"items":[{"cidrIp":"0.0.0.0/0","description":"B\u00fcro \u003cM\u00fcnchen\u003e"}]},"ipv6Ranges":{},"prefixListIds":{}}]}}"#, r#"{"requestId":"~u~","_return":true,"securityGroupRuleSet":{"items":[{"groupOwnerId":"~acct~","groupId":"sg-~p:20~","securityGroupRuleId":"sgr-~h:17~","isEgress":false,"ipProtocol":"tcp","fromPort":443,"toPort":443,"cidrIpv4":"0.0.0.0/0"}]}}"#),
    write(1, "cloudtrail", "StopLogging", r#"{"name":"arn:aws:cloudtrail:~region~:~acct~:trail/organization"}"#, "null"),
    read(8, "cloudtrail", "DescribeTrails", r#"{"trailNameList":[],"includeShadowTrails":true}"#),
    read(6, "cloudtrail", "LookupEvents", r#"{"maxResults":50}"#),
    read(10, "config", "DescribeConfigurationRecorderStatus", "null"),
    write(8, "config", "PutEvaluations", r#"{"evaluations":[{"complianceResourceType":"AWS::S3::Bucket","complianceResourceId":"example-data-lake","complianceType":"COMPLIANT","orderingTimestamp":1.714564800123E9}],"resultToken":"***","testMode":false}"#, r#"{"failedEvaluations":[]}"#),
    read(10, "organizations", "DescribeOrganization", "null"),
    read(8, "organizations", "ListAccounts", "null"),
    read(10, "rds", "DescribeDBInstances", r#"{"dBInstanceIdentifier":"orders"}"#),
    write(2, "rds", "CreateDBSnapshot", r#"{"dBSnapshotIdentifier":"orders-~n:9999~","dBInstanceIdentifier":"orders"}"#, r#"{"dBSnapshotIdentifier":"orders","dBInstanceIdentifier":"orders","engine":"postgres","allocatedStorage":100,"status":"creating","port":5432,"availabilityZone":"~region~a","vpcId":"vpc-~p:4~","masterUsername":"orders","engineVersion":"16.2","licenseModel":"postgresql-license","snapshotType":"manual","percentProgress":0,"storageType":"gp3","encrypted":true}"#),
    read(12, "autoscaling", "DescribeAutoScalingGroups", r#"{"autoScalingGroupNames":["shop-api"],"maxRecords":100}"#),
    write(3, "autoscaling", "SetDesiredCapacity", r#"{"autoScalingGroupName":"shop-api","desiredCapacity":~n:20~,"honorCooldown":false}"#, "null"),
    read(6, "sqs", "GetQueueAttributes", r#"{"queueUrl":"https://sqs.~region~.amazonaws.com/~acct~/orders","attributeNames":["All"]}"#).on(r#"[{"accountId":"~acct~","type":"AWS::SQS::Queue","ARN":"arn:aws:sqs:~region~:~acct~:orders"}]"#),
    write(4, "sns", "Publish", r#"{"topicArn":"arn:aws:sns:~region~:~acct~:orders","message":"HIDDEN_DUE_TO_SECURITY_REASONS"}"#, r#"{"messageId":"~u~"}"#).on(r#"[{"accountId":"~acct~","type":"AWS::SNS::Topic","ARN":"arn:aws:sns:~region~:~acct~:orders"}]"#).data(),
    read(6, "cloudformation", "DescribeStacks", r#"{"stackName":"shop-~n:9~"}"#),
    write(2, "cloudformation", "CreateChangeSet", r#"{"stackName":"shop","changeSetName":"deploy-~n:9999~","changeSetType":"UPDATE","capabilities":["CAPABILITY_NAMED_IAM"],"parameters":[{"parameterKey":"Image","usePreviousValue":true}],"templateURL":"https://s3.~region~.amazonaws.com/example-artifacts/shop.yaml"}"#, r#"{"id":"arn:aws:cloudformation:~region~:~acct~:changeSet/deploy/~u~","stackId":"arn:aws:cloudformation:~region~:~acct~:stack/shop/6f0d0cb0-07a4-11ef-9d5c-0a1b2c3d4e5f"}"#),
    read(8, "health", "DescribeEventAggregates", r#"{"filter":{"eventStatusCodes":["open","upcoming"],"startTimes":[{"from":"May 1, 2024, 5:40:12\u202fAM"}]},"aggregateField":"eventTypeCategory"}"#),
    read(6, "route53", "ListHostedZones", "null").api("2013-04-01"),
    read(5, "acm", "ListCertificates", r#"{"maxItems":100}"#),
    read(5, "tagging", "GetResources", r#"{"resourcesPerPage":100,"tagFilters":[{"key":"team","values":["payments"]}]}"#),
    read(4, "glue", "GetTables", r#"{"databaseName":"lake","maxResults":100}"#),
    write(5, "athena", "StartQueryExecution", r#"{"queryString":"***OMITTED***","clientRequestToken":"~u~","queryExecutionContext":{"database":"lake"},"workGroup":"analysts"}"#, r#"{"queryExecutionId":"~u~"}"#),
];

/// Taking on a role by SAML.
pub(super) const SAML: &[Call] = &[write(
    1,
    "sts",
    "AssumeRoleWithSAML",
    r#"{"sAMLAssertionID":"_~u~","roleSessionName":"~user~@example.com","roleArn":"arn:aws:iam::~acct~:role/~role~","principalArn":"arn:aws:iam::~acct~:saml-provider/corporate","durationSeconds":3600}"#,
    r#"{"credentials":{"accessKeyId":"ASIA~k:60~","sessionToken":"~b:300~==","expiration":"May 1, 2024, 1:02:03 PM"},"assumedRoleUser":{"assumedRoleId":"AROA~k:9~:~user~@example.com","arn":"arn:aws:sts::~acct~:assumed-role/~role~/~user~@example.com"},"subject":"~user~@example.com","subjectType":"persistent","issuer":"https://idp.example.com/","audience":"https://signin.aws.amazon.com/saml","nameQualifier":"~b:27~="}"#,
)
.on(ROLE)];

/// Taking on a role by a web identity.
pub(super) const WEB_IDENTITY: &[Call] = &[write(
    1,
    "sts",
    "AssumeRoleWithWebIdentity",
    r#"{"roleArn":"arn:aws:iam::~acct~:role/~role~","roleSessionName":"GitHubActions","durationSeconds":3600}"#,
    r#"{"credentials":{"accessKeyId":"ASIA~k:60~","sessionToken":"~b:300~==","expiration":"May 1, 2024, 1:02:03 PM"},"subjectFromWebIdentityToken":"repo:example/shop:ref:refs/heads/main","assumedRoleUser":{"assumedRoleId":"AROA~k:9~:GitHubActions","arn":"arn:aws:sts::~acct~:assumed-role/~role~/GitHubActions"},"provider":"arn:aws:iam::~acct~:oidc-provider/token.actions.githubusercontent.com","audience":"sts.amazonaws.com"}"#,
)
.on(ROLE)];

/// What is called without credentials of this account.
pub(super) const FOREIGN: &[Call] = &[
    read(3, "s3", "GetObject", r#"{"bucketName":"example-data-lake","Host":"example-data-lake.s3.~region~.amazonaws.com","key":"public/index-~n:40~.html"}"#)
        .on(S3_OBJECT)
        .with(S3_EXTRA)
        .data(),
    read(1, "s3", "ListObjects", r#"{"bucketName":"example-data-lake","Host":"example-data-lake.s3.~region~.amazonaws.com","prefix":"public/","list-type":"2"}"#)
        .on(S3_BUCKET)
        .with(S3_EXTRA)
        .data(),
];

/// What services report of themselves.
pub(super) const SERVICE_EVENTS: &[Call] = &[
    write(2, "kms", "RotateKey", "null", "null")
        .kind("AwsServiceEvent")
        .with(r#""serviceEventDetails":{"keyId":"1f0c2b7e-5a43-4c0e-9d2b-7c1e5f3a9b60","rotationType":"AUTOMATIC"},"#)
        .on(KMS_KEY),
    write(3, "secretsmanager", "RotationStarted", "null", "null")
        .kind("AwsServiceEvent")
        .with(r#""additionalEventData":{"SecretId":"arn:aws:secretsmanager:~region~:~acct~:secret:shop/database-Ab12Cd"},"#),
    write(2, "autoscaling", "LifecycleActionCompleted", "null", "null")
        .kind("AwsServiceEvent")
        .with(r#""serviceEventDetails":{"autoScalingGroupName":"shop-api","lifecycleHookName":"drain","instanceId":"i-~p:60~"},"#),
    write(1, "health", "UpdateEventDetails", "null", "null")
        .kind("AwsServiceEvent")
        .with(r#""serviceEventDetails":"state changed to \"closed\"","#),
];

/// Signing in to the console; the other answer stands in [`SIGN_IN_FAILED`].
pub(super) const SIGN_IN: &[Call] = &[
    write(3, "signin", "ConsoleLogin", "null", r#"{"ConsoleLogin":"Success"}"#)
        .kind("AwsConsoleSignIn")
        .with(r#""additionalEventData":{"LoginTo":"https://console.aws.amazon.com/console/home?hashArgs\u003d%23\u0026isauthcode\u003dtrue\u0026state\u003dhashArgsFromTB_~region~_~h:16~","MobileVersion":"No","MFAUsed":"Yes"},"#),
    write(1, "signin", "ConsoleLogin", "null", SIGN_IN_FAILED)
        .kind("AwsConsoleSignIn")
        .with(r#""additionalEventData":{"LoginTo":"https://console.aws.amazon.com/console/home","MobileVersion":"No","MFAUsed":"No"},"#),
];

/// The answer to a sign-in that failed.
pub(super) const SIGN_IN_FAILED: &str = r#"{"ConsoleLogin":"Failure"}"#;
