"""What is shipped to a VM, as one zip, and runs there with Python 3.8 or newer and pyzmq. It imports nothing outside itself.

The parts, from the bottom up; each knows only those above it:

    wire             frames, and the bodies in them                                        pure
    segments         the part of a journal that lies on disk
    journal          what was sent and not acknowledged; what is left out at the limit
    hello            the first frame of a connection, read and checked                     pure
    session          numbers, acknowledgement, replay, credit, adoption: both ends         pure
    folders          private folders whose sockets have short paths
    listening        unix sockets for this user only
    loop, stream     a poll loop; frames over descriptors that never block
    kernel           a kernel's channels and arguments (also used by the server for its own kernels)
    process          a kernel's process
    spec             what a START frame says
    lines            JSON objects over a unix socket
    hold             when a spare is handed out, and when it ends                          pure
    holder           the parent of one spare: a small process of its own
    spare            which kernels may share a spare; a relay's interest in one
    runner           the life of a relay's kernel: start, connect, run, drain, restart, end
    calls            the socket that ``%dsvm`` in the kernel speaks to
    runs             what the server was told of the kernel's runs                         pure
    attaching        who is connected to a relay, and which of them is attached
    record           what a relay writes down about itself
    memory           what the C library does with free memory
    daemon           the relay: one detached process per kernel
    spawning         how a relay comes to be
    marks            what our processes are called, so that every account sees which of them work
    executing        which cells a kernel was given and has not answered                   pure
    processes        everybody's processes, from /proc
    terminals        who is logged in                                                      pure
    leases           which servers want the machine kept on
    activity         what is going on on the machine; run in a process of its own
    kernelspecs      the kernels that this machine offers
    pipe             the attach pipe between one SSH channel and the relays; the loader calls ``pipe.main()``
    start_ipykernel  run by the kernel's Python: ipykernel without a TCP port
    park             run by a spare: imports done, it waits to be told which kernel it is
    magic            ``%dsvm`` in the kernel (run there, not here)

On the VM, for each kernel:

    sshd ── attach pipe (one per SSH connection, keeps nothing)
              │  relay.sock                                  ~/.local/share/jupyter-dsvm/kernels/<half of the tag>/   0700
            relay (one per kernel, keeps what is not acknowledged)
              │  r<run>-1 … r<run>-5, call.sock
            kernel (ends when its relay does)

The pipe starts a relay when a HELLO with ``{"create": true}`` comes for a kernel that has none, and answers GONE to any
other HELLO for one. What a link does is: HELLO, then START once, then DATA; after any interruption HELLO again on a new pipe, and
both ends go on where they were. ``docs/protocol.md`` has all that is said, with pictures.
"""
