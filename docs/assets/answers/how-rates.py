from translimit.scaling import Size, rules

tuned = 3e-3
base, target = Size(head_dim=16, heads=4, layers=2), Size(head_dim=64, heads=16, layers=12)
made = rules(base, target, optimizer="adamw", style="folded")
for role in ("token_embedding", "query", "mlp_out", "readout"):
    print(f"{role}: {tuned * made.role(role).lr:.2e}")
