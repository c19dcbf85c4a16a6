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


def joined(entries, config, payload, true_sum=True):
    """A file of such parts, with a right sum: what an attacker would make."""
    text = config if isinstance(config, str) else json.dumps({**config, **HEAD} if true_sum else config)
    header = json.dumps({"__metadata__": {"xcnn": text}, **entries}).encode()
    whole = len(header).to_bytes(8, "little") + header + payload
    if true_sum:
        digest = hashlib.sha256(whole).hexdigest().encode()
        whole = whole.replace(checkpoint_file.BLANK.encode(), digest, 1)
    return whole
