"""``python -m mtad.supervisor FILE…``: what `mtad run` turns into."""

import gc
import signal
import sys

if __name__ == "__main__":
    # Until the daemon has handlers of its own: an end without a stack trace.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    # Imports make many objects and hardly any garbage: to look for it is a tenth of a start.
    gc.disable()
    from mtad.supervisor.main import main

    gc.freeze()  # nor is it looked for among them later
    gc.enable()
    sys.exit(main(sys.argv[1:]))
