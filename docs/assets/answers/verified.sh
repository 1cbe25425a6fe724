translimit scale --base layers=2 --target layers=8 --optimizer adamw --lr 3e-3 | grep horizon
