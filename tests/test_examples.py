"""The checked-in examples parse, and their commands are ones that geossl takes."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from geossl.config import make_config
from geossl.recipes import read_recipe

EXAMPLES = Path(__file__).parent.parent / "examples"


def slurm():
    text = (EXAMPLES / "slurm.sbatch").read_text()
    command = re.search(r"-m geossl (train .*?) &\n", text.replace("\\\n", " "), re.DOTALL)[1]
    return shlex.split(command)


def kubernetes():
    job = yaml.safe_load((EXAMPLES / "pytorchjob.yaml").read_text())
    (container,) = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    words = container["command"]
    assert words[:3] == ["torchrun", "-m", "geossl"]
    return [part for word in words[3:] for part in word.split("=", 1)]


@pytest.mark.parametrize("command", [slurm, kubernetes])
def test_the_command_of_an_example_is_taken(command):
    from geossl.cli import app

    _, bound, ignored = app.parse_args(command(), exit_on_error=False, print_error=False)
    assert not ignored
    given = bound.arguments
    assert given["resume"] == "auto"
    settings = given["settings"].model_dump(exclude_unset=True)
    config = make_config(*map(read_recipe, given["recipe"]), settings)
    assert config.model.bn_groups % 16 == 0  # two machines of eight GPUs


def test_the_script_is_a_script():
    subprocess.run(["bash", "-n", EXAMPLES / "slurm.sbatch"], check=True)
