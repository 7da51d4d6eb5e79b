"""The processes: who starts whom, what each is given, and how they are replaced.

Nouns: the *master* holds the listening sockets and starts everybody else; a *seat* is a place that must always be taken
(one keeper, one portal, one worker for each slot); a *channel* is the pipe between the master and a child; the
*configuration* is settings and policy of one version. This package is the composition root: the only one that knows
everybody, and the only one that sees the master key.
"""
