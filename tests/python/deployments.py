"""Reads what deploy/ ships: task definitions, the CloudFormation template, and the configurations inside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TEMPLATE = DEPLOY / "cloudformation" / "trailship.yaml"
PARAMETERS = DEPLOY / "cloudformation" / "parameters.example.json"
TASKS = sorted((DEPLOY / "ecs").glob("*.json"))

PSEUDO = {"AWS::Region": "eu-west-1", "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com", "AWS::AccountId": "111122223333"}
RESOURCES = {
    "Queue": "https://sqs.eu-west-1.amazonaws.com/111122223333/trailship",
    "HandoffQueue": "https://sqs.eu-west-1.amazonaws.com/111122223333/trailship-handoff",
    "DeadLetters": "my-dead-letters",
}


class CloudFormationLoader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, kept as `{"!Sub": …}`."""


def _short_form(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        value: object = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {f"!{tag}": value}


CloudFormationLoader.add_multi_constructor("!", _short_form)


def template() -> dict:
    """The CloudFormation template."""
    return yaml.load(TEMPLATE.read_text(), CloudFormationLoader)  # noqa: S506  (derived from SafeLoader)


def template_configuration() -> str:
    """The configuration that the template gives its task, with the example's parameters put in."""
    content = template()
    values = PSEUDO | RESOURCES
    values |= {name: str(body["Default"]) for name, body in content["Parameters"].items() if "Default" in body}
    values |= {entry["ParameterKey"]: entry["ParameterValue"] for entry in json.loads(PARAMETERS.read_text())}
    container = content["Resources"]["Task"]["Properties"]["ContainerDefinitions"][0]
    text = next(entry["Value"]["!Sub"] for entry in container["Environment"] if entry["Name"] == "TRAILSHIP_CONFIG_TOML")
    # What it adds to the names is for the ledger's table, which the example does not make.
    text, values["LedgerKeys"] = text[0], ""
    # Once, as CloudFormation does it: what a parameter brings is not looked at again.
    return re.sub(r"\$\{([\w:]+)\}", lambda found: values[found[1]], text)


def agents(task: dict) -> list[dict]:
    """The containers of a task definition that run the agent."""
    return [container for container in task["containerDefinitions"] if container["name"] == "trailship"]


def configurations() -> dict[str, str]:
    """Every configuration that is shipped inside something else, by where it stands."""
    found = {str(TEMPLATE.relative_to(DEPLOY)): template_configuration()}
    for path in TASKS:
        for container in agents(json.loads(path.read_text())):
            variables = {entry["name"]: entry["value"] for entry in container["environment"]}
            found[str(path.relative_to(DEPLOY))] = variables["TRAILSHIP_CONFIG_TOML"]
    return found
