"""The section about published figures: midpoints of the paper beside those of a study."""

import msgspec

from wn.study.report.found import Found
from wn.walking.places import INFERENCE
from wn.walking.report import published
from wn.walking.report.page import Section


def published_section(found: Found) -> Section | None:
    """Published midpoints against those of this study, where it has the networks they are of."""
    cases: dict[str, published.Reproduced] = {}
    for setting in found.settings:
        curve = setting.curve
        usual = not curve.clamp_weights and curve.repetitions == "1" and not found.words.options(curve)
        at = (curve.dataset, curve.model, curve.batch_norm, curve.noise, INFERENCE)
        if not usual or not published.is_published(*at):
            continue
        spec = msgspec.json.decode(curve.settings_spec)
        images = f"{spec.get('train_limit') or 'all'} / {spec.get('test_limit') or 'all'}"
        fits = {one.place: one.fit for one in setting.curves if one.phase == INFERENCE and one.levels > 1}
        empty = published.Reproduced(setting.network, curve.batch_norm, spec["epochs"], images, {})
        known = cases.get(setting.network, empty)
        cases[setting.network] = known._replace(midpoints={**known.midpoints, **fits})
    return published.section(list(cases.values()))
