"""Sessions that have fault rules: used only where a listener has rules.

::

    sessions            what a session is made of, by what the rules of its listener are about
      commands            CONNECT, BANNER, and the commands: a class for each
      tls                 TLS
      bodies              BODY
      ends                MESSAGE, KEPT, ANSWERED
        Acting              answering as a rule says, and closing
          Asking              which rule acts, and when
            Waiting             without a task; silence
              Session
    PacedConnection     slow, and what is too long to be held
      FaultyConnection    deaf, reset, half closed
        Connection
    answers, facts, header, positions, tls_records: pure

A rule waits by a timer, or for the judge; meanwhile the session takes nothing more.
"""
