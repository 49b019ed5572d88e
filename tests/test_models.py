"""Model files are taken only with their pinned digest, from wherever they come."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from headrace.filters import models
from headrace.filters.models import KNOWN_MODELS, ModelFile, ModelFileError, find_model
from headrace.pipeline.errors import ModelError
from headrace.pipeline.hashing import digest_bytes
from headrace.pipeline.model_files import fetch_model

DATA = b"a model of sorts" * 1000


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make one small model known, with an empty cache; return where a copy of it lies."""
    monkeypatch.setattr(models.Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("HEADRACE_MODELS", raising=False)
    model = ModelFile(
        "small.bin", digest_bytes(DATA), len(DATA), "http://127.0.0.1:9/small.bin", "no_package", "x", "x"
    )
    monkeypatch.setitem(KNOWN_MODELS, model.name, model)
    copy = tmp_path / "copy.bin"
    copy.write_bytes(DATA)
    return copy


def test_a_file_at_hand_is_taken_into_the_cache(known: Path) -> None:
    with pytest.raises(ModelFileError, match=r"headrace models --fetch small\.bin"):
        find_model("small.bin")
    assert fetch_model("small.bin", str(known)) == find_model("small.bin")


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"!", b"", DATA.upper()])
def test_another_file_is_refused_and_leaves_nothing(known: Path, data: bytes) -> None:
    known.write_bytes(data)
    with pytest.raises(ModelError, match="sha256 is"):
        fetch_model("small.bin", str(known))
    assert not list((models.cache_folder()).iterdir())


def test_a_url_serves_too(known: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/small.bin" else 404)
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        fetch_model("small.bin", f"{url}/small.bin")
        with pytest.raises(ModelError, match="404"):
            fetch_model("small.bin", f"{url}/other.bin")
    finally:
        server.shutdown()
        server.server_close()
    assert find_model("small.bin").read_bytes() == DATA


def test_no_network_is_said_with_the_way_out(known: Path) -> None:
    with pytest.raises(ModelError, match="--from FILE"):
        fetch_model("small.bin")


def test_an_unknown_model_is_named(known: Path) -> None:
    with pytest.raises(ModelFileError, match="no model 'large'"):
        fetch_model("large")
