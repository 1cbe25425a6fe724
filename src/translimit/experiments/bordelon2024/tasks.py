"""What networks of these experiments learn: digits, bytes of text, random signs, sentences."""

from __future__ import annotations

import numpy as np

from translimit import data
from translimit.core import ConfigError

#: Digits that are told apart, +1 and -1.
CLASSES = (0, 1)
#: The data that come with the library; any other name is a file.
TASKS = ("digits", "text", "synthetic", "ring")
#: Overlaps of the four tokens of "ring": two inputs of two tokens, each token like two others.
RING = np.array([[1, 0.5, 0.2, 0], [0.5, 1, 0, 0.3], [0.2, 0, 1, 0.4], [0, 0.3, 0.4, 1]])
RING_TARGETS = (1.0, -1.25)
#: Digits of the rarer of the two classes.
DIGITS_PER_CLASS = 178
#: Sentences that come with the library, of which the next word is learned at every token.
LANGUAGE_TASKS = ("bytes", "copy", "recall", "markov")
_SPACE = ord(" ")


def two_digits(per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised digits [inputs, 4, 16] and their targets, +1 or -1 [inputs]."""
    digits = data.digit_patches((4, 4))
    labels = np.asarray(digits.targets)
    chosen = [np.flatnonzero(labels == label)[:per_class] for label in CLASSES]
    patches, found = digits.take(np.concatenate(chosen))
    return patches, np.where(found == CLASSES[0], 1.0, -1.0)


def digit_classes(per_class: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised digits [inputs, 4, 16] of the first classes, in turn, and their classes.

    Args:
        per_class: digits of each class.
        classes: how many.
    """
    digits = data.digit_patches((4, 4))
    labels = np.asarray(digits.targets)
    chosen = [np.flatnonzero(labels == label)[:per_class] for label in range(classes)]
    patches, found = digits.take(np.concatenate(chosen))
    return patches, found.astype(np.int64)


def ends_of_words(per_class: int, tokens: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a text, and whether a word ends with them: +1 before a space, else -1.

    Args:
        per_class: windows of each kind, evenly spread over the shipped text.
        tokens: bytes of a window.
        dim: dimension of the random embeddings of bytes.

    Returns:
        Windows [inputs, tokens, dim] and targets [inputs].
    """
    stream = data.byte_text(tokens)
    ids = np.asarray(stream.ids)
    follows = ids[tokens:] == _SPACE
    starts = []
    for kind in (True, False):
        places = np.flatnonzero(follows == kind)
        starts.append(places[np.linspace(0, len(places) - 1, per_class + 2).astype(int)[1:-1]])
    windows = np.stack([ids[place : place + tokens] for place in np.concatenate(starts)])
    table = np.random.default_rng(0).standard_normal((data.BYTES, dim))
    return table[windows], np.repeat([1.0, -1.0], per_class)


def random_signs(inputs: int, tokens: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian tokens [inputs, tokens, dim] and alternating signs [inputs]."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((inputs, tokens, dim)), np.resize([1.0, -1.0], inputs)


def ring() -> tuple[np.ndarray, np.ndarray]:
    """Two inputs of two tokens [2, 2, 4] with the overlaps `RING`, and their targets [2]."""
    return 2 * np.linalg.cholesky(RING).reshape(2, 2, 4), np.array(RING_TARGETS)


def load_task(name: str, inputs: int, tokens: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [inputs, tokens, dim] and targets [inputs] or [inputs, outputs].

    Args:
        name: "digits" (two classes, four patches of 16 pixels), "text" (does a word end here),
            "synthetic" (Gaussian tokens with alternating signs), "ring" (two inputs of two tokens
            with fixed overlaps), or the path of an `.npz` with arrays `inputs` [P, S, D] and
            `targets` [P] or [P, outputs], after an axis of tokens where these have outputs.
        inputs: how many; the first ones of a file.
        tokens: of "text" and "synthetic".
        dim: of "text" and "synthetic".

    Raises:
        ConfigError: an odd number of inputs of two classes, a file without the two arrays, or
            with arrays of other shapes.
        StoreError: a file that cannot be read.
    """
    require_task(name, inputs)
    if name == "digits":
        return two_digits(inputs // 2)
    if name == "text":
        return ends_of_words(inputs // 2, tokens, dim)
    if name == "synthetic":
        return random_signs(inputs, tokens, dim)
    if name == "ring":
        return ring()
    arrays = data.open_npz(name)
    if not {"inputs", "targets"} <= set(arrays):
        raise ConfigError(
            "task", f"{name} holds {sorted(arrays)}", "save arrays named inputs and targets"
        )
    x, y = (np.asarray(arrays[key][:inputs], dtype=np.float64) for key in ("inputs", "targets"))
    by_token = y.ndim == 3 and y.shape[1] == x.shape[1]
    if x.ndim != 3 or x.shape[1] < 2 or len(x) != len(y) or not (y.ndim in (1, 2) or by_token):
        raise ConfigError(
            "task",
            f"{name} has inputs of shape {x.shape} and targets of shape {y.shape}",
            "save inputs [P, tokens, dim] of at least 2 tokens and targets [P] or [P, outputs], "
            "or [P, tokens, outputs] where tokens have outputs",
        )
    if len(x) < inputs:
        raise ConfigError("inputs", f"got {inputs}, and {name} has {len(x)}", "pass fewer")
    return x, y


def next_bytes(inputs: int, tokens: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Windows of a text, the byte after each token, and how many bytes differ.

    Args:
        inputs: windows, evenly spread over the shipped text.
        tokens: of a window.

    Returns:
        Ids [inputs, tokens] and targets [inputs, tokens]; bytes are numbered as they sort.
    """
    text = np.asarray(data.byte_text(tokens).ids)
    starts = np.linspace(0, len(text) - tokens - 1, inputs + 2).astype(int)[1:-1]
    windows = np.stack([text[start : start + tokens + 1] for start in starts])
    known, ids = np.unique(windows, return_inverse=True)
    ids = ids.reshape(windows.shape).astype(np.int64)
    return ids[:, :-1], ids[:, 1:], len(known)


def said_twice(inputs: int, tokens: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences that say a block of random words twice, and the word after each token.

    Args:
        inputs: sentences.
        tokens: of a sentence, an even number.
        vocabulary: words to choose from.
    """
    block = np.random.default_rng(0).integers(vocabulary, size=(inputs, tokens // 2))
    ids = np.tile(block, 2)
    return ids, np.roll(ids, -1, axis=1)


def recalled(inputs: int, tokens: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, where only words have a target that follow from those before: the second block.

    The last word of the first block is followed by the first of the second: it is known from the
    block alone, and has a target too. Where there is none stands -1.

    Args:
        inputs: sentences.
        tokens: of a sentence, an even number.
        vocabulary: words to choose from.
    """
    ids, follows = said_twice(inputs, tokens, vocabulary)
    return ids, np.where(np.arange(tokens) < tokens // 2 - 1, -1, follows)


def markov_words(inputs: int, tokens: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences of a Markov chain of bytes, and the byte after each of them.

    Rows of its transition matrix are drawn from a Dirichlet law of concentration 1/2: some bytes
    are nearly sure to follow, others are not.

    Args:
        inputs: sentences.
        tokens: of a sentence.
        vocabulary: bytes of the chain.
    """
    rng = np.random.default_rng(0)
    follows = rng.dirichlet(np.full(vocabulary, 0.5), size=vocabulary)
    words = [rng.integers(vocabulary, size=inputs)]
    for _ in range(tokens):
        chance = follows[words[-1]].cumsum(axis=1)
        words.append((rng.uniform(size=(inputs, 1)) > chance[:, :-1]).sum(axis=1))
    ids = np.stack(words, axis=1)
    return ids[:, :-1], ids[:, 1:]


def load_sentences(
    name: str, inputs: int, tokens: int, vocabulary: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Token ids [inputs, tokens], the words that follow them, and the size of the vocabulary.

    Args:
        name: "bytes" (windows of English prose), "copy" (a block of random words, twice), "recall"
            (the same, with targets where the block is known), "markov" (a chain of bytes, see
            `markov_words`), or the path of an `.npz` with integers `token_ids` [P, S] and `targets`
            [P, S], -1 where there is none; or targets as in `load_task`.
        inputs: how many; the first ones of a file.
        tokens: of what is no file.
        vocabulary: of all but "bytes".

    Raises:
        ConfigError: a file without the two arrays, or with arrays of other shapes.
        StoreError: a file that cannot be read.
    """
    if name == "bytes":
        return next_bytes(inputs, tokens)
    drawn = {"copy": said_twice, "recall": recalled, "markov": markov_words}
    if name in drawn:
        return *drawn[name](inputs, tokens, vocabulary), vocabulary
    arrays = data.open_npz(name)
    if not {"token_ids", "targets"} <= set(arrays):
        raise ConfigError(
            "task", f"{name} holds {sorted(arrays)}", "save arrays named token_ids and targets"
        )
    ids, targets = (np.asarray(arrays[key][:inputs]) for key in ("token_ids", "targets"))
    wrong = ids.dtype.kind not in "iu" or targets.dtype.kind not in "iuf" or ids.ndim != 2
    if not wrong:
        wrong = ids.shape[1] < 2 or len(targets) != len(ids) or targets.ndim not in (1, 2, 3)
    if wrong or (targets.ndim == 3 and targets.shape[:2] != ids.shape):
        raise ConfigError(
            "task",
            f"{name} has token_ids of shape {ids.shape} and targets of shape {targets.shape}",
            "save integers [P, tokens] of at least 2 tokens, and targets alike or one an input",
        )
    if len(ids) < inputs:
        raise ConfigError("inputs", f"got {inputs}, and {name} has {len(ids)}", "pass fewer")
    return ids, targets, vocabulary


def require_task(name: str, inputs: int) -> None:
    """Refuse a task that cannot be; a file is not looked at.

    Args:
        name: see `load_task`.
        inputs: how many.

    Raises:
        ConfigError: an unknown name, an odd number of inputs of two classes, or more digits than
            there are.
    """
    if name not in TASKS and not name.endswith(".npz"):
        raise ConfigError(
            "task", f"got {name!r}", f"pass {', '.join(TASKS)}, or the path of an .npz file"
        )
    if name in ("digits", "text") and inputs % 2:
        raise ConfigError("inputs", f"got {inputs}", f"{name} has two classes: pass an even number")
    if name == "ring" and inputs != 2:
        raise ConfigError("inputs", f"got {inputs}", "ring has two inputs: pass 2")
    if name == "digits" and inputs > 2 * DIGITS_PER_CLASS:
        raise ConfigError("inputs", f"got {inputs}", f"pass at most {2 * DIGITS_PER_CLASS}")
