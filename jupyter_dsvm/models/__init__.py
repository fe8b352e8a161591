"""The shapes that everything passes around: frozen, and to and from JSON (DESIGN section 6).

``to_json`` gives what the REST API answers and what ``--json`` prints. Durations are seconds, memory is GiB,
moments are ISO 8601 in UTC with a ``Z``.
"""

from __future__ import annotations

from .advice import Advice, Fit, GPUEvidence, GPUGrade
from .computes import FREE, OS, Compute, ComputeKind, PowerState, Price, Problem, Size, SizeOffer, SSHTarget
from .idle import IdleState, IdleStop, SafetyStopRecord, StopLoss
from .kernels import KernelRecord, LinkPhase, LinkState, Module, Question
from .metrics import GPUUse, Metrics, Usage
from .operations import Operation, OperationState, Step, StepState
from .shape import Shape, utc_at, utc_now
from .signin import SignInState, SignInStatus
from .spend import Budget, BudgetState, ComputeSpend, Spend
from .variables import CarryState, SavedVariables, Variable, Variables
from .workspaces import WorkspaceConflict, WorkspaceEstimate, WorkspaceFile, WorkspaceRecord, WorkspaceState

__all__ = [
    "FREE",
    "OS",
    "Advice",
    "Budget",
    "BudgetState",
    "CarryState",
    "Compute",
    "ComputeKind",
    "ComputeSpend",
    "Fit",
    "GPUEvidence",
    "GPUGrade",
    "GPUUse",
    "IdleState",
    "IdleStop",
    "KernelRecord",
    "LinkPhase",
    "LinkState",
    "Metrics",
    "Module",
    "Operation",
    "OperationState",
    "PowerState",
    "Price",
    "Problem",
    "Question",
    "SSHTarget",
    "SafetyStopRecord",
    "SavedVariables",
    "Shape",
    "SignInState",
    "SignInStatus",
    "Size",
    "SizeOffer",
    "Spend",
    "Step",
    "StepState",
    "StopLoss",
    "Usage",
    "Variable",
    "Variables",
    "WorkspaceConflict",
    "WorkspaceEstimate",
    "WorkspaceFile",
    "WorkspaceRecord",
    "WorkspaceState",
    "utc_at",
    "utc_now",
]
