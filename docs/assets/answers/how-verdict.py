from translimit.core import Claim, Estimate, Rival

slope = Estimate(value=-0.48, stderr=0.01, count=40)
rivals = (Rival("like 1/n", -1.0), Rival("no decay", 0.0))
claim = Claim("rate", "Falls like n^(-1/2).", -0.5, slope, tol=0.05, rivals=rivals)
print(claim.verdict, "- nearest wrong theory:", claim.nearest.name)
