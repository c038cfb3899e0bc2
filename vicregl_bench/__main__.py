"""`python -m vicregl_bench` is `vicregl-bench`."""

from vicregl_bench.cli.main import main

main()
