"""The views of a study's file: one row per unit, with everything about it by name.

Programs of others read the views of the file; this one takes their queries as they are today, so that files
of older versions have all columns.
"""

import sqlite3

_OF_NOISE = "json_extract(settings.spec, '$.noise.{name}')"
_MIXED = "settings.noise IN ('mixed', 'mixed-direct')"

# What tells operators of one kind apart, beside ratio and repetitions; empty where a kind has no such thing
NOISE_CELLS = {
    "order": f"CASE WHEN {_MIXED} THEN {_OF_NOISE.format(name='order')} ELSE '' END",
    "sigma_mul": _OF_NOISE.format(name="sigma_mul"),
    "mean_mul": f"CASE WHEN settings.noise = 'multiplicative' OR {_MIXED} "
    f"THEN {_OF_NOISE.format(name='mean_mul')} END",
    "mean_add": f"CASE WHEN settings.noise = 'additive' OR {_MIXED} "
    f"THEN {_OF_NOISE.format(name='mean_add')} END",
    "distribution": f"CASE WHEN settings.noise = 'none' THEN '' "
    f"ELSE coalesce({_OF_NOISE.format(name='distribution')}, 'normal') END",
}
UNITS = {
    "results": "study CROSS JOIN units ON units.id = study.unit",
    "all_results": "units LEFT JOIN study ON study.unit = units.id",
}


def query(view: str, label: str = "") -> str:
    """The query of a view; `label` is an expression for the column of this name, "" leaves it out."""
    cells = dict(NOISE_CELLS) | ({"label": label} if label else {})
    noise = ",\n    ".join(f'{cell} AS "{name}"' for name, cell in cells.items())
    return f"""SELECT
    study.position, settings.dataset, settings.model, settings.batch_norm, settings.clamp_weights,
    settings.noise, settings.ratio, settings.repetitions,
    {noise},
    curves.phase, curves.site, curves.site_name, curves.sigma_train,
    units.sigma, units.repeat, units.correct, units.total, units.correct * 1.0 / units.total AS accuracy,
    signal.power AS signal_power, settings.seed, settings.epochs, settings.classes, curves.digest AS curve,
    lower(hex(units.key)) AS "key", lower(hex(units.clean_key)) AS clean_key, units.status,
    environments.backend, environments.machine, environments.versions, environments."commit", units.seconds,
    strftime('%Y-%m-%dT%H:%M:%SZ', units.finished, 'unixepoch') AS finished
FROM {UNITS[view]}
    CROSS JOIN curves ON curves.id = units.curve
    CROSS JOIN settings ON settings.id = curves.settings
    LEFT JOIN environments ON environments.id = units.environment
    LEFT JOIN signal ON signal.unit = units.id AND signal.site = curves.site"""


def renew(db: sqlite3.Connection) -> None:
    """Make the views of a file what they are today, if they are not; within the transaction of the caller."""
    known = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'").fetchall())
    for view in UNITS:
        wanted = f"CREATE VIEW {view} AS {query(view)}"
        if known.get(view) != wanted:
            db.execute(f"DROP VIEW IF EXISTS {view}")
            db.execute(wanted)
