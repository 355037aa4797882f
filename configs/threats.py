"""What breaks it: attacks that know the defence and simulate it, against RMC and its rivals.

  python -m rmc_tf.main --config=configs/threats.py
  python -m rmc_tf.main --config=configs/threats.py --config.evaluation.points=10

The attackers of Chen et al. 2022 (FPA, GMSA), PGD against the weights as they are
at each query (PGD-Skip with q = 0), and transfer from the static network. Each
is shown while attacking, and replayed on a fresh defender whose random choices
the attacker couldn't know. Other attacks may be stronger: no number here says
that a defence is safe, and each that is low says that it isn't.

PGD-NN, on outputs and on labels, is in Table 4. An audit of this config runs both, too, and the
joint attack (docs/threats.md).
"""

import dataclasses

from rmc_tf import config

from . import table1

ROWS = {
    "None": ("target", "none"),
    "A.T. (PGD)": ("at_pgd", "none"),
    "WebNN, label vote": ("target", "web_nn_vote"),
    "RMC": ("target", "rmc"),
    "RMC+": ("target", "rmc_plus"),
    "A.T. (PGD), RMC": ("at_pgd", "rmc"),
}
THREATS = {
    "transfer": "transfer",
    "pgd_skip": "PGD-Skip",
    "fpa": "FPA",
    "gmsa_avg": "GMSA-AVG",
    "gmsa_min": "GMSA-MIN",
}


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as the table of threats."""
    parent = table1.experiment(base)
    pgd = parent.attacks["pgd"]
    # Chen et al. 2022 take 40 steps of ε/8 and 10 rounds. Ours: 20 and 6, for two cores; what
    # GMSA-MIN costs grows with the cube of the rounds.
    patient = dataclasses.replace(pgd, iterations=20, step_size=pgd.epsilon / 8)
    simulating = {
        name: config.ThreatConfig(threat=name, attack="pgd_patient", rounds=6)
        for name in ("fpa", "gmsa_avg", "gmsa_min")
    }
    single = {
        name: config.ThreatConfig(threat=name, attack="pgd_patient")
        for name in ("transfer", "pgd_skip")
    }
    columns = [config.ColumnConfig(title="clean", stream="clean")]
    for name, title in THREATS.items():
        columns.append(config.ColumnConfig(title=title, stream=name))
    for name in simulating:
        title = f"{THREATS[name]}, replayed"
        columns.append(config.ColumnConfig(title=title, stream=name, replay=True))
    return dataclasses.replace(
        parent,
        rmc=base.rmc,  # primed: what is measured are the threats, and not the warm-up
        attacks={**parent.attacks, "pgd_patient": patient},
        networks={"at_pgd": parent.networks["at_pgd"]},
        threats={**single, **simulating},
        table=config.TableConfig(
            name="threats",
            title=f"Attacks that know the defence, on {parent.dataset.name}",
            rows=tuple(
                config.RowConfig(title=title, network=network, defence=defence, d_prime="given")
                for title, (network, defence) in ROWS.items()
            ),
            columns=tuple(columns),
        ),
    )


get_config = config.on_dataset(experiment)
