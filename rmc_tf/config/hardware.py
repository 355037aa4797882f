"""How the arithmetic is done: what pays on accelerators, and is off by default."""

import dataclasses
from typing import Literal

from rmc_tf.config.section import Section

Compile = Literal["auto", "whole", "steps", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardwareConfig(Section):
    """Settings that change the speed, and the last bits of what comes out; all are ours.

    The paper and the authors' code have none of them. docs/performance.md has what each costs or
    saves on two cores.
    """

    _where = "hardware"

    compile: Compile = "auto"
    """What XLA compiles. "whole": a fit, with all of its steps and epochs, as one program for each
    number of rows (with `rmc.batch_norm=training`: its steps), and the attacks on a static network
    but JSMA, whose shapes aren't known before. "steps": single steps of a fit, and the attacks.
    "none": nothing. "auto": whole where there is a GPU, on which starting operations costs more
    than their arithmetic; else none, for on CPUs XLA loses."""
    mixed_precision: bool = False
    """Whether the network computes in bfloat16, from its first weights up to the feature layer;
    weights, pixels, features and logits stay float32. Not float16: its small gradients vanish
    unless the loss is scaled, here also in the adaptation and in every attack."""
    devices: Literal["one", "all"] = "one"
    """"all": a training of the experiment's networks shares each batch between all GPUs (without
    any: all logical CPU devices), batch normalisation as over the whole batch. So do local
    adaptation and calibration, which pays where a batch is large, as ImageNet's 1,024 rows are;
    with small ones the devices wait for each other after each step."""

    d_prime: Literal["auto", "host", "device"] = "auto"
    """Where RMC has the pixels of D'. "host": on the disk, as maps. "device": all of them in the
    memory of the GPU, where to fetch a row is to gather it. "auto": that, where there is a GPU and
    they take at most 4 GiB. RMC⁺, which changes them, has them on the host."""
    gpu: int = -1
    """Which GPU computes, counted from 0 as TensorFlow does (by default the fastest first; with
    CUDA_DEVICE_ORDER=PCI_BUS_ID as nvidia-smi counts). -1: the first; no other is touched, unless
    `devices` is "all". Like the next it isn't in a fingerprint."""
    cache_dir: str = ""
    """Where programs that XLA has compiled are kept for the next start. Empty: below the user's
    folder for such files ($XDG_CACHE_HOME, or ~/.cache), and only where there is an NVIDIA GPU;
    "none": nowhere. A folder that is named here is used without a GPU, too. docs/gpu.md says when
    a program is found again."""

    threads_per_operation: int = 0
    """How many cores one operation may use. 0: all, which is TensorFlow's choice, and right for
    large networks. 1: for small images, where the threads wait for each other longer than they
    compute: a step of ResNet-8 on 32 digits takes 2.6 ms in the place of 6.8 on two cores, and
    attacks cut each batch in as many parts as there are cores. Like the number of cores it
    changes last bits, and isn't in a fingerprint."""

    engine: Literal["local", "ray"] = "local"
    """Who makes the shards of D' and of its features: this process, or workers of Ray Data, on one
    machine or several (docs/imagenet.md). What they make is the same; it isn't in a fingerprint."""
    ray_address: str = ""
    """Of the Ray cluster to join: "auto", the one that runs on this machine, or HOST:PORT. Empty:
    one is started on this machine for the run."""
    ray_workers: int = 0
    """How many workers share the cluster. 0: one a GPU; without any, one a machine."""

    def __post_init__(self) -> None:
        self._within("[0, ∞)", "threads_per_operation", "ray_workers")
        self._within("[-1, ∞)", "gpu")
        alone = self.gpu < 0 or self.devices == "one"
        self._require(alone, "gpu", "with devices=all every GPU computes; leave one of both out")
        self._from_home("cache_dir")
        for field in ("ray_address", "ray_workers"):
            unused = self.engine == "ray" or not getattr(self, field)
            self._require(unused, field, "add --config.hardware.engine=ray")

    def of_training(self) -> dict[str, object]:
        """Returns those that change a trained network."""
        return {"mixed_precision": self.mixed_precision, "devices": self.devices}
