"""The bibliography: BibTeX of the papers behind what a run used, and the short form of each."""

from __future__ import annotations

import re
from collections.abc import Iterable

from translimit.core.errors import ConfigError, nearest

BIBLIOGRAPHY: dict[str, str] = {
    "bordelon2024": """@inproceedings{bordelon2024,
  title = {Infinite Limits of Multi-head Transformer Dynamics},
  author = {Bordelon, Blake and Chaudhry, Hamza Tahir and Pehlevan, Cengiz},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  eprint = {2405.15712},
  archivePrefix = {arXiv},
}""",
    "castin2025": """@misc{castin2025,
  title = {A Unified Perspective on the Dynamics of Deep Transformers},
  author = {Castin, Val{\\'e}rie and Ablin, Pierre and Carrillo, Jos{\\'e} Antonio
            and Peyr{\\'e}, Gabriel},
  year = {2025},
  eprint = {2501.18322},
  archivePrefix = {arXiv},
}""",
    "diffrax": """@phdthesis{kidger2021,
  title = {On Neural Differential Equations},
  author = {Kidger, Patrick},
  school = {University of Oxford},
  year = {2021},
}""",
    "digits": """@misc{alpaydin1998,
  title = {Optical Recognition of Handwritten Digits},
  author = {Alpaydin, E. and Kaynak, C.},
  year = {1998},
  publisher = {UCI Machine Learning Repository},
  doi = {10.24432/C50P49},
}""",
    "fedorov2026": """@misc{fedorov2026,
  title = {Clustering in Deep Stochastic Transformers},
  author = {Fedorov, L. and Sander, M. and Elie, R. and Marion, P.
            and Lauri{\\`e}re, M.},
  year = {2026},
  eprint = {2601.21942},
  archivePrefix = {arXiv},
}""",
    "geshkovski2023": """@misc{geshkovski2023,
  title = {A Mathematical Perspective on Transformers},
  author = {Geshkovski, Borjan and Letrouit, Cyril and Polyanskiy, Yury
            and Rigollet, Philippe},
  year = {2023},
  eprint = {2312.10794},
  archivePrefix = {arXiv},
}""",
    "geshkovski2024": """@misc{geshkovski2024,
  title = {Dynamic Metastability in the Self-Attention Model},
  author = {Geshkovski, Borjan and Koubbi, Hugo and Polyanskiy, Yury
            and Rigollet, Philippe},
  year = {2024},
  eprint = {2410.06833},
  archivePrefix = {arXiv},
}""",
    "jax": """@software{jax2018,
  title = {{JAX}: composable transformations of {P}ython+{N}um{P}y programs},
  author = {Bradbury, James and Frostig, Roy and Hawkins, Peter and Johnson, Matthew James
            and Leary, Chris and Maclaurin, Dougal and Necula, George and Paszke, Adam
            and Vander{P}las, Jake and Wanderman-{M}ilne, Skye and Zhang, Qiao},
  year = {2018},
}""",
    "noci2023": """@inproceedings{noci2023,
  title = {The Shaped Transformer: Attention Models in the Infinite Depth-and-Width Limit},
  author = {Noci, Lorenzo and Li, Chuning and Li, Mufan and He, Bobby and Hofmann, Thomas
            and Maddison, Chris and Roy, Daniel},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
  eprint = {2306.17759},
  archivePrefix = {arXiv},
}""",
    "qiu2025": """@misc{qiu2025,
  title = {Scaling Collapse Reveals Universal Dynamics in Compute-Optimally Trained Neural
           Networks},
  author = {Qiu, Shikai and Xiao, Lechao and Wilson, Andrew Gordon and Pennington, Jeffrey
            and Agarwala, Atish},
  year = {2025},
  eprint = {2507.02119},
  archivePrefix = {arXiv},
}""",
    "ghosh2025": """@misc{ghosh2025,
  title = {Understanding the Mechanisms of Fast Hyperparameter Transfer},
  author = {Ghosh, Nikhil and Wu, Denny and Bietti, Alberto},
  year = {2025},
  eprint = {2512.22768},
  archivePrefix = {arXiv},
}""",
    "malladi2022": """@misc{malladi2022,
  title = {On the {SDEs} and Scaling Rules for Adaptive Gradient Algorithms},
  author = {Malladi, Sadhika and Lyu, Kaifeng and Panigrahi, Abhishek and Arora, Sanjeev},
  year = {2022},
  eprint = {2205.10287},
  archivePrefix = {arXiv},
}""",
    "li2022": """@inproceedings{li2022,
  title = {The Neural Covariance {SDE}: Shaped Infinite Depth-and-Width Networks at
           Initialization},
  author = {Li, Mufan and Nica, Mihai and Roy, Daniel},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
  eprint = {2206.02768},
  archivePrefix = {arXiv},
}""",
    "koubbi2026": """@misc{koubbi2026,
  title = {Homogenized Transformers},
  author = {Koubbi, H. and Geshkovski, B. and Rigollet, P.},
  year = {2026},
  eprint = {2604.01978},
  archivePrefix = {arXiv},
}""",
}


def bibtex(keys: Iterable[str]) -> str:
    """The BibTeX entries of the given keys, each once, in alphabetical order.

    Raises:
        ConfigError: a key that the bibliography does not hold.
    """
    entries = []
    for key in sorted(set(keys)):
        if key not in BIBLIOGRAPHY:
            raise ConfigError("citation", f"unknown key {key!r}", nearest(key, BIBLIOGRAPHY))
        entries.append(BIBLIOGRAPHY[key])
    return "\n\n".join(entries)


#: Of these the short form names every author.
_IN_FULL = frozenset({"bordelon2024"})


def reference(key: str) -> str:
    """The short form of a paper: first author and number, as it stands in stored results.

    Args:
        key: of the bibliography.

    Raises:
        ConfigError: a key that the bibliography does not hold, or a work without authors' names
            or an arXiv number.

    >>> reference("koubbi2026")
    'Koubbi et al., arXiv 2604.01978'
    """
    if key not in BIBLIOGRAPHY:
        raise ConfigError("citation", f"unknown key {key!r}", nearest(key, BIBLIOGRAPHY))
    number = re.search(r"eprint = \{(.*?)\}", BIBLIOGRAPHY[key])
    authors = re.search(r"author = \{(.*?)\},$", BIBLIOGRAPHY[key], re.DOTALL | re.MULTILINE)
    if number is None or authors is None:
        raise ConfigError("citation", f"{key!r} has no arXiv number", "write its reference out")
    surnames = [name.split(",")[0] for name in " ".join(authors[1].split()).split(" and ")]
    if len(surnames) > 2 and key not in _IN_FULL:
        told = f"{surnames[0]} et al."
    else:
        told = " and ".join(part for part in (", ".join(surnames[:-1]), surnames[-1]) if part)
    return f"{told}, arXiv {number[1]}"
