"""Which session suits a run: one on a build, or one on an install."""

from __future__ import annotations

from vmharness.flows.run import Run
from vmharness.flows.session import Session
from vmharness.flows.trail import Trail
from vmharness.plan.make import Plan


def session_on(plan: Plan, run: Run, trail: Trail, *, offline: bool = False) -> Session:
    """A session, to be entered.

    :param run: the session's own; its directory gets the machine's evidence.
    :param trail: its directory holds what the build left.
    :param offline: whether an installer's network leads nowhere.
    """
    if plan.spec.install is None:
        return Session(plan=plan, run=run, trail=trail)
    from vmharness.flows.install_session import InstallSession  # noqa: PLC0415 -- only installs need it

    return InstallSession(plan=plan, run=run, trail=trail, offline=offline)
