"""vicregl-bench: how good are the features of a self-supervised backbone, on dense tasks.

The way of the data: a checkpoint file is read by `checkpoints`, becomes feature maps in
`backbones`, is judged by a task (`tasks`, over `heads` and `data`), leaves one `records` file, and
`tables` puts records side by side. Importing this package has no side effects.
"""

__version__ = "0.1.0"
