"""What is said where a door's package is not installed."""

import importlib
import importlib.util

import pytest

from actfer_env.errors import DataError

DOORS = {"openenv.models": "openenv", "openenv.server": "openenv", "inspect": "inspect_ai", "verifiers": "verifiers"}


@pytest.mark.parametrize("module", DOORS)
def test_a_door_without_its_package_names_the_extra(module):
    package = DOORS[module]
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    extra = module.partition(".")[0]
    with pytest.raises(DataError, match=rf"is missing: pip install 'actfer-env\[{extra}\]'"):
        importlib.import_module(f"actfer_env.integrations.{module}")


def test_openenv_is_not_loaded_before_a_name_is_asked_for():
    package = importlib.import_module("actfer_env.integrations.openenv")
    with pytest.raises(AttributeError, match="no attribute 'never_was'"):
        package.never_was  # noqa: B018
