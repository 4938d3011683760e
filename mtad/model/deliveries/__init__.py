"""What a sender did, told from what was said to it: attempts, the messages they were for, a report.

::

    dialogue      the entries of a transcript → commands, each with its replies
    transactions  what of that is about one message
    attempts      sessions and the messages that are kept → attempts to deliver
    grouping      attempts → deliveries: one message to one recipient, over all its attempts
    report        deliveries → numbers; expected: against what was expected of them
    replay        a dialogue → the rules that have the same said again

Pure: no I/O, no clock.
"""
