"""Checks what deploy/ ships, as far as that can be done without an account: schemas, rules of our own, cross-references."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import botocore.session
import botocore.validate
import yaml

import deployments
from deployments import DEPLOY

DOCS = DEPLOY.parent / "docs"


def everything_parses() -> list[str]:
    """Every JSON and YAML file."""
    problems = []
    for path in sorted(DEPLOY.rglob("*")):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix in (".yml", ".yaml") and path != deployments.TEMPLATE:
                yaml.safe_load(path.read_text())
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
    return problems


def task_definitions_are_what_ecs_takes() -> list[str]:
    """Against the model of RegisterTaskDefinition in AWS's own SDK, which also refuses keys that it does not know."""
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    problems = []
    for path in deployments.TASKS:
        report = botocore.validate.ParamValidator().validate(json.loads(path.read_text()), shape)
        if report.has_errors():
            problems.append(f"{path.name}: {report.generate_report()}")
    return problems


def agents_are_locked_down_and_stop_in_time() -> list[str]:
    """Rules of our own for each container that runs the agent."""
    problems = []
    for path in deployments.TASKS:
        for container in deployments.agents(json.loads(path.read_text())):
            grace = tomllib.loads(container["environment"][0]["value"])["agent"]["shutdown_grace"]
            rules = {
                "runs as root": container.get("user", "0").split(":")[0] not in ("0", "root"),
                "its root file system can be written": container.get("readonlyRootFilesystem", False),
                "keeps capabilities": container["linuxParameters"]["capabilities"]["drop"] == ["ALL"],
                "is killed before shutdown_grace is over": int(grace.removesuffix("s")) < container["stopTimeout"] <= 120,
                "its health check is not `healthcheck`": container["healthCheck"]["command"][1:] == ["/trailship", "healthcheck"],
            }
            problems += [f"{path.name}: the agent {text}" for text, holds in rules.items() if not holds]
    return problems


def configurations_name_only_secrets_that_are_given() -> list[str]:
    """Each embedded configuration is TOML, keeps dead letters in S3, and uses exactly the secrets of its task."""
    problems = []
    given = {"cloudformation/trailship.yaml": {"SINK_SECRET"}}
    for path in deployments.TASKS:
        container = deployments.agents(json.loads(path.read_text()))[0]
        given[str(path.relative_to(DEPLOY))] = {secret["name"] for secret in container["secrets"]}
    for where, text in deployments.configurations().items():
        config = tomllib.loads(text)
        if config["dead_letter"]["type"] != "s3":
            problems.append(f"{where}: dead letters in a container are lost with it")
        used = set(re.findall(r"\$\{(\w+)", text))
        if used != given[where]:
            problems.append(f"{where}: uses {sorted(used)}, is given {sorted(given[where])}")
    return problems


