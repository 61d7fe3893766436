"""Answers the questions of an investigation from what the sink `parquet` wrote, and packs its small objects together.

    spark-submit investigate.py failed-logins --data s3://lake/trail/ --since 2024-05-01 --until 2024-05-03
    spark-submit investigate.py touched --principal arn:aws:iam::012345678901:user/alice --data s3://lake/trail/
    spark-submit investigate.py on-behalf --account 012345678901 --data s3://lake/trail/
    spark-submit investigate.py compact --since 2024-05-01 --until 2024-05-01 --data s3://lake/trail/ --output s3://lake/packed/

Needs Spark 3.4 or newer, and nothing else: the same file runs on a laptop, on EMR and on EMR Serverless.
"""

from __future__ import annotations

import argparse
import datetime
import sys

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

ROWS_SHOWN = 200
"""A table on the screen has no more rows; `--output` has all."""

PACKED_ROWS = 2_000_000
"""Rows of a packed file at the most: some hundred MB with zstd."""


def session() -> SparkSession:
    """A session that reads folder names as they are.

    With Spark's default, `account=012345678901` becomes the number 12345678901: the leading zero is lost, and no filter
    by the account's id finds it again. `day=undated` would make a text of a column that is a date elsewhere.
    """
    spark = SparkSession.builder.appName("trailship").getOrCreate()
    spark.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    return spark


def load(spark: SparkSession, options: argparse.Namespace) -> DataFrame:
    """The events that the options ask for; folders that they exclude are not read."""
    events = spark.read.parquet(options.data)
    in_time = F.lit(True)
    if options.since:
        in_time = in_time & (F.col("day") >= F.lit(options.since.isoformat()))
    if options.until:
        in_time = in_time & (F.col("day") <= F.lit(options.until.isoformat()))
    # As text, `undated` is later than every date.
    is_undated = F.col("day") == F.lit("undated")
    events = events.where(in_time & ~is_undated | is_undated if options.undated else in_time & ~is_undated)
    if options.account:
        events = events.where(F.col("account").isin(options.account))
    if options.region:
        events = events.where(F.col("region").isin(options.region))
    return events


def once(events: DataFrame) -> DataFrame:
    """Each event once, where several trails deliver the same ones. An event without an id is told by its place."""
    place = F.concat_ws("#", "trailship_bucket", "trailship_key", F.col("trailship_record").cast("string"))
    event = F.coalesce(F.col("eventid"), place)
    return events.withColumn("_event", event).dropDuplicates(["account", "_event"]).drop("_event")


def counted() -> list[Column]:
    """How often, and when for the first and the last time."""
    return [
        F.count(F.lit(1)).alias("events"),
        F.min("eventtime_ts").alias("first"),
        F.max("eventtime_ts").alias("last"),
    ]


def failed_logins(events: DataFrame, _: argparse.Namespace) -> DataFrame:
    """Who failed to sign in: to the console, by IAM Identity Center, or with a federated identity at STS."""
    said = F.lit(False)
    for column, key in [
        ("responseelements", "ConsoleLogin"),
        ("responseelements", "SwitchRole"),
        ("responseelements", "CheckMfa"),
        ("serviceeventdetails", "CredentialVerification"),
        ("serviceeventdetails", "UserAuthentication"),
    ]:
        answer = F.get_json_object(F.col(column), f"$.{key}")
        said = said | F.coalesce(answer == F.lit("Failure"), F.lit(False))
    failed = F.col("errorcode").isNotNull() | F.col("errormessage").isNotNull()
    at_signin = (F.col("eventsource") == "signin.amazonaws.com") & (said | failed)
    federated = F.col("eventname").isin("AssumeRoleWithSAML", "AssumeRoleWithWebIdentity")
    at_sts = (F.col("eventsource") == "sts.amazonaws.com") & federated & F.col("errorcode").isNotNull()
    who = F.coalesce("useridentity.username", "useridentity.arn", "useridentity.principalid", "actor_principal")
    grouped = events.where(at_signin | at_sts).groupBy(
        "account",
        F.coalesce(who, F.lit("unknown")).alias("who"),
        "eventname",
        "sourceipaddress",
        F.coalesce("errormessage", "errorcode").alias("why"),
    )
    return grouped.agg(*counted()).orderBy(F.desc("events"), "account", "who")


