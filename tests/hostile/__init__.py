"""Wrong and hostile input by kind, made by code: what a stranger hands over, and the command that is given it.

Each module has CASES: a name -> (make, said). make(folder) writes what the case needs into an empty folder and gives
the command, a tool of tools/ and its arguments; said is what the line must match: what came, what was wanted, where.
`tests/test_tools_hostile.py` runs them all.
"""
