"""Installs rmc_tf with its configs; exact versions that are known to work: requirements.txt."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"', (HERE / "rmc_tf/__init__.py").read_text(encoding="utf-8")
)[1]

setup(
    name="rmc_tf",
    version=VERSION,
    description="Runtime Masking and Cleansing (ICML 2020) for TensorFlow and Keras",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)],
    packages=[*find_packages(include=["rmc_tf", "rmc_tf.*"]), "rmc_tf.configs"],
    package_dir={"rmc_tf.configs": "configs"},
    package_data={"rmc_tf": ["py.typed", "**/*.json", "**/*.css", "service/page/*"]},
    entry_points={"console_scripts": ["rmc_tf=rmc_tf.main:main"]},
    install_requires=[
        "tensorflow>=2.20,<2.21",  # scann 1.4.2 is built against it
        "scann>=1.4.2,<1.5",
        "keras>=3.10,<4",
        "cleverhans>=4,<5",
        "tensorflow-datasets>=4.9.9,<5",
        "requests>=2.31",  # TFDS downloads by it
        "importlib_resources>=6",  # TFDS needs it and doesn't say so
        "array_record>=0.8",
        "absl-py>=2.1",
        "ml_collections>=1.1,<2",
        "tensorboard>=2.20,<2.21",
        "scikit-learn>=1.5",
        "threadpoolctl>=3.1",
        "matplotlib>=3.9",
        "numpy>=2",
        "scipy>=1.14",
        "tqdm>=4.66",
        "pillow>=11",
    ],
    extras_require={
        "audit": ["adversarial-robustness-toolbox>=1.20,<2"],  # the black boxes of rmc_tf.threats
        "distributed": ["ray[data,serve]>=2.60,<3"],  # hardware.engine=ray, service.replicas
        "serve": ["fastapi>=0.115,<1", "uvicorn>=0.34,<1", "prometheus-client>=0.21,<1"],
        "test": [
            "pytest>=8",
            "adversarial-robustness-toolbox>=1.20,<2",  # our attacks are compared with theirs
            "foolbox>=3.3.4,<4",
            "ray[data,serve]>=2.60,<3",
            "psutil>=5.9",
            "jsonschema>=4",
            "selenium>=4.20,<5",  # the page in a real browser
            "fastapi>=0.115,<1",
            "uvicorn>=0.34,<1",
            "prometheus-client>=0.21,<1",
            "tritonclient[http]>=2.50,<3",  # our server is asked by their client
            "httpx>=0.27,<1",
        ],
    },
)
