translimit example small_models.py
translimit transfer small_models:llama --axis head_dim --multiples 1 2 --seeds 1 --steps 20 2>/dev/null
