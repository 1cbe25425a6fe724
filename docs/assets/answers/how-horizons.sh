translimit example small_models.py
translimit transfer small_models:llama --axis head_dim --multiples 1 2 --steps 5 20 --schedule cosine --log2-rates -7 -3 --rules-only 2>/dev/null
