translimit example gpt2.json
translimit predict gpt2.json --tokens 16 --variants | sed -n '/^Other choices/,/^$/p'
