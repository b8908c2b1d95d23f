"""Items' texts to vectors: one that cannot be encoded is a matter of its own item alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import EncoderError, EncoderUnavailable

Encode = Callable[[list[str]], NDArray[np.float32]]


class Unencodable(EncoderError):
    """Some texts cannot be encoded; the encoder is well.

    Args:
        problems: why, by the place of each among the texts that were given.
    """

    def __init__(self, problems: Mapping[int, str]) -> None:
        super().__init__(f"{len(problems)} texts cannot be encoded")
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ItemTexts:
    """Encodes, and tells a text that fails from an encoder that does.

    Attributes:
        encode: texts to vectors ``float32 [B, D]``.
        check: raises where the encoder fails for every text.
    """

    encode: Encode
    check: Callable[[], None]

    def vectors(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors ``float32 [B, D]`` in the order of the texts.

        Raises:
            Unencodable: some texts have none.
            Exception: what ``encode`` raises where the encoder itself is at fault.
        """
        try:
            return self.encode(texts)
        except (OSError, EncoderUnavailable):
            raise
        except Exception as error:
            found = [self._alone(text) for text in texts]
            problems = {i: str(one) for i, one in enumerate(found) if isinstance(one, Exception)}
            if problems:
                self._require_well(error)
                raise Unencodable(problems) from error
            return np.concatenate([one for one in found if isinstance(one, np.ndarray)])

    def _alone(self, text: str) -> NDArray[np.float32] | Exception:
        try:
            return self.encode([text])
        except (OSError, EncoderUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - one text must not fail the others
            return error

    def _require_well(self, error: Exception) -> None:
        """Raises ``error`` where the encoder fails for any text: then it says nothing of these."""
        try:
            self.check()
        except Exception:  # noqa: BLE001 - why the encoder fails is in the error that there is
            raise error from None
