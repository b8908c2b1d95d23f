"""What a filter means, in plain Python over the messages themselves."""


def columns_of(item):
    """A column's values by name: a list of Python values."""
    found = {
        "category": [item.category] if item.category else [],
        "brand": [item.brand] if item.brand else [],
        "tags": [tag for tag in item.tags if tag],
        "price": [item.price] if item.HasField("price") else [],
    }
    for name, value in item.attributes.items():
        found[name] = values_of(value)
    return found


def values_of(message):
    kind = message.WhichOneof("kind")
    return list(message.texts.values) if kind == "texts" else [getattr(message, kind)]


def passes(item, asked, user):
    """Whether an item passes a ``Filter`` message.

    Args:
        item: the message.
        asked: the message.
        user: the user's attributes by name, as Python values; a set of texts is a tuple.
    """
    kind = asked.WhichOneof("kind")
    if kind == "condition":
        return _holds(columns_of(item).get(asked.condition.column, []), asked.condition, user)
    inner = [passes(item, f, user) for f in getattr(asked, kind).filters]
    return {"all": all(inner), "any": any(inner), "none": not any(inner)}[kind]


def _holds(values, condition, user):
    kind = condition.WhichOneof("test")
    if kind == "exists":
        return bool(values) == condition.exists
    if kind == "range":
        ends = [_end(condition.range, oneof, user) for oneof in ("low", "high")]
        if None in ends:
            return False
        return any(type(v) is float and ends[0] <= v <= ends[1] for v in values)
    if kind == "equals":
        wanted = values_of(condition.equals)
    elif kind == "one_of":
        wanted = [v for m in condition.one_of.values for v in values_of(m)]
    else:
        value = user.get(condition.equals_user_attribute, ())
        wanted = list(value) if isinstance(value, tuple) else [value]
    return any(type(v) is type(w) and v == w for v in values for w in wanted)


def _end(message, oneof, user):
    kind = message.WhichOneof(oneof)
    if kind is None:
        return float("-inf" if oneof == "low" else "inf")
    value = getattr(message, kind)
    if isinstance(value, float):
        return value
    value = user.get(value)
    return value if type(value) is float else None
