"""Runs in the environment of a peer: computes what each line of its input asks for.

A program has `PACKAGE`, `prepare(*paths)`, and `FUNCTIONS` of what that gives.
"""

import importlib.metadata
import json
import os
import runpy
import sys
import warnings

warnings.simplefilter("ignore")
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no answer


def answer(**what):
    """One line of JSON."""
    print(json.dumps(what), file=answers, flush=True)


def main(program, *paths):
    """Prepare, then compute until the input ends."""
    try:
        names = runpy.run_path(program)
        given = names["prepare"](*paths)
        answer(version=importlib.metadata.version(names["PACKAGE"]))
        for line in sys.stdin:
            function, out = json.loads(line)
            found = names["FUNCTIONS"][function](given)
            if out:
                import numpy as np

                np.save(out, found)
            answer()
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
