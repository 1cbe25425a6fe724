from translimit.limits.shaped import Block, explosion_probability

for heads in (1, 2, 4):
    block = Block(gamma=0.7, tau0=0.5, heads=heads)
    ever, soon = explosion_probability(block, 2.0), explosion_probability(block, 2.0, 1.0)
    print(f"H = {heads}: ever {ever:.3f}, before depth = width {soon:.3f}")
