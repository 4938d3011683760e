"""The program that the supervisor starts.

::

    python -I -m mtad.archive SUPERVISOR CHANNEL NEWS

Holding nothing comes before everything else, even before the imports that read mail.
"""

import gc
import sys

if __name__ == "__main__":
    gc.disable()  # until everything is imported: see mtad.supervisor.__main__
    from mtad.privilege.drop import die_with_parent, renounce

    supervisor, channel, news = map(int, sys.argv[1:])
    renounce()
    die_with_parent(supervisor)

    from mtad.archive.main import run

    gc.freeze()
    gc.enable()
    run(channel, news)
