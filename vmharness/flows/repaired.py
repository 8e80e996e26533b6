"""Ending a build by hand: the steps that are left are run, and the image is published as one that was repaired."""

from __future__ import annotations

from pathlib import Path

from vmharness.errors import SpecError
from vmharness.flows import build
from vmharness.flows.outputs import deliver
from vmharness.flows.prepared import Prepared
from vmharness.flows.reproduce import Opened
from vmharness.host import publish
from vmharness.model import manifest


def go_on(opened: Opened, output: Path) -> manifest.Manifest:
    """Run the steps that are left, and publish the image, marked as repaired by hand.

    The definition's hook is not run: the definition may be a stranger's.

    :raises SpecError: there is something at ``output`` that no build has made.
    :raises GuestError: a step failed; the session is before it.
    :raises BuildFailed: the image is not what the plan says.
    """
    session, record = opened.session, opened.record
    run, plan = session.run, session.plan
    publish.require_publishable(output)
    if plan.spec.secure_boot.wanted and plan.spec.secure_boot.keys is not None:
        what = f"the image would be signed with the keys in {plan.spec.secure_boot.keys}, which a session does not do"
        raise SpecError(what, origin=str(plan.spec.origin), hint="correct the definition, and build")
    session.advance(len(plan.actions))
    session.finish()
    if plan.spec.hooks.after_build:
        run.note(f"not run, since this is no build: {' '.join(plan.spec.hooks.after_build)}")
    prepared = Prepared(
        plan=plan,
        seed=record.seed,
        tools=record.tools,
        trees={},
        contents=None,
        appliance=None,
        resume=True,
        media=record.media,
        repairs=tuple(session.repairs),
    )
    prepared = build.finish(build.secure(prepared, run), run)
    build.check(prepared, run)
    return deliver(prepared, output, "", run)
