"""What section 4 says of Tables 1, 2 and 3."""

from collections.abc import Mapping

from rmc_tf.report.claims.base import Differences
from rmc_tf.report.claims.comparisons import WEB_NN, attacks, best, in_columns, worst

_SEARCHING = ("DeepNN", *WEB_NN)
_BASELINES = ("None", *_SEARCHING)
_RMC = ("RMC",)
_NONE = ("None",)

DECIDERS: Mapping[str, Differences] = {
    "best_everywhere": in_columns(attacks, _RMC, best(*_BASELINES)),
    "worst_without": in_columns(attacks, worst(*_SEARCHING, "RMC"), _NONE),
    "neighbours_help": in_columns(attacks, _SEARCHING, _NONE, mean=True),
    "neighbours_not_enough": in_columns(attacks, _RMC, best(*_SEARCHING), mean=True),
    "clean_stays": in_columns(["clean"], _RMC, _NONE, margin=0.05),
    "above_baselines": in_columns(attacks, _RMC, _BASELINES),
    # Under the larger radius.
    "as_the_denoising_block": in_columns(lambda columns: columns[-1:], _RMC, ["DB"], margin=0.05),
    "highest_clean": in_columns(["clean"], _RMC, [*_SEARCHING, "Adv. Trained", "DB"]),
    "small_web_nn": in_columns(["clean"], _NONE, WEB_NN),
}
