"""Checkpoints: a file in, a backbone's weights and a report of where they lay out.

`load_checkpoint` reads a file without running code from it (`files`), lists its containers
(`contents`), tells the method by its keys (`registry`, one file a method), finds the backbone by
names and shapes (`match`, `coverage`) and returns checked float32 tensors (`weights`) with the
method's card (`card`). The caller says which backbones exist; this package knows none.
"""

from vicregl_bench.checkpoints.card import Card
from vicregl_bench.checkpoints.contents import (
    Container,
    ContainerSummary,
    Contents,
    FileSummary,
    find_containers,
    summarise_file,
)
from vicregl_bench.checkpoints.coverage import Coverage
from vicregl_bench.checkpoints.files import file_sha256, read_file
from vicregl_bench.checkpoints.load import Checkpoint, load_checkpoint
from vicregl_bench.checkpoints.match import Resolution, Targets, resolve
from vicregl_bench.checkpoints.reader import Reader
from vicregl_bench.checkpoints.registry import READERS, find_reader, method_names, recognise
from vicregl_bench.checkpoints.weights import weights_sha256

__all__ = [
    "READERS",
    "Card",
    "Checkpoint",
    "Container",
    "ContainerSummary",
    "Contents",
    "Coverage",
    "FileSummary",
    "Reader",
    "Resolution",
    "Targets",
    "file_sha256",
    "find_containers",
    "find_reader",
    "load_checkpoint",
    "method_names",
    "read_file",
    "recognise",
    "resolve",
    "summarise_file",
    "weights_sha256",
]
