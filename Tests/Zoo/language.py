"""Transformers for text and speech, from the transformers library's configurations: two layers, four heads, width 128.

`attention` chooses the form the library computes attention in ("eager" or "sdpa"); both are exported by somebody.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import nn

# A masked batch may hold several texts in one row; looking for them is data-dependent, and exporters cannot follow it.
transformers.masking_utils.find_packed_sequence_indices = lambda position_ids: None

WIDTH = {
    "vocab_size": 300,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
}
SEQ2SEQ = {
    "vocab_size": 300,
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
}
T5 = {"vocab_size": 300, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}
IMAGE = {"image_size": 64, "patch_size": 16}


class Called(nn.Module):
    """A library model with positional inputs and one tensor as its output."""

    def __init__(self, model, inputs, output):
        super().__init__()
        self.model, self.inputs, self.output = model, inputs, output

    def forward(self, *values):
        return getattr(self.model(**dict(zip(self.inputs, values))), self.output)


def build(model, configuration, inputs=("input_ids",), output="logits", attention="sdpa", part=None, **settings):
    """A builder of `transformers.<model>` (or its member `part`) from `transformers.<configuration>`(settings)."""

    def make():
        config = getattr(transformers, configuration)(**settings)
        config._attn_implementation = attention
        if hasattr(config, "use_cache"):
            config.use_cache = False
        made = getattr(transformers, model)(config)
        return Called(getattr(made, part) if part else made, inputs, output)

    return make


def tokens(*lengths):
    return lambda exporter: tuple(torch.randint(1, 300, (1, length)) for length in lengths)


def tokens_and_mask(length=12):
    return lambda exporter: (torch.randint(1, 300, (1, length)), torch.ones(1, length, dtype=torch.int64))


class Recurrent(nn.Module):
    """An embedding, two recurrent layers and a classifier of the last step."""

    def __init__(self, kind, bidirectional):
        super().__init__()
        self.embedding = nn.Embedding(300, 48)
        self.layers = getattr(nn, kind)(48, 64, 2, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Sequential(nn.Linear(128 if bidirectional else 64, 64), nn.ReLU(), nn.Linear(64, 6))

    def forward(self, ids):
        return self.head(self.layers(self.embedding(ids))[0][:, -1])


class EncoderDecoder(nn.Module):
    """torch.nn's own transformer between two sequences of numbers; cross attention reads parts of one packed weight."""

    def __init__(self, width=128):
        super().__init__()
        self.source, self.target, self.head = nn.Linear(20, width), nn.Linear(12, width), nn.Linear(width, 7)
        self.layers = nn.Transformer(width, 4, 2, 2, 2 * width, batch_first=True)

    def forward(self, source, target):
        return self.head(self.layers(self.source(source), self.target(target)))
