"""What Syne Tune starts for each trial."""

from argparse import ArgumentParser

from syne_tune import Reporter
from trial import train

parser = ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--k", type=int)
hparams, _ = parser.parse_known_args()
Reporter()(loss=train(hparams.x, hparams.k))