def touched(events: DataFrame, options: argparse.Namespace) -> DataFrame:
    """What a principal touched: by its ARN, its role's ARN, its unique id or its access key."""
    columns = ["actor_principal", "actor_role", "actor_principal_id", "useridentity.accesskeyid"]
    is_it = F.lit(False)
    for column in columns:
        is_it = is_it | F.coalesce(F.col(column) == F.lit(options.principal), F.lit(False))
    exploded = events.where(is_it).withColumn("resource", F.explode_outer("resources"))
    grouped = exploded.groupBy(
        "account",
        "region",
        "eventsource",
        "eventname",
        F.col("resource.arn").alias("resource"),
        F.col("errorcode").alias("refused_with"),
    )
    return grouped.agg(*counted()).orderBy("account", "region", "eventsource", "eventname", "resource")


def on_behalf(events: DataFrame, _: argparse.Namespace) -> DataFrame:
    """What AWS services did on whose behalf: with a service role, or with the session of whoever called them."""
    grouped = events.where(F.col("actor_on_behalf_of")).groupBy(
        "account",
        F.col("actor_service").alias("service"),
        F.coalesce("actor_role", "actor_principal", F.lit("unknown")).alias("on_behalf_of"),
        "eventsource",
        "eventname",
    )
    return grouped.agg(*counted()).orderBy(F.desc("events"), "account", "service", "on_behalf_of")


def compact(events: DataFrame, options: argparse.Namespace) -> None:
    """Writes the chosen days again in large files, elsewhere; a second run replaces what the first one wrote.

    Pack a day when it is over for some hours: events that arrive later are packed by another run of the same day.
    """
    if not options.output or options.output.rstrip("/") == options.data.rstrip("/"):
        sys.exit("compact: give --output, another place than --data")
    rows = once(events).repartition("account", "region", "day")
    rows = rows.sortWithinPartitions("account", "region", "day", "eventtime_ts", "trailship_key", "trailship_record")
    writer = rows.write.mode("overwrite").option("partitionOverwriteMode", "dynamic")
    writer = writer.option("maxRecordsPerFile", PACKED_ROWS).option("compression", "zstd")
    writer.partitionBy("account", "region", "day").parquet(options.output)


QUESTIONS = {"failed-logins": failed_logins, "touched": touched, "on-behalf": on_behalf}


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("question", choices=[*QUESTIONS, "compact"])
    parser.add_argument("--data", required=True, help="what the sink writes to: s3://BUCKET/PREFIX/ or a folder")
    parser.add_argument("--since", type=datetime.date.fromisoformat, help="the first day, YYYY-MM-DD")
    parser.add_argument("--until", type=datetime.date.fromisoformat, help="the last day, YYYY-MM-DD")
    parser.add_argument("--account", action="append", help="twelve digits; may be given again")
    parser.add_argument("--region", action="append", help="may be given again")
    parser.add_argument("--undated", action="store_true", help="also events that do not say when they happened")
    parser.add_argument("--principal", help="for touched: an ARN, a unique id (AIDA…, AROA…) or an access key (AKIA…, ASIA…)")
    parser.add_argument("--output", help="a folder for the answer as JSON lines; without it, a table is shown")
    options = parser.parse_args(given)
    if options.question == "touched" and not options.principal:
        parser.error("touched: give --principal")
    return options


def main(given: list[str] | None = None) -> None:
    """Answers one question."""
    options = arguments(given)
    spark = session()
    events = load(spark, options)
    if options.question == "compact":
        compact(events, options)
        return
    answer = QUESTIONS[options.question](once(events), options)
    if options.output:
        answer.coalesce(1).write.mode("overwrite").json(options.output)
    else:
        answer.show(ROWS_SHOWN, truncate=False)


if __name__ == "__main__":
    main()
