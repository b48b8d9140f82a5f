"""The configuration: its types, how the command line becomes one, how it is saved with a run, what a mistake says."""
