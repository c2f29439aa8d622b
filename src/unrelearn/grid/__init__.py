"""Grids: the runs of a multirun as distinct artefacts in the order in which they can be made, each
of them once.

    parts    a part of a grid, and which parts are there
    plan     what the runs consist of, and how long each part will take
    work     makes parts that are missing: any number of processes may do so at once, on any machine
             that sees the folder
    status   what is done, being made, and failed
    follow   shows that until all is done
    account  what became of the runs of a command
    multirun, queued   the runs of a command, made by this process, or by Slurm

A part is made under a claim, a file lock that dies with its process, so that nothing is made twice
and nothing waits for a process that is gone. What fails is noted beside the grid and rules out only
what needs it.
"""
