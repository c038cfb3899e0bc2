"""The page: records as one static HTML file that needs no network."""

from vicregl_bench.page.build import build_page
from vicregl_bench.page.contents import Contents, page_contents

__all__ = ["Contents", "build_page", "page_contents"]
