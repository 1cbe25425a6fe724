from translimit.describe import WideHeads
from translimit.limits.homogenized import collapse_depth

for score_std in (0.0, 1.0, 3.0):
    law = WideHeads(dim=512, score_std=score_std)
    found = collapse_depth(law, tokens=64, step=0.2, heads=8)
    print(f"scores of deviation {score_std:g}: layer {found.layers:.0f} ± {found.spread:.0f}")
