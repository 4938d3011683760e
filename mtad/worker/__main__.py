"""The program that the supervisor starts.

::

    python -I -m mtad.worker SUPERVISOR CHANNEL COUNTERS LOADS NEWS CELL

Holding nothing comes before everything else, even before the imports that serve mail.
"""

import gc
import sys

if __name__ == "__main__":
    gc.disable()  # until everything is imported: see mtad.supervisor.__main__
    from mtad.privilege.drop import die_with_parent, renounce

    supervisor, channel, counters, loads, news, cell = map(int, sys.argv[1:])
    renounce()
    die_with_parent(supervisor)

    from mtad.ipc.counters import Counters
    from mtad.ipc.loads import Load
    from mtad.worker.main import run

    gc.freeze()
    gc.enable()
    run(channel, Counters(counters), Load(loads, cell), news)
