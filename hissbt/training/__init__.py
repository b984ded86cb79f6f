"""Training: from bars to a bundle.

``train`` brings torch, for which nobody has to wait who only splits bars or reads settings.
"""

__all__ = ["train"]


def __getattr__(name: str):
    if name != "train":
        raise AttributeError(f"module 'hissbt.training' has no attribute {name!r}")
    from hissbt.training.fit import train

    return train
