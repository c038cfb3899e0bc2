"""What tests of features share."""

import pytest

from vicregl_bench.features import chunks as chunks_module


@pytest.fixture(params=[None, 60], ids=["whole", "in chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param is not None:
        monkeypatch.setattr(chunks_module, "_CHUNK", request.param)
