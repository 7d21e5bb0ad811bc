"""A model of a few kilobytes with random weights, for whatever needs one; nothing here touches a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads only wait for each other

SAMPLE_RATE, HOP = 8_000, 160
WORDS = ("dog", "cat", "rain", "barking", "in", "a", "the", "bell", "wind", "sea", "waves")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the catalogue wants it: 8 kHz mono, 50 Hz, 3 codebooks of 16, a window of one second."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(tmp_path_factory.mktemp("models") / "tiny")


def tiny_lm(codec: Any, num_codebooks: int) -> Any:
    """A language model with random weights for some of a codec's codebooks."""
    from audiogen_cli.models.lm import LM, LMConfig

    return LM(
        LMConfig(
            num_codebooks=num_codebooks,
            codebook_size=codec.codebook_size,
            dim=16,
            num_layers=1,
            num_heads=2,
            condition_dim=16,
            window_seconds=1.0,
            frame_rate=codec.frame_rate,
            codec_fingerprint=codec.fingerprint(),
        )
    )


@pytest.fixture(scope="session")
def scored_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a scorer of random weights beside it."""
    import torch

    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.models.clap import CLAP, CLAPConfig

    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "scored")
    text = T5Conditioner.load(folder / "text")
    small: dict[str, Any] = {"n_fft": 256, "hop_length": 160, "num_mels": 16, "channels": (4, 8), "dim": 8}
    config = CLAPConfig(SAMPLE_RATE, text_dim=text.dim, text_fingerprint=text.fingerprint, **small)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoint.save(folder / "clap", CLAP(config))
    return folder


@pytest.fixture(scope="session")
def melody_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a language model that hears melodies: 32 frames of 12 bins, one every 256 samples."""
    import torch

    from audiogen_cli.hub import checkpoint
    from audiogen_cli.models.lm import LM

    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "melodious")
    text_only: Any = checkpoint.load(folder / "lm")
    shutil.rmtree(folder / "lm")
    hearing: dict[str, Any] = {"conditioning": "prefix", "padding": "audiocraft"}
    hearing |= {"melody_dim": 12, "melody_frames": 32, "melody_fft": 1024}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checkpoint.save(folder / "lm", LM(dataclasses.replace(text_only.config, **hearing)))
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"name": "melodious"}))
    return folder


@pytest.fixture(scope="session")
def flow_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a flow of random weights in place of the language model."""
    import torch

    from audiogen_cli.hub import checkpoint
    from audiogen_cli.models.flow import Flow, FlowConfig

    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "flowing")
    shutil.rmtree(folder / "lm")
    codec: Any = checkpoint.load(folder / "codec")
    config = FlowConfig(8, 16, 1, 2, condition_dim=16, window_seconds=1.0, frame_rate=codec.frame_rate)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = Flow(dataclasses.replace(config, codec_fingerprint=codec.fingerprint()))
        flow.fit(torch.randn(100, 8) * torch.arange(1, 9) + 1)
        torch.nn.init.normal_(flow.output_proj.weight)
        checkpoint.save(folder / "flow", flow)
    card = json.loads((folder / "model.json").read_text())
    card["sampling"] = {"guidance": 2.0, "steps": 3}
    (folder / "model.json").write_text(json.dumps(card | {"name": "flowing"}))
    return folder


@pytest.fixture(scope="session")
def painted_model(tiny_model: Path, flow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a flow that paints over what the language model draws."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "painted")
    shutil.copytree(flow_model / "flow", folder / "flow")
    return folder


@pytest.fixture(scope="session")
def judged_model(painted_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The painted model with a judge of random weights beside it."""
    import torch

    from audiogen_cli.conditioners.text import T5Conditioner
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.models.judge import Judge, JudgeConfig

    folder = shutil.copytree(painted_model, tmp_path_factory.mktemp("models") / "judged")
    text = T5Conditioner.load(folder / "text")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = Judge(JudgeConfig(0.1, 7, text.dim, 8, text_fingerprint=text.fingerprint))
        for weight in judge.ear.parameters():
            if weight.dim() > 1:
                torch.nn.init.kaiming_normal_(weight)
        checkpoint.save(folder / "judge", judge)
    return folder


def build_model(folder: Path) -> Path:
    from audiogen_cli.hub import checkpoint
    from audiogen_cli.models.spectral import SpectralCodec, SpectralConfig

    codec = SpectralCodec(
        SpectralConfig(
            sample_rate=SAMPLE_RATE,
            hop_length=HOP,
            analysis_ffts=(256,),
            analysis_hops=(HOP,),
            encoder_dim=8,
            encoder_layers=1,
            decoder_dim=8,
            decoder_layers=1,
            subframe_dim=8,
            subframe_layers=1,
            synthesis_fft=320,
            latent_dim=8,
            num_codebooks=4,
            codebook_size=16,
        )
    )
    fill_codebooks(codec)
    checkpoint.save(folder / "codec", codec)
    checkpoint.save(folder / "lm", tiny_lm(codec, 3))
    build_text_encoder(folder / "text")
    card = {"name": "tiny", "description": "random noise, for tests", "licence": "MIT", "lanes": 2}
    card["sampling"] = {"temperature": 1.0, "top_k": 8, "top_p": 0.0, "guidance": 2.0}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def fill_codebooks(codec: object) -> None:
    """Codebooks that differ from one another, as training would leave them."""
    import torch

    for name, buffer in codec.named_buffers():  # type: ignore[attr-defined]
        if name.endswith(".embed"):
            buffer.copy_(torch.randn_like(buffer))


