"""How many cases the tests that draw their own take: a few in the suite, XCNN_TEST_DRAWS=5000 in a long run."""

import os


def draws(few):
    """The cases of one test: `few`, unless the environment asks for another number."""
    return int(os.environ.get("XCNN_TEST_DRAWS", few))
