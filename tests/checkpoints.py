"""The files of checkpoints, taken apart and put together again."""

import hashlib
import json

from xcnn.model import checkpoint_file

HEAD = {"sha256": checkpoint_file.BLANK}


def write(path, tensors, config):
    """A file of such tensors and such a configuration, as a Model's is written: if it can be read again."""
    text = checkpoint_file.written(config)
    checkpoint_file.read_back({name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}, text)
    checkpoint_file.put(path, tensors, text)


def split(whole):
    """A file as its tensors' entries, its configuration and their bytes."""
    length = int.from_bytes(whole[:8], "little")
    entries = json.loads(whole[8 : 8 + length])
    config = json.loads(entries.pop("__metadata__")["xcnn"])
    return entries, config, whole[8 + length :]


def sum_of(whole):
    """The sum of a file, by its definition: of what comes before the tensors, and of the sums of each MiB of them."""
    first = 8 + int.from_bytes(whole[:8], "little")
    sums = [hashlib.sha256(whole[at : at + 2**20]).digest() for at in range(first, len(whole), 2**20)]
    return hashlib.sha256(whole[:first] + b"".join(sums)).hexdigest().encode()


def sealed(whole, sum_of=sum_of):
    """A file whose sum's digits were zeros, with a right sum."""
    return whole.replace(checkpoint_file.BLANK.encode(), sum_of(whole), 1)


def joined(entries, config, payload, true_sum=True):
    """A file of such parts, with a right sum: what an attacker would make."""
    text = config if isinstance(config, str) else json.dumps({**config, **HEAD} if true_sum else config)
    header = json.dumps({"__metadata__": {"xcnn": text}, **entries}).encode()
    whole = len(header).to_bytes(8, "little") + header + payload
    return sealed(whole) if true_sum else whole
