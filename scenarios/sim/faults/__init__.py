"""Faults in the simulated world, by what they strike. What is confirmed is read back from the simulation: from what workers
were sent, what the server says, what the network counted.
"""
