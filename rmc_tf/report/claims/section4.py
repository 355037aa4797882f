"""What section 4 says of Tables 1, 2 and 3."""

from rmc_tf.report.claims.base import Claim, claims_of, untestable
from rmc_tf.report.claims.comparisons import WEB_NN, attacks, best, in_columns, worst

_SEARCHING = ("DeepNN", *WEB_NN)
_BASELINES = ("None", *_SEARCHING)
_RMC = ("RMC",)
_NONE = ("None",)

_above_baselines = in_columns(attacks, _RMC, _BASELINES)
_clean_stays = in_columns(["clean"], _RMC, _NONE, margin=0.05)

CLAIMS = (
    *claims_of(
        "table1",
        "section 4.1",
        {
            "RMC is significantly better than all other defences, on every trained network and "
            "under every attack (against the best of the others)": in_columns(
                attacks, _RMC, best(*_BASELINES)
            ),
            "Networks without a runtime defence have the worst robustness "
            "(the worst of the defences against None)": in_columns(
                attacks, worst(*_SEARCHING, "RMC"), _NONE
            ),
            "DeepNN and WebNN improve robustness": in_columns(
                attacks, _SEARCHING, _NONE, mean=True
            ),
            "DeepNN and WebNN are not on par with RMC (against the better of them)": in_columns(
                attacks, _RMC, best(*_SEARCHING), mean=True
            ),
            "RMC's clean accuracy is high in all cases "
            "(not more than 5 points below None's)": _clean_stays,
        },
    ),
    *claims_of(
        "table2",
        "section 4.1",
        {
            "Under targeted attacks RMC masks and cleanses strongly (it is more robust than None, "
            "DeepNN and WebNN)": _above_baselines
        },
    ),
    Claim(
        "RMC is as robust as the denoising block, if not more (not more than 5 points below)",
        "section 4.1",
        ("table2",),
        in_columns(lambda columns: columns[-1:], _RMC, ["DB"], margin=0.05),  # the larger radius
        without="DB is not trained here: `configs/denoising.py`",
    ),
    *claims_of(
        "table2",
        "section 4.1",
        {
            "RMC has significantly higher clean accuracy than the other defences "
            "of Table 2": in_columns(["clean"], _RMC, [*_SEARCHING, "Adv. Trained", "DB"]),
            "With a D' that is not of web scale WebNN does not perform well "
            "(its clean accuracy is below None's)": in_columns(["clean"], _NONE, WEB_NN),
            "RMC does not need a D' of web scale "
            "(its clean accuracy is not more than 5 points below None's)": _clean_stays,
        },
    ),
    untestable(
        "On ImageNet, non-targeted attacks show the same",
        "footnote 3",
        "table2",
        "the paper leaves the numbers to its supplementary file",
    ),
    *claims_of(
        "table3",
        "section 4.2",
        {
            "RMC still performs well under gray- and black-box attacks (it is more robust than "
            "None, DeepNN and WebNN)": _above_baselines
        },
    ),
)