def build_text_encoder(folder: Path) -> None:
    """A T5 encoder of width 16 with a tokenizer of whole words, in the Hub's layout."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5EncoderModel

    vocabulary = {word: index for index, word in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    config = T5Config(vocab_size=len(vocabulary), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="session")
def speech_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HuBERT of 16 kHz with random weights in transformers' layout, and 12 centroids of its first layer."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_speech_model(tmp_path_factory.mktemp("speech") / "encoder")


def build_speech_model(folder: Path) -> Path:
    import torch
    from transformers.models.hubert.configuration_hubert import HubertConfig
    from transformers.models.hubert.modeling_hubert import HubertModel

    from audiogen_cli.models.semantic import SpeechEncoder, fit

    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    encoder = SpeechEncoder(HubertModel(config), 1, 16_000)
    encoder.save(folder)
    from audiogen_cli.data import audio

    audio.write(folder / "noise.wav", torch.randn(1, 16_000) * 0.2, 16_000)
    fit(encoder, [folder / "noise.wav"], 12).save(folder / "kmeans.safetensors")
    (folder / "noise.wav").unlink()
    return folder


@pytest.fixture
def audiolm(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in an empty folder, on the tiny model unless told otherwise."""
    from typer.testing import CliRunner

    from audiogen_cli.cli.main import app

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        words = [str(argument) for argument in arguments]
        if words[0] in ("generate", "continue") and not {"--model", "--like"} & set(words):
            words += ["--model", str(tiny_model)]
        return CliRunner().invoke(app, words)

    return run


@pytest.fixture
def refused(audiolm: Callable[..., Result], tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must fail: one sentence on stderr, nothing on stdout, no file made. Returns the sentence."""

    def run(*arguments: object, exit_code: int) -> str:
        before = sorted(tmp_path.rglob("*"))
        result = audiolm(*arguments)
        assert result.exit_code == exit_code, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.rstrip().endswith((".", "`"))
        assert sorted(tmp_path.rglob("*")) == before
        return result.stderr

    return run


class LoopbackHub:
    """Speaks as much of the Hub's API as a download needs, from files in memory, on 127.0.0.1.

    repos: {"owner/name": {"file": bytes}}; card: its licence; cut: {"file": bytes after which a connection breaks off,
    once}; lies: files whose announced sha256 is wrong; gated: repositories that ask for a token; log: what was asked.
    """

    COMMIT = "c" * 40

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.cut: dict[str, int] = {}
        self.lies: set[str] = set()
        self.gated: set[str] = set()
        self.log: list[tuple[str, str, str | None]] = []

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes, int]:
        """Status, headers, body, and after how many bytes to break off (-1: never)."""
        self.log.append((method, path, headers.get("Range")))
        path = path.split("?")[0]
        if path.startswith("/api/models/"):
            repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            return self._info(repo, revision or "main", headers)
        repo, _, rest = path.removeprefix("/").partition("/resolve/")
        name = rest.partition("/")[2]
        body = self.repos[repo][name]
        start = int((headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        more = {"ETag": f'"{self._sha(name, body)}"', "X-Repo-Commit": self.COMMIT, "Accept-Ranges": "bytes"}
        if start:
            more["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        end = self.cut.pop(name) if method == "GET" and name in self.cut else -1
        return (206 if start else 200), more, body[start:], end

    def _info(self, repo: str, revision: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes, int]:
        if repo not in self.repos:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}", -1
        if repo in self.gated and "authorization" not in {name.lower() for name in headers}:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}", -1
        if revision not in ("main", self.COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}", -1
        siblings = [self._sibling(name, body) for name, body in self.repos[repo].items()]
        facts = {"id": repo, "modelId": repo, "sha": self.COMMIT, "private": False, "tags": [], "downloads": 0}
        facts |= {"siblings": siblings, "cardData": {"license": "cc-by-nc-4.0"}}
        return 200, {"Content-Type": "application/json"}, json.dumps(facts).encode(), -1

    def _sibling(self, name: str, body: bytes) -> dict[str, object]:
        about: dict[str, object] = {"rfilename": name, "size": len(body), "blobId": "b" * 40}
        if not name.endswith((".json", ".md")):
            about["lfs"] = {"sha256": self._sha(name, body), "size": len(body), "pointerSize": 130}
        return about

    def _sha(self, name: str, body: bytes) -> str:
        return "0" * 64 if name in self.lies else hashlib.sha256(body).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub on this machine, and an empty cache in tmp_path/cache."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    served = LoopbackHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body, end = served.answer(self.command, self.path, self.headers)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body if end < 0 else body[:end])
            if end >= 0:
                self.close_connection = True

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield served
    server.shutdown()
    server.server_close()
    thread.join()
