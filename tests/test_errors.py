"""The phrases that many error messages share."""

from __future__ import annotations

import pytest

from biper.errors import MissingDependencyError, did_you_mean, nearest, optional_packages

KNOWN = ("cifar10", "digits", "imagenet")


def test_the_nearest_word_is_suggested_and_all_are_listed() -> None:
    assert nearest("digit", KNOWN) == "digits"
    assert nearest("zzz", KNOWN) is None
    assert did_you_mean("digit", KNOWN) == "; did you mean 'digits'? Known: cifar10, digits, imagenet"
    assert did_you_mean("zzz", KNOWN) == "; known: cifar10, digits, imagenet"
    assert did_you_mean("digit", KNOWN, listed=False) == "; did you mean 'digits'?"
    assert did_you_mean("zzz", KNOWN, listed=False) == ""


def test_a_missing_package_says_how_to_install_it() -> None:
    message = r"biper\.export needs the package 'no_such_package': pip install 'biper\[onnx\]'"
    with pytest.raises(MissingDependencyError, match=message), optional_packages("onnx", "biper.export"):
        import no_such_package  # noqa: F401


def test_a_missing_module_of_biper_is_a_bug_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"biper\.no_such_module"), optional_packages("onnx", "biper.export"):
        import biper.no_such_module  # noqa: F401
