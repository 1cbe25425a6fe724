"""One way in: what a person points at, as the tokens that enter a stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int

from translimit.core import (
    ArgumentError,
    ArgumentTypeError,
    ArrayInput,
    Key,
    brief,
    named_key,
    require_count,
    require_free,
)
from translimit.describe import Embedding, PatchEmbedding, StackReading
from translimit.predict.inputs.gram import read_gram
from translimit.predict.inputs.ids import read_ids, require_vocabulary
from translimit.predict.inputs.image import read_image
from translimit.predict.inputs.text import read_text
from translimit.predict.inputs.tokens import Tokens
from translimit.predict.inputs.zipf import SHIFT, zipf_ids

#: Tokens of a sample, where nobody says how many.
TOKENS = 48
#: Tokens of a text or of ids, where nobody says how many: costs grow like their cube.
MOST_TOKENS = 512


def read_tokens(
    reading: StackReading,
    *,
    text: str | Path | None = None,
    ids: str | Path | ArrayInput | None = None,
    image: str | Path | ArrayInput | None = None,
    gram: str | Path | ArrayInput | None = None,
    tokens: int | None = None,
    tokenizer: str | Path | None = None,
    folder: str | Path | None = None,
    key: Key | int,
) -> Tokens:
    """The tokens that enter a stack, by at most one of a text, ids, an image and a covariance.

    Without any of them: a sample of the vocabulary by Zipf's law, independent pixels for a stack
    that reads images, different tokens where the vocabulary is not told.

    Args:
        reading: of the model's configuration.
        text: a file; cut into tokens by the tokenizer, or byte by byte where the vocabulary is that
            of bytes.
        ids: a file of whole numbers, or one row of them.
        image: a file, or an array; see `image.read_image`.
        gram: C of the tokens [n, n], <x_i, x_j> / D, in a file or as an array.
        tokens: n, at least 2; of a text or of ids the first ones. Without it all of a file, up to
            the context and to `MOST_TOKENS`, and `TOKENS` of a sample.
        tokenizer: `tokenizer.json` of the model (or `vocab.json` with `merges.txt`, or
            `vocab.txt`), or a folder that holds it.
        folder: where the configuration is: the tokenizer and the preprocessor's file are looked
            for there.
        key: of the sample.

    Raises:
        ArgumentError: more than one of them; a file that cannot be read or holds something else; an
            id that the vocabulary does not have; tokens below 2 or beyond the context or the file.
        ArgumentTypeError: a reading or a number of tokens that is none.
        ConfigError: the preprocessor's file beside the configuration is not understood.
        MissingExtraError: a tokenizer is to be read and the library tokenizers is not installed.
        MemoryLimitError: so many tokens do not fit into memory.

    Examples:
        >>> from translimit.describe import read_stack
        >>> sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        >>> llama = {"model_type": "llama", "intermediate_size": 96, "vocab_size": 256, **sizes}
        >>> found = read_tokens(read_stack(llama), ids=[7, 3, 7, 5], key=0)
        >>> found.source
        '4 tokens of ids as given, 3 different'
        >>> found.targets
        array([3, 7, 5])
    """
    if not isinstance(reading, StackReading):
        raise ArgumentTypeError("reading", f"got {brief(reading)}", "pass describe.read_stack(...)")
    given = {"text": text, "ids": ids, "image": image, "gram": gram}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise ArgumentError(names[1], f"is given beside {names[0]}", "pass one of them")
    if tokenizer is not None and text is None:
        raise ArgumentError("tokenizer", "is given without a text", "pass text as well")
    count = None if tokens is None else require_count(tokens, "tokens", 2)
    if gram is not None:
        return _of_gram(gram, count)
    embedding = reading.stack.embedding
    if embedding is None:
        raise ArgumentError(
            names[0] if names else "gram",
            "cannot be read: the stack has no embedding" if names else "is missing",
            "pass gram, the covariance of the tokens that enter the first layer",
        )
    if isinstance(embedding, PatchEmbedding):
        for name in names:
            if name != "image":
                raise ArgumentError(name, f"{reading.family} reads images", "pass image")
        return _of_image(reading, embedding, image, ("tokens", count), folder)
    if image is not None:
        raise ArgumentError("image", f"{reading.family} reads tokens of a text", "pass text or ids")
    _require_place(reading, count, "tokens")
    if text is not None:
        found, how = read_text(text, reading.vocabulary, tokenizer, folder)
        return _of_ids(reading, found, count, "text", f"{Path(text).name}, {how}")
    if ids is not None:
        found = read_ids(ids)
        remedy = "pass ids of this model's vocabulary"
        require_vocabulary(found, reading.vocabulary, "ids", remedy)
        where = Path(ids).name if isinstance(ids, str | Path) else "ids as given"
        return _of_ids(reading, found, count, "ids", where)
    return _sampled(reading, embedding, count or default_tokens(reading), named_key(key, "zipf"))


def distinct_tokens(reading: StackReading, n: int) -> Tokens:
    """Tokens that all differ: the other curve, without what repeated tokens do.

    Args:
        reading: of the model's configuration.
        n: how many; of a stack that reads images as many as an image has.

    Raises:
        ArgumentError: n below 2, beyond the context, or another number than an image has; a stack
            without an embedding.
    """
    n = require_count(n, "n", 2)
    embedding = reading.stack.embedding
    if embedding is None:
        raise ArgumentError("n", "are asked of a stack without an embedding", "pass gram")
    if isinstance(embedding, PatchEmbedding):
        return _of_image(reading, embedding, None, ("n", n), None)
    _require_place(reading, n, "n")
    ids, beyond = _different(n, embedding, reading.vocabulary)
    return _made(reading, ids, None, f"{n} tokens, all different", beyond)


def _of_gram(gram: str | Path | ArrayInput, count: int | None) -> Tokens:
    cov, told = read_gram(gram)
    n = len(cov)
    if count not in (None, n):
        raise ArgumentError("tokens", f"got {count}, and gram has {n}", "leave tokens out")
    where = f" of {Path(gram).name}" if isinstance(gram, str | Path) else ""
    return Tokens(cov, None, None, f"the covariance{where} of {n} tokens", told, np.arange(n))


def _of_image(
    reading: StackReading,
    embedding: PatchEmbedding,
    image: str | Path | ArrayInput | None,
    asked: tuple[str, int | None],
    folder: str | Path | None,
) -> Tokens:
    n = embedding.tokens
    name, count = asked
    if count not in (None, n):
        raise ArgumentError(name, f"got {count}, and an image has {n}", f"pass {n}")
    need = 32.0 * n**2 + 48.0 * embedding.patches * embedding.entries
    require_free(need, "image", f"inner products of {n} tokens", "give a smaller image_size")
    first, patches = len(embedding.class_stds), embedding.patches
    classes = f" and {first} class {'token' if first == 1 else 'tokens'}" if first else ""
    parts = f"{patches} patches{classes}"
    if image is None:
        cov, told = reading.stack.image_cov(), ()
        inner = embedding.entries * np.eye(patches)
        source = f"independent pixels of variance one: {parts}"
    else:
        pixels, source, told = read_image(image, embedding, folder)
        cov, source = reading.stack.image_cov(pixels), f"{source}: {parts}"
        inner = pixels @ pixels.T
    return Tokens(cov, None, None, source, told, np.arange(n), inner)


def _of_ids(
    reading: StackReading, ids: Int[np.ndarray, " held"], count: int | None, name: str, where: str
) -> Tokens:
    """The first ids, the ones after them as targets, and warnings of what was cut."""
    held = len(ids)
    if held < 2:
        told = f"{'is' if held == 1 else 'are'} in it, and two tokens at least must enter"
        raise ArgumentError(
            name, f"{held} {'token' if held == 1 else 'tokens'} {told}", "pass more"
        )
    if count is not None and count > held:
        raise ArgumentError(
            "tokens", f"got {count}, and {name} holds {held}", f"pass at most {held}"
        )
    bounds = [(held, ""), (reading.context or held, "the context"), (MOST_TOKENS, "pass tokens")]
    n, why = (count, "") if count is not None else min(bounds, key=lambda bound: bound[0])
    warnings = ()
    if count is None and n < held:
        reason = "the context" if why == "the context" else "pass tokens for another number"
        warnings = (f"cut to the first {n} of {held} tokens ({reason})",)
    part = "" if n == held else f"the first {n} of "
    different = len(np.unique(ids[:n]))
    source = f"{part}{held} tokens of {where}, {different} different"
    return _made(reading, ids[:n], ids[1 : n + 1], source, warnings)


def _sampled(reading: StackReading, embedding: Embedding, count: int, key: Key) -> Tokens:
    """A sample of the vocabulary, with one more id as the last target."""
    vocabulary = reading.vocabulary
    if vocabulary is None or vocabulary < 3:
        ids, told = _different(count, embedding, None)
        source = f"{count} tokens, all different: no vocabulary is told"
        return _made(reading, ids, None, source, told)
    drawn = zipf_ids(count + 1, vocabulary, embedding.padding, key)
    different = len(np.unique(drawn[:count]))
    source = (
        f"{count} tokens drawn from the vocabulary of {vocabulary} by Zipf's law (the word of rank "
        f"r has a share in proportion to 1 / (r + {SHIFT:g})), {different} different"
    )
    return _made(reading, drawn[:count], drawn[1:], source, ())


def _made(
    reading: StackReading,
    ids: Int[np.ndarray, " n"],
    targets: Int[np.ndarray, " m"] | None,
    source: str,
    warnings: tuple[str, ...],
) -> Tokens:
    embedding = reading.stack.embedding
    padding = None if embedding is None else getattr(embedding, "padding", None)
    padded = 0 if padding is None else int(np.count_nonzero(ids == padding))
    if padded:
        told = f"{padded} of {len(ids)} tokens have the padding id {padding}, whose row is zero at "
        warnings = (*warnings, told + "initialisation")
    groups = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    return Tokens(
        cov=reading.stack.initial_cov(ids),
        ids=ids,
        targets=targets if reading.stack.causal else None,
        source=source,
        warnings=warnings,
        groups=groups,
    )


def _different(
    n: int, embedding: Embedding, vocabulary: int | None
) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    """The first ids without the padding id, and a warning where the vocabulary has fewer."""
    ids = np.arange(n + 1)
    ids = ids[ids != embedding.padding][:n]
    entries = None if vocabulary is None else vocabulary - (embedding.padding is not None)
    if entries is None or n <= entries:
        return ids, ()
    return ids, (f"the vocabulary has {entries} different tokens, fewer than {n}",)


def default_tokens(reading: StackReading) -> int:
    """How many tokens enter where nobody says: those of an image, or `TOKENS` within the context.

    Args:
        reading: of the model's configuration.
    """
    if isinstance(reading.stack.embedding, PatchEmbedding):
        return reading.stack.embedding.tokens
    return max(2, min(TOKENS, reading.context or TOKENS))


def _require_place(reading: StackReading, count: int | None, name: str) -> None:
    """Refuse more tokens than the context has, or than fit into memory."""
    if count is None:
        return
    if reading.context is not None and count > reading.context:
        remedy = f"pass at most the context, {reading.context}"
        raise ArgumentError(name, f"got {count}", remedy)
    require_free(32.0 * count**2, name, f"inner products of {count} tokens", "pass fewer")
