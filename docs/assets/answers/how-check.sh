translimit example small_models.py
translimit coord-check small_models:llama --axis head_dim --multiples 1 2 4 8 --steps 1 5 2>/dev/null
