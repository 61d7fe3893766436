"""Reads a folder of Parquet objects with pyarrow or Spark, and writes the columns' types and all rows as JSON lines.

Runs in the environment that has both; the lane `parquet.py` starts it.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "spark"))


def plain(value: object) -> object:
    """Times as CloudTrail writes them; maps as objects."""
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    raise TypeError(type(value))


def by_pyarrow(folder: str) -> tuple[dict[str, str], list[dict]]:
    """All rows of a data set whose folder names are text."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    names = pa.schema([(name, pa.string()) for name in ("account", "region", "day")])
    data = ds.dataset(folder, format="parquet", partitioning=ds.partitioning(names, flavor="hive"))
    table = data.to_table()
    return {column.name: str(column.type) for column in table.schema}, table.to_pylist()


def by_spark(folder: str) -> tuple[dict[str, str], list[dict]]:
    """All rows, with the session of the shipped job."""
    import investigate

    spark = investigate.session()
    events = spark.read.parquet(folder)
    # Spark gives out times without a zone, in that of the machine.
    times = events.withColumn("eventtime_ts", events.eventtime_ts.cast("string"))
    rows = [row.asDict(recursive=True) for row in times.collect()]
    for row in rows:
        row["eventtime_ts"] = row["eventtime_ts"] and row["eventtime_ts"].replace(" ", "T") + "Z"
    return dict(events.dtypes), rows


def main() -> None:
    """`parquet_readers.py STEPS`: a JSON list of `["pyarrow" or "spark", FOLDER, OUT]` and `["job", ARGUMENT…]`.

    One process for all: Spark takes longer to start than to answer.
    """
    for step, *arguments in json.loads(sys.argv[1]):
        if step == "job":
            import investigate

            investigate.main(arguments)
            continue
        folder, out = arguments
        types, rows = {"pyarrow": by_pyarrow, "spark": by_spark}[step](folder)
        with Path(out).open("w") as lines:
            for value in [types, *rows]:
                lines.write(json.dumps(value, default=plain) + "\n")


if __name__ == "__main__":
    main()
