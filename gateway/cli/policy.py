"""`policy test`, `explain`: answers from the files alone, by the code that decides requests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, new_family, read_as
from gateway.foundation.errors import InvalidFile, Problem

if TYPE_CHECKING:
    from gateway.config.document import Document
    from gateway.policy.match import Policy
    from gateway.policy.schema import Identity, PolicyFile

family = new_family("What the policy says.")


@family.command("test")
def run_tests(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Run the policy's own tests. Exit status 1 if one fails."""
    from gateway.policy.cases import run_cases

    policy, file, document = _open(config)
    failures = run_cases(policy, file.tests)
    if json:
        show.as_json([document.locate(failure.problem).as_json() for failure in failures])
    else:
        for failure in failures:
            typer.echo(str(document.locate(failure.problem)))
        expectations = sum(len(case.expect) for case in file.tests)
        typer.echo(f"{expectations} expectations in {len(file.tests)} tests, {len(failures)} failed")
    raise typer.Exit(1 if failures else 0)


@family.command()
def explain(
    method: Annotated[str, typer.Argument(metavar="METHOD")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Like https://orders.example.com/t/acme/orders/7")],
    as_: Annotated[
        str, typer.Option("--as", metavar="ROLE@TENANT[,…]", help="Grants of who asks, or anonymous.")
    ] = "anonymous",
    otp_age: Annotated[str | None, typer.Option(metavar="DURATION", help="Age of the last one-time code.")] = None,
    token: Annotated[bool, typer.Option("--token", help="Asked with a service token.")] = False,
    address: Annotated[str | None, typer.Option(help="Of the client.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Like 2027-01-15T08:00:00Z; now if left out.")] = None,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """What would become of a request, and why. Exit status 0 for allow, 1 for anything else."""
    from gateway.policy.cases import question_for
    from gateway.policy.decide import decide
    from gateway.policy.explain import explain as render
    from gateway.policy.reasons import Verdict
    from gateway.policy.values import parse_request

    identity = _identity(as_, otp_age, token, address, at)
    request = read_as(parse_request)(f"{method} {url}")
    policy, _, _ = _open(config)
    question = question_for(policy, identity, request)
    decision = decide(policy, question)
    explanation = render(question, decision)
    if json:
        show.as_json(explanation.as_json)
    else:
        typer.echo(explanation.text)
    raise typer.Exit(0 if decision.verdict is Verdict.ALLOW else 1)


def _open(config: Path) -> "tuple[Policy, PolicyFile, Document]":
    """The policy without running its tests: one that fails them is what one wants explained. Raises InvalidFile."""
    from gateway.config.load import load_file, load_settings
    from gateway.policy.schema import PolicyFile
    from gateway.supervisor.build import build_policy

    settings = load_settings(config).settings
    file = load_file(settings.policy, PolicyFile)
    problems: list[Problem] = []
    policy = build_policy(file.text, settings, problems, run_tests=False)
    if policy is None:
        raise InvalidFile(problems)
    return policy, file.content, file.document


def _identity(as_: str, otp_age: str | None, token: bool, address: str | None, at: str | None) -> "Identity":
    from pydantic import ValidationError

    from gateway.foundation.clock import SystemClock, isoformat
    from gateway.policy.schema import Identity

    if token and as_ == "anonymous":
        raise typer.BadParameter("--token is somebody's: say whose with --as")
    said: dict[str, object] = {"credential": "token" if token else "session", "otp_age": otp_age, "address": address}
    said |= {"credential": "none"} if as_ == "anonymous" else {"grants": as_.split(",")}
    said["at"] = at or isoformat(SystemClock().now())
    try:
        return Identity.model_validate({name: value for name, value in said.items() if value is not None})
    except ValidationError as error:
        raise typer.BadParameter("; ".join(str(each["ctx"]["error"]) for each in error.errors())) from None
