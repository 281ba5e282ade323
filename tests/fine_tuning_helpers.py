"""Parameters that give fine-tuning without the pieces of its default recipe."""

# Keras' plain training at a constant rate: what it gives can be computed with `keras.Model.fit`.
PLAIN = {
    "optimizer": "adam",
    "lr_schedule": None,
    "weight_decay": 0.0,
    "global_clipnorm": None,
    "soup": 1.0,
    "augmentation": None,
}

# All images are trained on, as they are, and the result is the trained weights alone.
ALL_IMAGES = {"soup": 1.0, "augmentation": None}
