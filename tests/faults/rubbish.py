"""Bytes that are nearly a message, and messages that are too large."""


def padded(message, n_bytes):
    """The message, and behind it a field that nobody knows, of so many bytes."""
    return message + b"\xfa\x7f" + varint(n_bytes) + bytes(n_bytes)


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def mutated(draw, valid):
    """A valid message with some bytes changed, cut out, repeated or put in."""
    data = bytearray(valid)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(data):
                data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del data[at : at + draw.randint(1, 8)]
            case 3:
                data[at:at] = draw.randbytes(draw.randint(1, 8))
            case _:
                data[at:at] = data[at : at + draw.randint(1, 32)]
    return bytes(data)
