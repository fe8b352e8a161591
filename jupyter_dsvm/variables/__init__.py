"""What runs inside a kernel when its variables move, on the Jupyter server or on a VM: the standard library, Python 3.8 and later.

The gate puts this package into a kernel as ``_jupyter_dsvm_variables``, with cloudpickle beside it, by a silent request
(``kernels/variables_source.py``), and calls these functions through ``call`` in ``user_expressions``. They take and return what
JSON knows, raise nothing (``{"error": {"message", "code"}}``), print nothing, and leave no name behind. The old kernel ``send``s
while the new one ``receive``s, each over a unix socket that it is told; ``save`` and ``load`` do the same with a file.

    names.py       which names are the user's, and what an import brings back
    reasons.py     what cannot move, and the sentence for that
    pickling.py    a pickle with its large memory beside it; functions of the notebook
    forms.py       arrays, tensors and frames: their memory, as it is
    sourcecode.py  functions for another version of Python
    survey.py      the dry run, and which names share objects
    stream.py      frames and their order (pure)
    outgoing.py, incoming.py    the two ends of the stream: items and parts
    sending.py, receiving.py    the two ends of a move: all names
    files.py       the stream in a file
    call.py        the functions, for those who ask over the kernel's channels

Nothing here imports NumPy, pandas or the like unless a value of theirs is there, or comes.
"""
