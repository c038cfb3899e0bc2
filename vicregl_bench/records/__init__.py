"""Records: one JSON file a run, typed, versioned, written whole."""

from vicregl_bench.records.schema import (
    SCHEMA_VERSION,
    Best,
    CheckpointInfo,
    Cost,
    DataInfo,
    Environment,
    HeadResult,
    Progress,
    Record,
    TaskInfo,
    TrainedParameter,
)
from vicregl_bench.records.store import find_record, read_record, read_records, write_record

__all__ = [
    "SCHEMA_VERSION",
    "Best",
    "CheckpointInfo",
    "Cost",
    "DataInfo",
    "Environment",
    "HeadResult",
    "Progress",
    "Record",
    "TaskInfo",
    "TrainedParameter",
    "find_record",
    "read_record",
    "read_records",
    "write_record",
]
