"""What is searched: hyperparameters, the conditions and constraints between them, their coding.

Everything here is plain Python in, plain Python out; a generator is handed in where one is needed.
"""

from maggy.searchspace.constraints import Constraint
from maggy.searchspace.lists import Categorical, Discrete
from maggy.searchspace.notation import Hyperparameter
from maggy.searchspace.ranges import Double, Integer
from maggy.searchspace.space import Searchspace

__all__ = [
    "Categorical",
    "Constraint",
    "Discrete",
    "Double",
    "Hyperparameter",
    "Integer",
    "Searchspace",
]
