"""The networks there are: their records, weights and preprocessing."""
