"""What check_data says of videos beyond broken and doubled ones: too short, damaged, shorter than promised."""

from collections.abc import Iterator, Sequence

from data import Dataset
from data.check import Survey
from engine.check_data.findings import Finding, many, sample_names


def video_findings(datasets: Sequence[Dataset], surveys: Sequence[Survey]) -> Iterator[Finding]:
    """Of the facts that video_folder's `look` gives; nothing of other sets."""
    seen = [
        (sample_names(datasets, [(part, index)]), facts)
        for part, survey in enumerate(surveys) for index, facts in survey.facts.items()
    ]
    for text, said, is_so in (
        (
            "shorter than a clip, which goes on at the beginning",
            lambda facts: f"{facts.frames:,} frames, {100 * facts.clips:.0f} % of a clip",
            lambda facts: facts.clips < 1,
        ),
        (
            "damaged inside: some frames are not what they were, and nothing stops for it",
            lambda facts: f"{facts.damaged:,} frames", lambda facts: facts.damaged,
        ),
        (
            "with fewer frames than told of: cut off, joined with clocks that begin anew, or the header is wrong",
            lambda facts: f"{facts.frames:,} of {facts.promised:,} frames", lambda facts: facts.frames < facts.promised,
        ),
    ):
        if items := tuple(f"{name}: {said(facts)}" for name, facts in seen if is_so(facts)):
            yield Finding("note", f"{many(len(items), 'video')} {text}", items)
    if uneven := sum(not facts.is_even for _, facts in seen):
        yield Finding("note", f"{many(uneven, 'video')} whose frame rate changes: frames are taken by the clock")
