translimit example runs.csv
translimit extrapolate runs.csv --axis heads --target 24
