"""Files of any kind, read without running what their author put into them, in bounded memory.

`read` tells the kind by content. Pickles are scanned (`pickle_scan`) and rebuilt from harmless
parts alone (`stand_ins`); those of torch are rehearsed first (`torch_rehearsal`), so that every
size they claim is in the file.
"""

from vicregl_bench.checkpoints.files.read import read_file
from vicregl_bench.digest import file_sha256

__all__ = ["file_sha256", "read_file"]
