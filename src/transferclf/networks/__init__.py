"""Keras graphs: backbones, preprocessing, the cut, the head. This room knows no data.

Nothing here imports Keras before a network is built.
"""
