translimit example gpt2.json
translimit predict gpt2.json
