from translimit.describe import GaussianHeads
from translimit.limits.homogenized import classify

law = GaussianHeads(dim=64, beta=1.0, sigma_v=1 / 8, sigma_a=64**-0.25)
for step, layers in ((0.01, 100), (0.1, 1000), (1.0, 100)):
    found = classify(law, tokens=16, layers=layers, step=step, heads=8)
    print(f"step {step:g}, {layers} layers: {found.regime.name}")
