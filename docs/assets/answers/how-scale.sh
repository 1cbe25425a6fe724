translimit scale --base width=64,heads=4,layers=2 --target width=256,heads=8,layers=8 --optimizer adamw
