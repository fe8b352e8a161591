"""Side by side in one run: a local ipykernel, the best peer (sshpyk, through OpenSSH) and ours. ``make bench`` runs all of it.

    __main__     the command line
    bench        repeats, interleaved; one contender that fails leaves a hole in the table and no more
    rows         what is measured, in which unit, and what it must reach (DESIGN, section 7)
    contenders   local, sshpyk, ours: what their processes need
    holder       a process that holds kernels as a Jupyter server does, without the server; ``holding`` is what runs there
    direct       a client over ZeroMQ
    server       a real Jupyter server, and a page's websocket to it
    machines     the SSH server that stands for a VM; the way to it, with a delay
    report       RESULTS.md and results.json

The other modules are groups of rows: ``launch``, ``roundtrip``, ``throughput``, ``queued``, ``browser``, ``memory``,
``imports``, ``privacy``, ``loss``, ``sync``.
"""
