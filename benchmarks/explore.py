"""How long a panel of the explorer takes from a view to its HTML, once its program is compiled.

The browser adds the way to the page and back: `pytest -m slow tests/explore/test_browser.py` prints
milliseconds from a key to the next figure.
"""

import argparse
import statistics
import time
from dataclasses import replace

from translimit.explore import PANELS, SLIDERS, View, page, panel_of


def milliseconds(view: View) -> tuple[float, float]:
    """Wall and CPU time of one answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    page.panel_html(view.panel, panel_of(view))
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("panels", nargs="*", default=[n for n, k in PANELS.items() if k.quick])
    chosen = parser.parse_args().panels
    print(f"{'panel':12} {'slider':17} {'wall ms':>8} {'CPU ms':>8}   median of the stops")
    for name in chosen:
        kind, first = PANELS[name], View(panel=name)
        milliseconds(first)
        for slider in filter(SLIDERS.__contains__, kind.reads):
            took = []
            for stop in SLIDERS[slider].values:
                view = replace(first, **{slider: stop})
                if kind.shape(view) == kind.shape(first):
                    took.append(milliseconds(view))
                elif len(took) < 3:  # a program of its own: compiled by the first call
                    milliseconds(view)
                    took.append(milliseconds(replace(view, score_temperature=1.01)))
            wall, cpu = (statistics.median(one) for one in zip(*took, strict=True))
            print(f"{name:12} {slider:17} {wall:8.0f} {cpu:8.0f}")


if __name__ == "__main__":
    main()
