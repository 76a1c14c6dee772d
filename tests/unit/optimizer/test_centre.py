"""Where model-based searches begin."""

from __future__ import annotations

from maggy import Categorical, Double, Integer, Searchspace
from maggy.optimizer.centre import centre


def test_defaults_and_the_middle_of_the_rest() -> None:
    """On the scale of the hyperparameter: the middle of a logarithmic range is its mean there."""
    space = Searchspace(
        lr=Double(1e-4, 1.0, log=True), layers=Integer(1, 9, default=2), width=Integer(1, 9)
    )
    found = centre(space)
    assert abs(float(str(found["lr"])) - 1e-2) < 1e-9
    assert (found["layers"], found["width"]) == (2, 5)


def test_only_what_is_active_is_there() -> None:
    """A hyperparameter whose condition does not hold is left out."""
    space = Searchspace(
        kind=Categorical(["sgd", "adam"], default="adam"),
        momentum=Double(0.0, 1.0, when={"kind": "sgd"}),
        beta=Double(0.0, 1.0, when={"kind": "adam"}),
    )
    assert centre(space) == {"kind": "adam", "beta": 0.5}
