"""Keras graphs: walk, cut, fold, copy and identify them; and the state of Keras around them."""
