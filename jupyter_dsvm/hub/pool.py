"""Which VM of a pool a person gets at the first attach. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..errors import RefusedByPolicy
from ..models import Compute, PowerState
from .policy import Pool

ON = (PowerState.RUNNING, PowerState.STARTING)


def choose(pool: Pool, machines: Sequence[Compute], assignments: Mapping[tuple[str, str], str], person: str) -> str:
    """The id of the VM. What they were given before they keep, as long as it is in the pool; otherwise the fullest one that has
    room, so that as few as possible have to be on: of equally full ones one that is on, then the first by name.

    ``assignments``: (pool, person) to VM. Raises ``RefusedByPolicy`` where there is no room.
    """
    known = {row.id: row for row in machines}
    kept = assignments.get((pool.name, person))
    if kept in known:
        return kept
    taken = Counter(vm for (name, _), vm in assignments.items() if name == pool.name)
    free = [row for row in machines if taken[row.id] < pool.users_per_vm]
    if not free:
        there = "It has no VM." if not machines else f"Each of its {len(machines)} VMs is taken."
        raise RefusedByPolicy(
            f"You get no VM of the pool {pool.name} (rule HubPolicy.pools). {there}",
            advice="Ask your teacher.",
            rule="pools",
        )
    return min(free, key=lambda row: (-taken[row.id], row.power_state not in ON, row.name, row.id)).id
