"""The documented commands that no test runs, each with its reason.

A pattern is that of `fnmatch`, over the words of a command with one space between them. Commands of
`vicregl-bench` are parsed all the same: they and their options exist.
"""

NOT_RUN = {
    "make *": "sets up an environment from the network",
    "python -m pip *": "installs from the network, compiles",
    "pip install *": "installs from the network, compiles",
    "python -m tests.golden.make *": "writes into the checkout; tests/golden has a test of it",
    "export *": "is of the reader's own shell",
    "python train.py *": "needs detectron2, which has no wheel",
    "vicregl-bench run * --engine detectron2 *": "needs detectron2, which has no wheel",
    "vicregl-bench run * --task voc_fcn_ft *": "fine-tuning is run by voc_linear_ft: same path",
    "vicregl-bench run * --task voc_det_frcnn_c4 --data-root VOCdevkit": (
        "fine-tuning is run by voc_linear_ft, detection by voc_det_linear; tests/tasks has both"
    ),
    "for *": "is a study of hours; tests/pretrain runs its script",
    "done": "ends a loop",
    "examples/low_data.sh *": "is two commands, each of which is run",
}
