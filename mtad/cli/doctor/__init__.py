"""`mtad doctor`: why a start would fail on this machine, and the remedy for each cause.

::

    report       asks every check, prints what was found
    finding      what a check says
    start        the start that is examined; what its user could do, tried in a child
    program      interpreter and packages
    privileges   user, capabilities, the drop, security modules
    listeners    whether each endpoint can be bound, and who has it
    places       files, directories, control socket, disk
    certificates what profiles name for TLS
    limits       open files, processes
    processes    who holds a socket, where it runs; what surrounds this process

Nothing is changed, and nothing stays open. What needs another user is tried in a forked child.
"""
