"""Keras graphs: walked through, cut, folded, copied, named; and the state of Keras around them."""
