"""The world of containers: PostgreSQL and each worker in one of their own, on a network that leads nowhere else.

The harness hears the workers' engine points through sockets in a folder that is mounted into the containers, so what
happens to the network does not keep it from hearing. The code of the harness is mounted too: a container runs no other.
"""
