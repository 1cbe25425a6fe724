from translimit.diagnose import held_out_windows, series, train_byte_model

checkpoints = train_byte_model(key=0, steps=10, keep=(0, 3, 10))
print(series(checkpoints, held_out_windows(8)[:, :32]))
