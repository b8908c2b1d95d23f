"""Every RPC once: what is sent, how its answer is read, and its public signature.

A method here describes a call and does none; ``Client`` and ``AsyncClient`` inherit these methods
and execute what they describe, each in its way.
"""
