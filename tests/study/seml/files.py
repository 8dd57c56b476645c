"""Experiment files of seml, made by hand, and what is counted of the studies that they become."""

from pathlib import Path

from wn.study import StudySpec, count, parse_study, planned_facts
from wn.study.seml.convert import Imported, import_seml

HEAD = """
seml: { executable: main.py, name: mine }
slurm: { sbatch_options: { begin: now } }
fixed:
  general: { num_epochs: 100 }
  optimizer: { optimizer_type: Adam, lr_scheduler: CosineAnnealingLR, lr: 1e-3 }
  data.dataset: MNIST
  model: { model_class: MLP, criterion: CrossEntropyLoss, MLP: { conf_name: RL_TFC-noBN } }
  noise_settings.default.noise_type: NoNoise
"""
SITES = """
  noise_settings.layer_wise:
    layer_index: { type: range, min: 0, max: 8, step: 1 }
    enable_in_training: { type: choice, options: [0, 1] }
"""
ADDITIVE = """
additive:
  fixed:
    noise_settings.layer_wise: { noise_type: GaussAdd, GaussMean: 0.0 }
  grid:
    noise_settings.layer_wise.GaussStd: { type: loguniform, min: 1e-2, max: 1e+8, num: 41 }
"""
REPEATS = """
grid:
  general.repeat_number: { type: range, min: 0, max: 5, step: 1 }
"""


def imported(file: Path, text: str) -> tuple[Imported, StudySpec]:
    file.write_text(text, encoding="utf-8")
    found = import_seml(file)
    return found, parse_study(found.toml)


def noisy(spec: StudySpec) -> int:
    return sum(c.inference + c.training for c in count(spec, planned_facts(spec)))


def clean(spec: StudySpec) -> int:
    return sum(c.clean for c in count(spec, planned_facts(spec)))


NOISE = "noise_settings.default"
STD = f"{NOISE}.GaussStd"


def grid(file: Path, definition: str, extra: str = "") -> tuple[Imported, StudySpec]:
    """A file with one σ axis of additive global noise, trained under."""
    text = HEAD.replace("noise_type: NoNoise", "noise_type: GaussAdd")
    return imported(file, f"{text}grid:\n  {STD}: {{ {definition} }}\n{extra}")
