"""The engines we compare ourselves with, each driven by a script that runs in the peers' own environment.

This file and the drivers import only the standard library and the peer itself.
"""
