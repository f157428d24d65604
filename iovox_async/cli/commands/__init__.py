"""One module a command.

The law of this package: a command says what it takes, does it with the package's public surface, and shares with
other commands only what lies beside this folder.
"""
