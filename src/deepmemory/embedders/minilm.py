"""all-MiniLM-L6-v2 on the CPU: the tokenizer and the six BERT layers, straight on torch.

The libraries that usually run this model take five to ten seconds to import, which is longer than everything else
that a first search does. The network itself is short, and never changes; in float32 this gives the same vectors as
sentence-transformers to the last bits (Devlin et al. 2019, "BERT"; Wang et al. 2020, "MiniLM").

Two things make a text's vector independent of the texts beside it. There is no padding: the tokens of a batch are laid
end to end, and only attention looks at one text at a time. And each batch is computed by one thread, batches in
parallel, so that no sum is split by the number of cores. It is also the faster way: nothing is spent on padding, and
no thread waits for another at the end of every product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

__all__ = ["DIMENSIONS", "MiniLM", "native_bfloat16"]

DIMENSIONS = 384
_LAYERS = 6
_HEADS = 12
_MAX_TOKENS = 256  # the model was trained on texts no longer than this; what follows is not read
_LAYER_NORM_EPSILON = 1e-12


def native_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 numbers itself, which doubles the speed; emulated, it would be slower."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@dataclass(frozen=True, slots=True)
class _Affine:
    """A weight and a bias: of a linear map, ``(out, in)`` and ``(out,)``, or of a layer norm, ``(dim,)`` both."""

    weight: Tensor
    bias: Tensor

    def linear(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def layer_norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, _LAYER_NORM_EPSILON)


@dataclass(frozen=True, slots=True)
class _Group:
    """Texts of one length that follow each other in a batch."""

    texts: int
    length: int

    @property
    def tokens(self) -> int:
        return self.texts * self.length


class _Layer:
    """One transformer block."""

    def __init__(self, weights: dict[str, Tensor], index: int) -> None:
        prefix = f"encoder.layer.{index}"
        parts = [_affine(weights, f"{prefix}.attention.self.{part}") for part in ("query", "key", "value")]
        self._qkv = _Affine(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
        self._attended = _affine(weights, f"{prefix}.attention.output.dense")
        self._attended_norm = _affine(weights, f"{prefix}.attention.output.LayerNorm")
        self._wide = _affine(weights, f"{prefix}.intermediate.dense")
        self._narrow = _affine(weights, f"{prefix}.output.dense")
        self._norm = _affine(weights, f"{prefix}.output.LayerNorm")

    def __call__(self, x: Tensor, groups: Sequence[_Group]) -> Tensor:
        x = self._attended_norm.layer_norm(x + self._attended.linear(self._attend(x, groups)))
        return self._norm.layer_norm(x + self._narrow.linear(F.gelu(self._wide.linear(x))))

    def _attend(self, x: Tensor, groups: Sequence[_Group]) -> Tensor:
        parts = torch.split(self._qkv.linear(x), [group.tokens for group in groups])
        return torch.cat([_self_attention(part, group) for part, group in zip(parts, groups, strict=True)])


class MiniLM:
    """The model in memory; `embed` may be called from several threads at once."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        """Load the weights.

        Args:
            folder: holds ``model.safetensors`` and ``tokenizer.json``.
            dtype: of the weights and the layers; pooling is always float32.
        """
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        stored = load_file(folder / "model.safetensors")
        weights = {name: tensor.to(dtype) for name, tensor in stored.items() if tensor.is_floating_point()}
        self._words = weights["embeddings.word_embeddings.weight"]
        self._positions = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._embedded_norm = _affine(weights, "embeddings.LayerNorm")
        self._layers = [_Layer(weights, index) for index in range(_LAYERS)]

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, cut after the 256 that the model reads."""
        # One by one: the tokenizer's own threads, once used, make it complain on stderr in every process forked later.
        return list(self._tokenizer.encode(text).ids)

    @torch.inference_mode()
    def embed(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Embed texts given as tokens, best ordered by length: texts of one length are attended to together.

        Returns:
            ``(len(batch), 384)`` float32, unit norm.
        """
        groups = _groups([len(tokens) for tokens in batch])
        x = self._words[torch.tensor([token for tokens in batch for token in tokens])]
        x = x + torch.cat([self._positions[: len(tokens)] for tokens in batch])
        x = self._embedded_norm.layer_norm(x)
        for layer in self._layers:
            x = layer(x, groups)
        parts = torch.split(x.float(), [group.tokens for group in groups])
        means = [part.view(g.texts, g.length, -1).mean(dim=1) for part, g in zip(parts, groups, strict=True)]
        vectors: NDArray[np.float32] = F.normalize(torch.cat(means), dim=1).numpy()
        return vectors


def _affine(weights: dict[str, Tensor], name: str) -> _Affine:
    return _Affine(weights[f"{name}.weight"], weights[f"{name}.bias"])


def _groups(lengths: Sequence[int]) -> list[_Group]:
    groups: list[_Group] = []
    for length in lengths:
        if groups and groups[-1].length == length:
            groups[-1] = _Group(groups[-1].texts + 1, length)
        else:
            groups.append(_Group(1, length))
    return groups


def _self_attention(qkv: Tensor, group: _Group) -> Tensor:
    """Attention within each text; ``(tokens, 3 * 384)`` to ``(tokens, 384)``."""
    heads = qkv.view(group.texts, group.length, 3, _HEADS, DIMENSIONS // _HEADS)
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).reshape(group.tokens, DIMENSIONS)
