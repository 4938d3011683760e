"""Mail that is sent on, because a rule has said so: forwarded, bounced, released.

::

    queue          what is due: tries, and what comes of them         the archive's task
      letters      a message, or its bounce, as it is to be sent
        report     the bounce: a delivery status notification
        loops      how often it has been sent on already
      courier      one connection to a hop, one transaction           aiosmtplib
        parameters what of the envelope the hop is told
        stuffing   the content of DATA
    releasing      what is held is sent after all                     a command
"""
