translimit example gpt2.json
translimit predict gpt2.json --tokens 16 --fix | sed -n '/^Scales that keep/,/^$/p'