def policies_pass_cfn_lint() -> list[str]:
    """The policies of iam/, wrapped into a template: their grammar, and that each action exists."""
    policies = {path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "iam").glob("*-policy.json"))}
    queue = policies.pop("queue-policy")
    wrapped = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": {
            "Queue": {"Type": "AWS::SQS::QueuePolicy", "Properties": {"Queues": ["https://q"], "PolicyDocument": queue}},
        }
        | {
            name.title().replace("-", ""): {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": policy}}
            for name, policy in policies.items()
        },
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(wrapped, file)
        file.flush()
        # W1030: the queue's URL is made up.
        command = [Path(sys.executable).with_name("cfn-lint"), "--ignore-checks", "W1030", "--", file.name]
        run = subprocess.run(command, capture_output=True, text=True)
    return [] if run.returncode == 0 else [run.stdout.strip()]


def policies_grant_no_wildcards() -> list[str]:
    """No action and no resource of the agent's and the operator's policies is open."""
    problems = []
    names = ["agent", "ledger", "secrets", "redrive", "lake"]
    policies = [json.loads((DEPLOY / "iam" / f"{name}-policy.json").read_text()) for name in names]
    for statement in [statement for policy in policies for statement in policy["Statement"]]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        problems += [f"{statement['Sid']}: {action}" for action in actions if "*" in action]
        if statement["Resource"] == "*":
            problems.append(f"{statement['Sid']}: any resource")
    return problems


def the_template_grants_what_the_policy_grants() -> list[str]:
    """The role in the template names the actions of agent-policy.json, and those of ledger-policy.json where it has one."""
    role = deployments.template()["Resources"]["TaskRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    flat = [statement["Fn::If"][1] if "Fn::If" in statement else statement for statement in role]
    policies = [DEPLOY / "iam" / name for name in ("agent-policy.json", "ledger-policy.json")]
    policy = [statement for path in policies for statement in json.loads(path.read_text())["Statement"]]
    there, here = actions_of(flat), actions_of(policy)
    return [] if there == here else [f"only in one of them: {sorted(there ^ here)}"]


def the_readme_grants_what_the_policy_grants() -> list[str]:
    """The policy that the README shows names the same actions, but for the key's, which it mentions below."""
    block = re.search(r"```json\n(.*?)```", (DEPLOY.parent / "README.md").read_text(), re.DOTALL)[1]
    policy = json.loads((DEPLOY / "iam" / "agent-policy.json").read_text())["Statement"]
    there, here = actions_of(json.loads(block)["Statement"]) | {"kms:Decrypt"}, actions_of(policy)
    return [] if there == here else [f"only in one of them: {sorted(there ^ here)}"]


def actions_of(statements: list[dict]) -> set[str]:
    """Every action of a list of statements."""
    named = [statement["Action"] for statement in statements]
    return {action for actions in named for action in ([actions] if isinstance(actions, str) else actions)}


def the_image_runs_unprivileged_and_is_watched() -> list[str]:
    """Rules of our own for the Dockerfile; building it needs a Docker engine."""
    text = (DEPLOY / "Dockerfile").read_text()
    rust = tomllib.loads((DEPLOY.parent / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    last = text.rsplit("\nFROM ", 1)[1]
    rules = {
        "no unprivileged user by number": re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE),
        "no health check": 'CMD ["/trailship", "healthcheck"]' in last,
        "no ENTRYPOINT as a list": 'ENTRYPOINT ["/trailship"]' in last,
        f"not built with Rust {rust}": f"FROM rust:{rust}-" in text,
        "its volume's folder is not the user's": "--chown=65532:65532 --from=build" in last or "--from=build --chown=65532:65532" in last,
    }
    return [text for text, holds in rules.items() if not holds]


def alerts_are_tested_documented_and_use_known_metrics() -> list[str]:
    """Each alert fires in a test, has a section in docs/operations.md, and asks for metrics of docs/metrics.md."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yml").read_text())["tests"]
    fired = {entry["alertname"] for test in tests for entry in test["alert_rule_test"] if entry["exp_alerts"]}
    known = set(re.findall(r"`(trailship_\w+)`", (DOCS / "metrics.md").read_text()))
    sections = set(re.findall(r"^### `(\w+)`", (DOCS / "operations.md").read_text(), re.MULTILINE))
    names = {rule["alert"] for rule in rules}
    problems = [f"{name}: no test in which it fires" for name in sorted(names - fired)]
    problems += [f"{name}: not in docs/operations.md" for name in sorted(names - sections)]
    for rule in rules:
        used = {name.removesuffix("_bucket") for name in re.findall(r"\btrailship_\w+", rule["expr"])}
        problems += [f"{rule['alert']}: {name} is not in docs/metrics.md" for name in sorted(used - known)]
    return problems


CHECKS: list[Callable[[], list[str]]] = [
    everything_parses,
    task_definitions_are_what_ecs_takes,
    agents_are_locked_down_and_stop_in_time,
    configurations_name_only_secrets_that_are_given,
    policies_pass_cfn_lint,
    policies_grant_no_wildcards,
    the_template_grants_what_the_policy_grants,
    the_readme_grants_what_the_policy_grants,
    the_image_runs_unprivileged_and_is_watched,
    alerts_are_tested_documented_and_use_known_metrics,
]


def main() -> int:
    """Runs every check; 0 if all hold."""
    failed = 0
    for check in CHECKS:
        problems = check()
        failed += bool(problems)
        print(f"deploy: {check.__name__.replace('_', ' ')}: {'FAILED' if problems else 'ok'}")
        for problem in problems:
            print(f"  {problem}")
    print(f"deploy: {len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
