"""A contender's process without a model: ``encoder_child.py`` with a made-up way to encode.

Its vectors are those of the texts' lengths; its kind says what becomes of it.
"""

import sys

import encoder_child
import encoder_peers
import numpy as np

DIMENSION = 4


class Fake(encoder_peers.Plain):
    """Fails to load, or ends when asked for a text that says so."""

    def __init__(self, spec):
        if spec.kind == "absent":
            msg = "no module named made_up"
            raise ImportError(msg)
        # Libraries do that.
        print("something that is no answer")
        super().__init__({"threads": spec.threads}, ("numpy",))

    def encode(self, prepared):
        if "end" in prepared:
            sys.exit(3)
        vectors = np.array([[len(text), 1, 0, 0] for text in prepared], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    encoder_peers.KINDS.update({"fake": Fake, "absent": Fake})
    sys.exit(encoder_child.main())
