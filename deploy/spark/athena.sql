-- The table for what the sink `parquet` writes. Replace BUCKET/PREFIX, the accounts, the regions and the first day.
--
-- Partitions are projected: no crawler, no MSCK REPAIR. `account` is a string: as a number, 012345678901 would lose its
-- leading zero and match nothing. Events without a time lie below day=undated, which a projected range of dates does not
-- reach: look there with a table of its own, or with Spark.
CREATE EXTERNAL TABLE trailship_cloudtrail (
  eventversion string,
  useridentity struct<type:string,principalid:string,arn:string,accountid:string,invokedby:string,accesskeyid:string,username:string,onbehalfof:struct<userid:string,identitystorearn:string>,sessioncontext:struct<attributes:struct<mfaauthenticated:string,creationdate:string>,sessionissuer:struct<type:string,principalid:string,arn:string,accountid:string,username:string>,ec2roledelivery:string,webidfederationdata:struct<federatedprovider:string,attributes:map<string,string>>>>,
  eventtime string,
  eventsource string,
  eventname string,
  awsregion string,
  sourceipaddress string,
  useragent string,
  errorcode string,
  errormessage string,
  requestparameters string,
  responseelements string,
  additionaleventdata string,
  requestid string,
  eventid string,
  readonly string,
  resources array<struct<arn:string,accountid:string,type:string>>,
  eventtype string,
  apiversion string,
  recipientaccountid string,
  serviceeventdetails string,
  sharedeventid string,
  vpcendpointid string,
  vpcendpointaccountid string,
  eventcategory string,
  addendum struct<reason:string,updatedfields:string,originalrequestid:string,originaleventid:string>,
  sessioncredentialfromconsole string,
  edgedevicedetails string,
  tlsdetails struct<tlsversion:string,ciphersuite:string,clientprovidedhostheader:string>,
  eventtime_ts timestamp,
  actor_class string,
  actor_kind string,
  actor_service string,
  actor_principal string,
  actor_principal_id string,
  actor_account string,
  actor_role string,
  actor_session string,
  actor_identity_center_user string,
  actor_on_behalf_of boolean,
  actor_console boolean,
  trailship_bucket string,
  trailship_key string,
  trailship_record bigint,
  trailship_labels map<string,string>,
  record string
)
PARTITIONED BY (
  account string,
  region string,
  day string
)
STORED AS PARQUET
LOCATION 's3://BUCKET/PREFIX/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.account.type' = 'enum',
  'projection.account.values' = '012345678901,111122223333',
  'projection.region.type' = 'enum',
  'projection.region.values' = 'eu-west-1,us-east-1',
  'projection.day.type' = 'date',
  'projection.day.format' = 'yyyy-MM-dd',
  'projection.day.range' = '2024-01-01,NOW',
  'projection.day.interval' = '1',
  'projection.day.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://BUCKET/PREFIX/account=${account}/region=${region}/day=${day}/'
);

-- Who failed to sign in yesterday, most first.
SELECT account, useridentity.username, sourceipaddress, count(*) AS failures
FROM trailship_cloudtrail
WHERE day = date_format(current_date - interval '1' day, '%Y-%m-%d')
  AND eventname = 'ConsoleLogin' AND json_extract_scalar(responseelements, '$.ConsoleLogin') = 'Failure'
GROUP BY 1, 2, 3
ORDER BY failures DESC;

-- Events that were delivered to the trail's bucket twice, or shipped by two agents into one place, show once each.
SELECT count(*) AS row_count, count(DISTINCT eventid) AS event_count
FROM trailship_cloudtrail
WHERE day = date_format(current_date, '%Y-%m-%d');
